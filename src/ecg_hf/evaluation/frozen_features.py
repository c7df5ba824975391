"""What a frozen backbone gives for the tiles of a split: computed once, kept in a memory-mapped file."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ecg_hf.corpora.code_hash import code_hash
from ecg_hf.data.batches import tile_batches
from ecg_hf.data.split import Split
from ecg_hf.evaluation.feature_store import NAME_LENGTH, drop_unused, open_values, write_values
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

VERSION = 1  # of the order of the values
# fields of a classifier's config that do not decide what its backbone gives
_OTHER_FIELDS = (
    "_name_or_path",
    "architectures",
    "head",
    "head_num_heads",
    "id2label",
    "label2id",
    "problem_type",
    "transformers_version",
)

logger = logging.getLogger(__name__)


@dataclass
class FrozenFeatures:
    """What is cached of the records of a split.

    Args:
        values: What the head's `summarise` gives for each tile of the split's table, shape (num_tiles, ...).
        first: Where the tiles of each record begin, shape (R,).
        counts: How many tiles each record has, shape (R,).
    """

    values: NDArray[Any]
    first: NDArray[np.int64]
    counts: NDArray[np.int64]

    def take(self, tiles: NDArray[np.int64]) -> Tensor:
        """Reads some tiles, (B, ...), as 32-bit numbers."""
        return torch.from_numpy(self.values[tiles].astype(np.float32, copy=False))


def default_root() -> Path:
    """Names the folder for features if a run names none: one of the caches of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "ecg_hf_features"


def cache_features(
    model: EcgForSequenceClassification,
    split: Split,
    extractor: EcgFeatureExtractor,
    root: Path,
    dtype: str = "float32",
    batch_size: int = 64,
) -> FrozenFeatures:
    """Gives what a head can be trained on instead of signals: read back if a run has left it, computed else.

    The backbone runs once, in evaluation mode, over the disjoint tiles of all records of the split's table that are
    long enough, so that other tasks, shares, seeds and learning rates find them too. Values are streamed to a folder
    beside their own, which is renamed when all are there; processes that want the same wait for the first.

    Args:
        model: The classifier; its backbone is frozen.
        split: Some records.
        extractor: The input contract, with the length of a tile.
        root: The folder that holds a folder for each backbone, contract and split.
        dtype: "float32", or "float16" for half the space.
        batch_size: Tiles in a forward pass.

    Raises:
        ValueError: If the disk has no room.
        EcgIntegrityError: If a value is not finite.
    """
    model.freeze_backbone()
    num_samples = extractor.num_samples or 0
    whole = split.whole(num_samples)
    identity = identify(model, whole, extractor, dtype)
    folder = root / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:NAME_LENGTH]
    root.mkdir(parents=True, exist_ok=True)
    counts = np.zeros(len(whole.table), np.int64)
    counts[whole.places] = whole.lengths // num_samples
    with FileLock(root / f".{folder.name}.lock"):
        values = open_values(folder, identity)
        if values is None:
            drop_unused(root)
            batches = _encode(model, whole, num_samples, batch_size)
            write_values(folder, identity, int(counts.sum()), np.dtype(dtype), batches)
            values = open_values(folder, identity)
            assert values is not None
            megabytes = values.nbytes / 1e6
            logger.info("frozen features of %s %s: %.1f MB in %s", split.corpus, split.name, megabytes, folder)
    starts = np.cumsum(counts) - counts
    return FrozenFeatures(values, starts[split.places], counts[split.places])


def identify(
    model: EcgForSequenceClassification, split: Split, extractor: EcgFeatureExtractor, dtype: str
) -> dict[str, Any]:
    """Says everything that decides the features of a split; as JSON gives it back."""
    backbone = model.backbone
    config = {name: value for name, value in model.config.to_dict().items() if name not in _OTHER_FIELDS}
    modules = {base.__module__ for base in type(backbone).__mro__ if base.__module__.startswith("ecg_hf.backbones.")}
    identity = {
        "version": VERSION,
        "weights": _hash_weights(backbone),
        "config": config,
        "contract": extractor.to_dict(),
        "corpus": [split.corpus, split.name, split.fingerprint],
        # of the rows themselves: the files, the builder and the code that they were made with
        "rows": split.table._fingerprint,
        "code": code_hash([*sorted(modules), *(type(part).__module__ for part in (model.head, extractor, split))]),
        "readout": model.config.head,
        "dtype": dtype,
        "torch": torch.__version__,
        "device": find_device().type,
    }
    normal: dict[str, Any] = json.loads(json.dumps(identity, sort_keys=True))
    return normal


def _hash_weights(backbone: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def find_device() -> torch.device:
    """Gives the device that models are evaluated on here."""
    return (torch.accelerator.is_available() and torch.accelerator.current_accelerator()) or torch.device("cpu")


def _encode(
    model: EcgForSequenceClassification, split: Split, num_samples: int, batch_size: int
) -> Iterator[NDArray[Any]]:
    """Yields what the head's `summarise` gives for the tiles of all records, in their order."""
    backbone: Any = model.backbone
    home, device = backbone.device, find_device()
    backbone.to(device)
    num_tiles = int((split.lengths // num_samples).sum())
    with tqdm(total=num_tiles, desc=f"encoding {split.corpus} {split.name}", unit="tile") as bar:
        for batch in tile_batches([split], None, num_samples, batch_size):
            with torch.inference_mode():
                tokens = backbone(batch["signal"].to(device)).last_hidden_state
                features = model.head.summarise(tokens).float().cpu().numpy()
            yield features
            bar.update(len(features))
    backbone.to(home)
