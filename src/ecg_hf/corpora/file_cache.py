"""Large files that stay open from record to record, in each process its own."""

import os
from collections.abc import Callable
from typing import BinaryIO, Generic, Protocol, TypeVar

from ecg_hf.corpora.roots.base import CorpusRoot


class _Closable(Protocol):
    def close(self) -> None: ...


File = TypeVar("File", bound=_Closable)


class OpenFiles(Generic[File]):
    """The files of a corpus that hold many records each, opened once.

    Processes do not share them, since they must not share a file position, and pickling leaves them behind.

    Args:
        make: Makes of an open file and its name what reads it.
        limit: How many stay open; if there are more, the one opened first is closed.
    """

    def __init__(self, make: Callable[[BinaryIO, str], File], limit: int = 32) -> None:
        self.make, self.limit = make, limit
        self._process = 0
        self._files: dict[tuple[str, str], File] = {}

    def get(self, root: CorpusRoot, path: str) -> File:
        """Gives the reader of a file, which it opens the first time."""
        if self._process != os.getpid():
            self._files, self._process = {}, os.getpid()
        key = str(root), path
        if key not in self._files:
            if len(self._files) >= self.limit:
                self._files.pop(next(iter(self._files))).close()
            self._files[key] = self.make(root.open(path), f"{root}/{path}")
        return self._files[key]

    def __reduce__(self) -> tuple[type["OpenFiles[File]"], tuple[Callable[[BinaryIO, str], File], int]]:
        return type(self), (self.make, self.limit)
