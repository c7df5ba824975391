"""The root of a corpus that is computed and has no files."""

from typing import BinaryIO

from ecg_hf.corpora.roots.base import CorpusRoot


class EmptyRoot(CorpusRoot):
    """A root without any file.

    Args:
        name: Name of the corpus, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def list(self, path: str = "") -> list[str]:
        """Returns an empty list."""
        return []

    def _read(self, path: str) -> bytes:
        raise self._missing(path)

    def _open(self, path: str) -> BinaryIO:
        raise self._missing(path)

    def _stamp(self, path: str) -> str | None:
        return None
