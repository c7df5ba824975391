"""The base class of all roots, from which a corpus reads files by relative path and never a file outside."""

from abc import ABC, abstractmethod
from typing import BinaryIO, ClassVar

from ecg_hf.errors import EcgAccessError


class MissingFileError(EcgAccessError):
    """The error for a file that does not exist, as opposed to one that must not or cannot be read."""


class CorpusRoot(ABC):
    """The place of a corpus' files; their paths are relative to it, with "/" as separator."""

    max_bytes: ClassVar[int] = 2**30  # bytes of a file read whole; keeps zip bombs and endless responses out of memory
    stamps_are_cheap: ClassVar[bool] = True  # whether all files of a corpus can be stamped quickly

    def read(self, path: str) -> bytes:
        """Reads a whole file.

        Args:
            path: Path of the file, relative to the root.

        Raises:
            MissingFileError: If there is no such file.
            EcgAccessError: If the path or the file is outside the root, or the file cannot be read, is larger than
                `max_bytes`, or is a web page saved under the name of a data file.
            EcgIntegrityError: If the file is damaged within its archive.
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

        Args:
            path: Path of the file, relative to the root.

        Raises:
            MissingFileError: If there is no such file.
            EcgAccessError: If the path or the file is outside the root, or the file cannot be read in parts.
        """
        return self._open(plain_path(path))

    def exists(self, path: str) -> bool:
        """Returns whether a file exists."""
        return self.stamp(path) is not None

    def stamp(self, path: str) -> str | None:
        """Returns a text that changes whenever the file changes, without reading the file; None if there is no file."""
        return self._stamp(plain_path(path))

    @abstractmethod
    def list(self, path: str = "") -> list[str]:
        """Lists the names of the files and folders in a folder, sorted; a server raises `EcgAccessError`."""

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
    """Returns whether the data begin like a web page."""
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(b"<") and (b"<html" in start or b"<!doctype html" in start)


def plain_path(path: str) -> str:
    """Returns a path unchanged after checking that it is relative and stays below the root.

    Raises:
        EcgAccessError: If the path is empty or absolute, has an empty part, ".", ".." or a backslash.
    """
    if {"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path or path[1:2] == ":":
        raise EcgAccessError(
            f"{path!r} is not a plain path below the root; the file that states it is damaged or malicious, replace it"
        )
    return path
