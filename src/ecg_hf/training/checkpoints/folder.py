"""Checkpoint folders: written aside, hashed, then renamed; a run resumes from the newest one that verifies."""

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
    """Hashes every file of a folder into a manifest, waits for the disk, and renames the folder.

    Args:
        partial: Folder with all files of the checkpoint.
        target: New path of the folder; a folder that already exists there is deleted.

    Returns:
        The new path.
    """
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
    """Checks the files of a checkpoint against its manifest.

    Raises:
        EcgCheckpointError: If the manifest is missing, or a file is missing or has changed.
    """
    if not (folder / MANIFEST).is_file():
        raise EcgCheckpointError(f"{folder} has no {MANIFEST}, so it is incomplete; resume from another checkpoint")
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
    """Lists the checkpoints `step-<n>` in the folder `root`, the newest first."""
    found = [path for path in root.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def newest_checkpoint(root: Path) -> Path | None:
    """Finds the newest checkpoint in the folder `root` that verifies; a warning names each newer one that does not."""
    for path in checkpoints_of(root):
        try:
            verify(path)
        except EcgCheckpointError as error:
            logger.warning("checkpoint not used: %s", error)
        else:
            return path
    return None


def prune_checkpoints(root: Path, newest: Path, num_kept: int) -> None:
    """Deletes all but the newest checkpoints.

    Args:
        root: Folder of the checkpoints.
        newest: Checkpoint just written; checkpoints of later steps, which the run did not resume from, are deleted.
        num_kept: Number of checkpoints to keep, `newest` included.
    """
    found = checkpoints_of(root)
    place = found.index(newest)
    for path in [*found[:place], *found[place + num_kept :]]:
        shutil.rmtree(path)


def remove_partial(root: Path) -> None:
    """Deletes unfinished checkpoints, left by killed processes, in the folder `root`."""
    for path in root.glob(".step-*.partial"):
        shutil.rmtree(path)


class BestWeights:
    """The best weights of a run so far, in folders `best-<step>`.

    Args:
        root: Folder of the run.
    """

    def __init__(self, root: Path):
        self.root = root

    def folder(self, step: int) -> Path:
        """Returns the path of the folder of a step."""
        return self.root / f"best-{step:08d}"

    def save(self, step: int, pair: Pair, weights: dict[str, Tensor]) -> None:
        """Writes weights as a model folder.

        Args:
            step: Step that led to the weights.
            pair: Pair that the weights belong to.
            weights: State dict of the pair, without shards.

        Raises:
            EcgCheckpointError: If the folder cannot be written.
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
        """Deletes the folders of all steps but the given ones; None stands for no step."""
        kept = {self.folder(step) for step in steps if step is not None}
        for path in [*self.root.glob("best-*"), *self.root.glob(".best-*.partial")]:
            if path not in kept:
                shutil.rmtree(path)
