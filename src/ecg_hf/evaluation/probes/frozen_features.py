"""Frozen features: the output of a frozen backbone for the tiles of a split, computed once and mapped from a file."""

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

from ecg_hf.corpora.code_hash import code_hash
from ecg_hf.data.batches import tile_batches
from ecg_hf.data.split import Split
from ecg_hf.evaluation.probes.feature_store import NAME_LENGTH, drop_unused, open_values, write_values
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.output.console import Progress
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

VERSION = 1  # version of the order of the values
# Fields of a classifier's config that do not affect the output of its backbone.
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
    """The cached features of the records of a split.

    Args:
        values: Output of the head's `summarise` for each tile of the split's table, shape (num_tiles, ...).
        first: Index of the first tile of each record, shape (R,).
        counts: Number of tiles of each record, shape (R,).
    """

    values: NDArray[Any]
    first: NDArray[np.int64]
    counts: NDArray[np.int64]

    def take(self, tiles: NDArray[np.int64]) -> Tensor:
        """Reads the features of some tiles, shape (B, ...), as 32-bit numbers."""
        return torch.from_numpy(self.values[tiles].astype(np.float32, copy=False))


def default_root() -> Path:
    """Returns the default folder of the features, which lies in the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "ecg_hf_features"


def cache_features(
    model: EcgForSequenceClassification,
    split: Split,
    extractor: EcgFeatureExtractor,
    root: Path,
    dtype: str = "float32",
    batch_size: int = 64,
) -> FrozenFeatures:
    """Loads the features of a split, on which a head is trained instead of signals; computes them if they are missing.

    The backbone runs once, in evaluation mode, over the disjoint tiles of all records of the split's table that are
    long enough, so that runs with other tasks, fractions, seeds and learning rates find their features too. The values
    are streamed to a temporary folder, which is renamed when it is complete; other processes that need the same
    features wait for the first one.

    Args:
        model: Classifier, whose backbone is frozen here.
        split: Records of the split.
        extractor: Feature extractor of the model, with the length of a tile.
        root: Folder that holds one folder for each backbone, feature extractor and split.
        dtype: Type of the stored numbers: "float32", or "float16" for half the space.
        batch_size: Number of tiles in a forward pass.

    Returns:
        The features of the records.

    Raises:
        ValueError: If the disk does not have enough space.
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
    """Collects everything that determines the features of a split, with types that JSON preserves."""
    backbone = model.backbone
    config = {name: value for name, value in model.config.to_dict().items() if name not in _OTHER_FIELDS}
    modules = {
        base.__module__ for base in type(backbone).__mro__ if base.__module__.startswith("ecg_hf.models.backbones.")
    }
    identity = {
        "version": VERSION,
        "weights": _hash_weights(backbone),
        "config": config,
        "contract": extractor.to_dict(),
        "corpus": [split.corpus, split.name, split.fingerprint],
        # Fingerprint of the rows, which covers the files, the builder and the code that made them.
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
    """Returns the device on which models are evaluated: the accelerator if there is one, else the CPU."""
    return (torch.accelerator.is_available() and torch.accelerator.current_accelerator()) or torch.device("cpu")


def _encode(
    model: EcgForSequenceClassification, split: Split, num_samples: int, batch_size: int
) -> Iterator[NDArray[Any]]:
    """Yields the output of the head's `summarise` for the tiles of all records, batch by batch and in their order."""
    backbone: Any = model.backbone
    home, device = backbone.device, find_device()
    backbone.to(device)
    num_tiles = int((split.lengths // num_samples).sum())
    with Progress(f"encoding {split.corpus} {split.name}", num_tiles, "tile", keep=False) as bar:
        for batch in tile_batches([split], None, num_samples, batch_size):
            with torch.inference_mode():
                tokens = backbone(batch["signal"].to(device)).last_hidden_state
                features = model.head.summarise(tokens).float().cpu().numpy()
            yield features
            bar.update(len(features))
    backbone.to(home)
