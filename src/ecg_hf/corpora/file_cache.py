"""A cache of open files, so that a large file is opened once per process instead of once per record."""

import os
from collections.abc import Callable
from typing import BinaryIO, Generic, Protocol, TypeVar

from ecg_hf.corpora.roots.base import CorpusRoot


class _Closable(Protocol):
    def close(self) -> None: ...


File = TypeVar("File", bound=_Closable)


class OpenFiles(Generic[File]):
    """A cache of readers of files that hold many records each.

    Every process opens its own files, since processes must not share a file position; pickling drops the open files.

    Args:
        make: Function that builds a reader from an open file and the file's name.
        limit: Number of files that stay open; to open another one, the file that was opened first is closed.
    """

    def __init__(self, make: Callable[[BinaryIO, str], File], limit: int = 32) -> None:
        self.make, self.limit = make, limit
        self._process = 0
        self._files: dict[tuple[str, str], File] = {}

    def get(self, root: CorpusRoot, path: str) -> File:
        """Returns the reader of a file, which is opened on first use."""
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
