"""Resumption of a fine-tuning run: finds the newest of the Trainer's checkpoints that was completely written."""

import logging
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.output.files import read_json

STATE = "trainer_state.json"

logger = logging.getLogger(__name__)


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """Finds the newest complete checkpoint in a folder and warns of newer ones that are incomplete.

    Trainer writes a checkpoint file by file, so a run that is killed can leave an incomplete one.

    Args:
        folder: Trainer's `output_dir`, with folders `checkpoint-<step>`.

    Returns:
        The folder of the checkpoint; None if there is no complete one.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=_step, reverse=True):
        try:
            require_whole(path)
        except EcgCheckpointError as error:
            logger.warning("checkpoint not used: %s", error)
        else:
            return path
    return None


def _step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def require_whole(folder: Path) -> None:
    """Checks that a checkpoint of Trainer, and the checkpoint with its best weights, are complete.

    Raises:
        EcgCheckpointError: If a file is missing, cut off or of another step.
    """
    try:
        state = read_json(folder / STATE)
        if state["global_step"] != _step(folder):
            raise ValueError(f"{STATE} is of step {state['global_step']}")
        for pattern in ("optimizer.pt", "scheduler.pt", "rng_state*.pth"):
            _require_archives(folder, pattern)
        _require_weights(folder)
        best = state["best_model_checkpoint"]
        if best is not None:
            _require_weights(Path(best))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile) as error:
        raise EcgCheckpointError(f"{folder} was not written to its end ({error}); resume from another one") from error


def _require_archives(folder: Path, pattern: str) -> None:
    for path in _files(folder, pattern):
        with zipfile.ZipFile(path) as archive:  # fails for a cut file, as the list of contents is at the end
            archive.infolist()


def _require_weights(folder: Path) -> None:
    for path in _files(folder, "*.safetensors"):
        with safe_open(path, "np") as file:  # compares the size with the header
            file.keys()


def _files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(f"{folder} has no {pattern}")
    return files
