"""Checkpoints: written aside, hashed, renamed; the newest one whose manifest verifies is the one to resume from."""

import logging
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.pairs import Pair
from ecg_hf.output.files import partial_folder, read_json, sha256_of, write_json

MANIFEST = "manifest.json"
logger = logging.getLogger(__name__)


def seal(partial: Path, target: Path) -> Path:
    """Hashes every file of `partial` into its manifest, waits for the disk, and renames it to `target`."""
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    manifest = {"files": {str(path.relative_to(partial)): sha256_of(path) for path in files}}
    write_json(partial / MANIFEST, manifest)
    for path in files:
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    _sync(target.parent)
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(folder: Path) -> None:
    """Checks a folder against its manifest.

    Raises:
        EcgCheckpointError: If the manifest is missing, or a file is missing or has changed.
    """
    if not (folder / MANIFEST).is_file():
        raise EcgCheckpointError(f"{folder} has no {MANIFEST}: it was not written to its end; resume from another one")
    try:
        files = dict(read_json(folder / MANIFEST)["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EcgCheckpointError(f"{folder / MANIFEST} is damaged ({error}); resume from another checkpoint") from None
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise EcgCheckpointError(f"{folder} lacks {name}, which its manifest lists; resume from another checkpoint")
        found = sha256_of(path)
        if found != expected:
            raise EcgCheckpointError(
                f"{path} has SHA-256 {found}, its manifest says {expected}; resume from another checkpoint"
            )


def checkpoints_of(root: Path) -> list[Path]:
    """Lists the checkpoints below `root`, `step-<n>` each, the newest first."""
    found = [path for path in root.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def newest_checkpoint(root: Path) -> Path | None:
    """Finds the newest checkpoint below `root` that verifies; those that do not are named in a warning."""
    for path in checkpoints_of(root):
        try:
            verify(path)
        except EcgCheckpointError as error:
            logger.warning("checkpoint not used: %s", error)
        else:
            return path
    return None


def prune_checkpoints(root: Path, newest: Path, num_kept: int) -> None:
    """Deletes checkpoints below `root`.

    Args:
        root: Folder of the checkpoints.
        newest: The one just written. Those with higher numbers were not good enough to go on from, and are deleted.
        num_kept: How many stay, `newest` among them.
    """
    found = checkpoints_of(root)
    place = found.index(newest)
    for path in [*found[:place], *found[place + num_kept :]]:
        shutil.rmtree(path)


def remove_partial(root: Path) -> None:
    """Deletes what killed processes left half written below `root`."""
    for path in root.glob(".step-*.partial"):
        shutil.rmtree(path)


class BestWeights:
    """Folders `best-<step>` of a run.

    Args:
        root: The run's folder.
    """

    def __init__(self, root: Path):
        self.root = root

    def folder(self, step: int) -> Path:
        """Names the folder of a step."""
        return self.root / f"best-{step:08d}"

    def save(self, step: int, pair: Pair, weights: dict[str, Tensor]) -> None:
        """Writes weights as a model folder.

        Args:
            step: After which they were reached.
            pair: Whose they are.
            weights: Its state dict, whole.

        Raises:
            EcgCheckpointError: If they cannot be written.
        """
        try:
            partial = partial_folder(self.folder(step))
            pair.save_pretrained(partial, state_dict=weights)
            seal(partial, self.folder(step))
        except (OSError, SafetensorError) as error:
            raise EcgCheckpointError(
                f"the best weights could not be written to {self.folder(step)} ({error}); free some space, and resume"
            ) from error

    def keep(self, *steps: int | None) -> None:
        """Deletes those of all other steps."""
        kept = {self.folder(step) for step in steps if step is not None}
        for path in [*self.root.glob("best-*"), *self.root.glob(".best-*.partial")]:
            if path not in kept:
                shutil.rmtree(path)
