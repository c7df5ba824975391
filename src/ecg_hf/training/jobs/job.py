"""The job, a piece of work that any process can run, with the files in which it reports its state."""

import json
import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ecg_hf.errors import EcgProcessError

LOCK_S = 120.0  # seconds that a job waits for another process to release its lock
TAIL_BYTES = 4096  # bytes at the end of a file that hold its last line


class RunningElsewhereError(EcgProcessError):
    """An error about a job that another process works on."""


@dataclass(frozen=True)
class Job(ABC):
    """A piece of work that can be interrupted anywhere and continued later.

    Args:
        name: Name of the job, unique in its folder.
        root: Folder that the jobs of one sweep or build share.
    """

    name: str
    root: Path

    @abstractmethod
    def do(self) -> None:
        """Does the unfinished part of the job."""

    @abstractmethod
    def done(self) -> bool:
        """Returns whether the job is finished."""

    @property
    def cost(self) -> float:
        """Estimated cost of the whole job, in a unit that all jobs of the folder share."""
        return 1.0

    def progress(self) -> dict[str, Any]:
        """Returns the progress of the job, if known: "step", the number of steps as "of", and the last "loss"."""
        return {}

    @property
    def log(self) -> Path:
        """Path of the log, with the output of the job."""
        return self.root / "logs" / f"{self.name}.log"

    @property
    def error(self) -> Path:
        """Path of the file with the reason of a failure; the file exists only if the job failed."""
        return self.root / "logs" / f"{self.name}.error"

    @property
    def lock(self) -> Path:
        """Path of the lock, which the process that works on the job holds."""
        return self.root / "logs" / f"{self.name}.lock"

    @property
    def elsewhere(self) -> str:
        """Error message if another process works on the job."""
        return f"{self.name} is still running elsewhere, in the process that holds {self.lock}; wait for it, or end it"

    def run(self) -> None:
        """Runs the job in this process, which must do nothing else: its standard output and error become the log.

        Raises:
            RunningElsewhereError: If another process does not release the lock in time; its log and its error file
                stay as they are.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock, timeout=LOCK_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunningElsewhereError(self.elsewhere) from error
        try:
            self._run_alone()
        finally:
            lock.release()

    def _run_alone(self) -> None:
        self.error.unlink(missing_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            for number in (1, 2):
                os.dup2(log.fileno(), number)
        try:
            self.do()
        except Exception as error:
            self.error.write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")
            raise


def last_row(path: Path) -> dict[str, Any]:
    """Reads the last complete line of a JSON Lines file, without reading the whole file.

    Args:
        path: Path of the file.

    Returns:
        The line's object; empty if the file does not exist or has no complete line.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        row: dict[str, Any] = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):
        return {}
    return row


def drop_folder(folder: Path) -> None:
    """Deletes a folder if it exists."""
    shutil.rmtree(folder, ignore_errors=True)
