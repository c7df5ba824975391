"""What a frozen backbone gives for the tiles of a split: computed once, kept in a memory-mapped file."""

import hashlib
import json
import logging
import os
import shutil
import time
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

from ecg_hf.checkpoints import partial_folder
from ecg_hf.classification import EcgForSequenceClassification
from ecg_hf.corpus import code_hash
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.features import EcgFeatureExtractor
from ecg_hf.files import read_json, write_json
from ecg_hf.loader import tile_batches
from ecg_hf.split import Split

VALUES, ABOUT = "features.npy", "features.json"
VERSION = 1  # of the order of the values
UNUSED_DAYS = 30  # features that no run has opened for so long are deleted when others are computed
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
    folder = root / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    root.mkdir(parents=True, exist_ok=True)
    counts = np.zeros(len(whole.table), np.int64)
    counts[whole.places] = whole.lengths // num_samples
    with FileLock(root / f".{folder.name}.lock"):
        values = _open(folder, identity)
        if values is None:
            _drop_unused(root)
            batches = _encode(model, whole, num_samples, batch_size)
            _write(folder, identity, int(counts.sum()), np.dtype(dtype), batches)
            values = _open(folder, identity)
            assert values is not None
            logger.info(
                "frozen features of %s %s: %.1f MB in %s", split.corpus, split.name, values.nbytes / 1e6, folder
            )
        os.utime(folder / ABOUT)
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
                yield model.head.summarise(tokens).float().cpu().numpy()
            bar.update(len(tokens))
    backbone.to(home)


def _write(
    folder: Path, identity: dict[str, Any], num_tiles: int, dtype: np.dtype[Any], batches: Iterator[NDArray[Any]]
) -> None:
    partial, written = partial_folder(folder), 0
    try:
        with (partial / VALUES).open("wb") as file:
            for batch in batches:
                if not written:
                    shape = (num_tiles, *batch.shape[1:])
                    _require_space(partial, num_tiles * batch[0].size * dtype.itemsize)
                    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, about)
                written += len(batch)
                file.write(_stored(batch, dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())
        assert written == num_tiles
        write_json(partial / ABOUT, {"identity": identity, "num_bytes": (partial / VALUES).stat().st_size})
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _require_space(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"the frozen features take {num_bytes / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB; set "
            "feature_cache to a folder on a larger disk, frozen_features to float16, which takes half, or to none"
        )


def _stored(batch: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        stored: NDArray[Any] = batch.astype(dtype)
    if not np.isfinite(stored).all():
        raise EcgIntegrityError(
            f"expected finite features, got some that {dtype} does not hold; verify the weights and the corpus"
            + ("" if dtype == np.float32 else ", or set frozen_features to float32")
        )
    return stored


def _open(folder: Path, identity: dict[str, Any]) -> NDArray[Any] | None:
    """Maps features into memory; None if there are none, or not these, or not whole, which is warned of."""
    if not folder.exists():
        return None
    try:
        about, size = read_json(folder / ABOUT), (folder / VALUES).stat().st_size
        if not isinstance(about, dict) or about.get("identity") != identity or about.get("num_bytes") != size:
            raise ValueError(f"{ABOUT} is of other features, or {VALUES} has not its size, {size} bytes")
        return np.asarray(np.load(folder / VALUES, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        logger.warning("the frozen features in %s are computed again: %s", folder, error)
        return None


def _drop_unused(root: Path) -> None:
    for about in root.glob(f"*/{ABOUT}"):
        days = (time.time() - about.stat().st_mtime) / 86_400
        if days > UNUSED_DAYS and len(about.parent.name) == 32:
            logger.info("deleting frozen features that were last used %d days ago: %s", days, about.parent)
            shutil.rmtree(about.parent, ignore_errors=True)
