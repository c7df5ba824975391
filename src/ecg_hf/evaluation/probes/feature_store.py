"""Files of frozen features: writes them so that none is left incomplete, maps them into memory, deletes unused ones."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.output.files import partial_folder, read_json, write_json

VALUES, ABOUT = "features.npy", "features.json"
UNUSED_DAYS = 30
NAME_LENGTH = 32  # characters of a folder's name; folders with names of another length are never deleted

logger = logging.getLogger(__name__)


def write_values(
    folder: Path, identity: dict[str, Any], num_tiles: int, dtype: np.dtype[Any], batches: Iterator[NDArray[Any]]
) -> None:
    """Streams values to a folder, which appears only when all of them are written.

    Args:
        folder: Folder of the values; an existing one is replaced.
        identity: Everything that determines the values, with types that JSON preserves.
        num_tiles: Number of values along the first axis.
        dtype: Type of the stored numbers.
        batches: Batches of values in order, each of shape (B, ...).

    Raises:
        ValueError: If the disk does not have enough space.
        EcgIntegrityError: If a value is not finite when it is stored.
    """
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
            "feature_cache to a folder on a larger disk, or frozen_features to float16, which takes half, or to none"
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


def open_values(folder: Path, identity: dict[str, Any]) -> NDArray[Any] | None:
    """Maps the values in a folder into memory.

    Args:
        folder: Folder of the values.
        identity: Everything that determines the values; see `write_values`.

    Returns:
        The values; None if the folder does not exist, or, with a warning, if it holds other or incomplete values.
    """
    if not folder.exists():
        return None
    try:
        about, size = read_json(folder / ABOUT), (folder / VALUES).stat().st_size
        if not isinstance(about, dict) or about.get("identity") != identity or about.get("num_bytes") != size:
            raise ValueError(f"{ABOUT} describes other features, or {VALUES}, of {size} bytes, is incomplete")
        os.utime(folder / ABOUT)  # marks the features as used today, see `drop_unused`
        return np.asarray(np.load(folder / VALUES, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        logger.warning("the frozen features in %s are computed again: %s", folder, error)
        return None


def drop_unused(root: Path) -> None:
    """Deletes the folders of features below `root` that no run has opened for `UNUSED_DAYS`."""
    for about in root.glob(f"*/{ABOUT}"):
        days = (time.time() - about.stat().st_mtime) / 86_400
        if days > UNUSED_DAYS and len(about.parent.name) == NAME_LENGTH:
            logger.info("deleting frozen features that were last used %d days ago: %s", days, about.parent)
            shutil.rmtree(about.parent, ignore_errors=True)
