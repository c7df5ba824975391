"""The root of a corpus in a local zip archive."""

import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from ecg_hf.corpora.roots.base import CorpusRoot, plain_path
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError


class ZipRoot(CorpusRoot):
    """A local zip archive, which every process opens for itself, since processes must not share a file position.

    Args:
        archive: Path of the zip archive.
        prefix: Path of the corpus' own folder within the archive, ending with "/"; empty for the top.
    """

    def __init__(self, archive: Path, prefix: str = "") -> None:
        self.archive, self.prefix = archive.resolve(), prefix
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __str__(self) -> str:
        return f"{self.archive}/{self.prefix}".rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    @property
    def members(self) -> zipfile.ZipFile:
        """The archive as opened in this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _open_zip(self.archive)
        return self._opened[1]

    def _info(self, path: str) -> zipfile.ZipInfo:
        info = self.members.NameToInfo.get(self.prefix + path)
        if info is None:
            raise self._missing(path)
        if info.is_dir() or info.flag_bits & 1 or stat.S_ISLNK(info.external_attr >> 16):
            raise EcgAccessError(f"{self}/{path} is a folder, a link or encrypted, expected a plain file; unpack it")
        return info

    def _open(self, path: str) -> BinaryIO:
        info = self._info(path)
        if info.compress_type != zipfile.ZIP_STORED:
            raise EcgAccessError(f"{self}/{path} is compressed and can only be read whole; unpack the archive")
        return cast(BinaryIO, self.members.open(info))

    def _read(self, path: str) -> bytes:
        info = self._info(path)
        if info.file_size > self.max_bytes:
            raise self._too_large(path, info.file_size)
        try:
            return self.members.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise EcgIntegrityError(f"{self}/{path} is damaged ({error}); download the archive again") from None

    def _stamp(self, path: str) -> str | None:
        info = self.members.NameToInfo.get(self.prefix + path)
        return None if info is None else f"{info.file_size}-{info.CRC:08x}"

    def list(self, path: str = "") -> list[str]:
        """Lists the names of the files and folders in a folder, sorted."""
        prefix = self.prefix + (plain_path(path) + "/" if path else "")
        below = (name.removeprefix(prefix) for name in self.members.NameToInfo if name.startswith(prefix))
        names = {name.split("/")[0] for name in below} - {""}
        if not names:
            raise self._missing(path)
        return sorted(names)


def _open_zip(archive: Path) -> zipfile.ZipFile:
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise EcgFormatError(f"{archive} is not a readable zip archive ({error}); download it again") from None
    if len(opened.NameToInfo) != len(opened.infolist()):
        raise EcgIntegrityError(f"{archive} holds two files of the same name; download it again")
    return opened
