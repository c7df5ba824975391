"""The writer of checkpoints, which works in a thread while training continues."""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.output.files import partial_folder, write_json
from ecg_hf.training.checkpoints.folder import newest_checkpoint, prune_checkpoints, seal
from ecg_hf.training.checkpoints.snapshot import Files


class CheckpointWriter:
    """A writer of checkpoints, one at a time, in a thread; leaving its context waits for the last checkpoint.

    Args:
        root: Folder of the checkpoints, `step-<n>` each.
        num_kept: Number of checkpoints to keep.
    """

    def __init__(self, root: Path, num_kept: int):
        self.root, self.num_kept = root, num_kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except EcgCheckpointError as failure:
            if error is None or isinstance(error, SystemExit):
                raise
            error.add_note(f"and the last checkpoint failed: {failure}")
        finally:
            self._thread.shutdown()

    def submit(self, step: int, files: Files, state: dict[str, Any]) -> None:
        """Starts to write a checkpoint; call `wait` before the tensors change.

        Args:
            step: Step of the checkpoint.
            files: Tensors by file and by name in the file.
            state: Content of state.json.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, self.root / f"step-{step:08d}", files, state)

    def wait(self) -> None:
        """Waits until the submitted checkpoint is on the disk.

        Raises:
            EcgCheckpointError: If the checkpoint could not be written; earlier checkpoints are unchanged.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, target: Path, files: Files, state: dict[str, Any]) -> None:
        try:
            partial = partial_folder(target)
            for name, tensors in files.items():
                save_file(tensors, partial / name, metadata={"format": "pt"})
            write_json(partial / "state.json", state)
            seal(partial, target)
        except (OSError, ValueError, SafetensorError) as error:
            shutil.rmtree(target.with_name(f".{target.name}.partial"), ignore_errors=True)
            last = newest_checkpoint(self.root)
            raise EcgCheckpointError(
                f"checkpoint {target} could not be written ({error}); the newest complete one is {last}: free some "
                "space or choose another disk, and resume"
            ) from error
        prune_checkpoints(self.root, target, self.num_kept)
