"""The root of a corpus in a local folder."""

import stat
from pathlib import Path
from typing import BinaryIO

from ecg_hf.corpora.roots.base import CorpusRoot, plain_path
from ecg_hf.errors import EcgAccessError


class FolderRoot(CorpusRoot):
    """A local folder, out of which no path and no link may lead.

    Args:
        folder: Path of the corpus' own folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def __str__(self) -> str:
        return str(self.folder)

    def _real(self, path: str) -> Path:
        try:
            real = (self.folder / path).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(path) from None
        except (OSError, RuntimeError) as error:
            raise EcgAccessError(f"{self}/{path} cannot be found ({error}); check its name and its links") from None
        if not real.is_relative_to(self.folder):
            raise EcgAccessError(f"{path!r} is a link out of {self}; copy the file into the folder instead")
        return real

    def _read(self, path: str) -> bytes:
        real = self._real(path)
        try:
            status = real.stat()
            if not stat.S_ISREG(status.st_mode):
                raise EcgAccessError(f"{self}/{path} is not a regular file; put the corpus' own file in its place")
            if status.st_size > self.max_bytes:
                raise self._too_large(path, status.st_size)
            return real.read_bytes()
        except OSError as error:
            raise EcgAccessError(f"{self}/{path} cannot be read ({error.strerror}); check its permissions") from None

    def _open(self, path: str) -> BinaryIO:
        real = self._real(path)
        try:
            if not stat.S_ISREG(real.stat().st_mode):
                raise EcgAccessError(f"{self}/{path} is not a regular file; put the corpus' own file in its place")
            return real.open("rb")
        except OSError as error:
            raise EcgAccessError(f"{self}/{path} cannot be read ({error.strerror}); check its permissions") from None

    def _stamp(self, path: str) -> str | None:
        try:
            status = (self.folder / path).stat()
        except OSError:
            return None
        return f"{status.st_size}-{status.st_mtime_ns}"

    def list(self, path: str = "") -> list[str]:
        """Lists the names of the files and folders in a folder, sorted."""
        folder = self._real(plain_path(path)) if path else self.folder
        if not folder.is_dir():
            raise EcgAccessError(f"{self}/{path} is a file, not a folder that can be listed; read it instead")
        return sorted(item.name for item in folder.iterdir())
