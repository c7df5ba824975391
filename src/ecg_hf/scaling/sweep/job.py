"""A piece of a sweep's work: where it leaves what, and what its folder says of it, whoever does it."""

import json
import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ecg_hf.errors import EcgProcessError

LOCK_S = 120.0  # for which a job waits for another process that still works on it
TAIL_BYTES = 4096


class RunningElsewhereError(EcgProcessError):
    """A job that another process works on."""


@dataclass(frozen=True)
class Job(ABC):
    """A piece of work that can be begun again wherever it was left.

    Args:
        name: Unlike that of any other job of the sweep.
        root: Folder of the sweep.
    """

    name: str
    root: Path

    @abstractmethod
    def do(self) -> None:
        """Does what is left of it."""

    @abstractmethod
    def done(self) -> bool:
        """Says whether nothing is left."""

    @property
    def cost(self) -> float:
        """Of all of it, in any unit that is common to the jobs of a sweep."""
        return 1.0

    def progress(self) -> dict[str, Any]:
        """Says how far it is: "step", "of" and its last losses, as far as there are any."""
        return {}

    @property
    def log(self) -> Path:
        """What it says while it runs."""
        return self.root / "logs" / f"{self.name}.log"

    @property
    def error(self) -> Path:
        """Why it failed, if it did."""
        return self.root / "logs" / f"{self.name}.error"

    @property
    def lock(self) -> Path:
        """Held by the process that works on it."""
        return self.root / "logs" / f"{self.name}.lock"

    @property
    def elsewhere(self) -> str:
        """What is to be said if another process works on it."""
        return f"{self.name} is still running elsewhere, in the process that holds {self.lock}; wait for it, or end it"

    def run(self) -> None:
        """Does it, with its log as standard output and error, alone and in a process of its own.

        Raises:
            RunningElsewhereError: If another process does not let go of it, whose log and error are left alone.
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
    """Reads the last whole line of a file of JSON lines, without reading all of it; empty if there is none."""
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
    """Deletes a folder, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
