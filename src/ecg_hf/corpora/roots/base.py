"""What every place of a corpus can do: give its files by relative path, and never one outside."""

from abc import ABC, abstractmethod
from typing import BinaryIO, ClassVar

from ecg_hf.errors import EcgAccessError


class MissingFileError(EcgAccessError):
    """A file that is not there, as opposed to one that must not or cannot be read."""


class CorpusRoot(ABC):
    """The one place that a corpus reads from; paths are relative to it, with "/" between their parts."""

    max_bytes: ClassVar[int] = 2**30  # of one file read whole; keeps a zip bomb or an endless answer out of memory
    stamps_are_cheap: ClassVar[bool] = True  # whether all files of a corpus can be stamped in passing

    def read(self, path: str) -> bytes:
        """Reads a whole file.

        Raises:
            MissingFileError: If there is no such file.
            EcgAccessError: If the path or the file leaves the root, cannot be read, is larger than `max_bytes`, or
                is a web page saved under the name of a data file.
            EcgIntegrityError: If the archive that holds it is damaged there.
        """
        data = self._read(plain_path(path))
        if len(data) > self.max_bytes:
            raise self._too_large(path, len(data))
        if is_html(data) and not path.lower().endswith((".html", ".htm")):
            raise EcgAccessError(
                f"{self}/{path} should hold data but is a web page (an error or a login page saved under its name); "
                "delete it and download it again, logged in where the corpus asks for it"
            )
        return data

    def open(self, path: str) -> BinaryIO:
        """Opens a file of any size to read parts of it; the caller closes it.

        Raises:
            MissingFileError: If there is no such file.
            EcgAccessError: If the path or the file leaves the root or cannot be read in parts.
        """
        return self._open(plain_path(path))

    def exists(self, path: str) -> bool:
        """Says whether there is such a file."""
        return self.stamp(path) is not None

    def stamp(self, path: str) -> str | None:
        """Gives a text that changes whenever the file changes, without reading it; None if there is no such file."""
        return self._stamp(plain_path(path))

    @abstractmethod
    def list(self, path: str = "") -> list[str]:
        """Names what lies directly in a folder, sorted; a server cannot tell and raises EcgAccessError."""

    @abstractmethod
    def _read(self, path: str) -> bytes: ...

    @abstractmethod
    def _open(self, path: str) -> BinaryIO: ...

    @abstractmethod
    def _stamp(self, path: str) -> str | None: ...

    def _missing(self, path: str) -> MissingFileError:
        return MissingFileError(f"{self}/{path} is missing; complete the download, or pass allow_missing=True")

    def _too_large(self, path: str, size: int) -> EcgAccessError:
        return EcgAccessError(f"{self}/{path} has {size} bytes, expected at most {self.max_bytes}; check the download")


def is_html(data: bytes) -> bool:
    """Says whether bytes begin like a web page."""
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(b"<") and (b"<html" in start or b"<!doctype html" in start)


def plain_path(path: str) -> str:
    """Gives a path back if it is a plain one below the root.

    Raises:
        EcgAccessError: If it is empty, absolute, or leads up or out.
    """
    if {"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path or path[1:2] == ":":
        raise EcgAccessError(
            f"{path!r} is no plain path below the root; what names it is damaged or hostile, replace it"
        )
    return path
