"""Where a corpus' files lie: a folder, a zip archive or a file server, read by relative path and never outside."""

import os
import stat
import time
import zipfile
import zlib
from abc import ABC, abstractmethod
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError

MAX_BYTES = 2**30  # of one file; keeps a zip bomb or an endless answer out of memory
TIMEOUT_S = 30.0
WAITS_S = (0.5, 2.0, 8.0)  # before each further try at a server that is busy or broke off
DEPTH = 8  # folders to go down from the root in search of the corpus
MAX_FOLDERS = 20_000  # to look into in that search


class MissingFileError(EcgAccessError):
    """A file that is not there, as opposed to one that must not or cannot be read."""


class CorpusRoot(ABC):
    """The one place that a corpus reads from; paths are relative to it, with "/" between their parts."""

    stamps_are_cheap = True  # whether all files of a corpus can be stamped in passing

    def read(self, path: str) -> bytes:
        """Reads a whole file.

        Raises:
            MissingFileError: If there is no such file.
            EcgAccessError: If the path or the file leaves the root, cannot be read, is larger than `MAX_BYTES`, or
                is a web page saved under the name of a data file.
            EcgIntegrityError: If the archive that holds it is damaged there.
        """
        data = self._read(_inside(path))
        if len(data) > MAX_BYTES:
            raise self._too_large(path, len(data))
        if is_html(data) and not path.lower().endswith((".html", ".htm")):
            raise EcgAccessError(
                f"{self}/{path} should hold data but is a web page (an error or a login page saved under its name); "
                "delete it and download it again, logged in where the corpus asks for it"
            )
        return data

    def exists(self, path: str) -> bool:
        """Says whether there is such a file."""
        return self.stamp(path) is not None

    def stamp(self, path: str) -> str | None:
        """Gives a text that changes whenever the file changes, without reading it; None if there is no such file."""
        return self._stamp(_inside(path))

    @abstractmethod
    def list(self, path: str = "") -> list[str]:
        """Names what lies directly in a folder, sorted; a server cannot tell and raises EcgAccessError."""

    @abstractmethod
    def _read(self, path: str) -> bytes: ...

    @abstractmethod
    def _stamp(self, path: str) -> str | None: ...

    def _missing(self, path: str) -> MissingFileError:
        return MissingFileError(f"{self}/{path} is missing; complete the download, or pass allow_missing=True")

    def _too_large(self, path: str, size: int) -> EcgAccessError:
        return EcgAccessError(f"{self}/{path} has {size} bytes, expected at most {MAX_BYTES}; check the download")


class FolderRoot(CorpusRoot):
    """A folder on this machine."""

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
            if status.st_size > MAX_BYTES:
                raise self._too_large(path, status.st_size)
            return real.read_bytes()
        except OSError as error:
            raise EcgAccessError(f"{self}/{path} cannot be read ({error.strerror}); check its permissions") from None

    def _stamp(self, path: str) -> str | None:
        try:
            status = (self.folder / path).stat()
        except OSError:
            return None
        return f"{status.st_size}-{status.st_mtime_ns}"

    def list(self, path: str = "") -> list[str]:
        """Names what lies directly in a folder, sorted."""
        folder = self._real(_inside(path)) if path else self.folder
        if not folder.is_dir():
            raise EcgAccessError(f"{self}/{path} is a file, not a folder that can be listed; read it instead")
        return sorted(item.name for item in folder.iterdir())


class ZipRoot(CorpusRoot):
    """A zip archive on this machine, opened anew in each process, since processes must not share a file position."""

    def __init__(self, archive: Path, prefix: str = "") -> None:
        self.archive, self.prefix = archive.resolve(), prefix
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __str__(self) -> str:
        return f"{self.archive}/{self.prefix}".rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    @property
    def members(self) -> zipfile.ZipFile:
        """The archive, open in this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _open_zip(self.archive)
        return self._opened[1]

    def _read(self, path: str) -> bytes:
        info = self.members.NameToInfo.get(self.prefix + path)
        if info is None:
            raise self._missing(path)
        if info.is_dir() or info.flag_bits & 1 or stat.S_ISLNK(info.external_attr >> 16):
            raise EcgAccessError(f"{self}/{path} is a folder, a link or encrypted, expected a plain file; unpack it")
        if info.file_size > MAX_BYTES:
            raise self._too_large(path, info.file_size)
        try:
            return self.members.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise EcgIntegrityError(f"{self}/{path} is damaged ({error}); download the archive again") from None

    def _stamp(self, path: str) -> str | None:
        info = self.members.NameToInfo.get(self.prefix + path)
        return None if info is None else f"{info.file_size}-{info.CRC:08x}"

    def list(self, path: str = "") -> list[str]:
        """Names what lies directly in a folder, sorted."""
        prefix = self.prefix + (_inside(path) + "/" if path else "")
        below = (name.removeprefix(prefix) for name in self.members.NameToInfo if name.startswith(prefix))
        names = {name.split("/")[0] for name in below} - {""}
        if not names:
            raise self._missing(path)
        return sorted(names)


class ServerRoot(CorpusRoot):
    """A folder of a file server, read over http or https without logging in."""

    stamps_are_cheap = False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.query or parts.fragment or "@" in parts.netloc or not parts.hostname:
            raise EcgAccessError(
                f"expected the plain address of a folder on {parts.hostname}, without user, query or fragment; "
                "download what is behind a login and pass its folder"
            )
        self.url = url.rstrip("/")

    def __str__(self) -> str:
        return self.url

    def _ask(self, path: str, method: str) -> tuple[str, bytes]:
        request = Request(f"{self.url}/{quote(path)}", method=method, headers={"User-Agent": "ecg_hf"})
        for wait in (*WAITS_S, None):
            try:
                with urlopen(request, timeout=TIMEOUT_S) as answer:
                    state = [answer.headers[key] for key in ("Content-Length", "Last-Modified", "ETag")]
                    return repr(state), answer.read(MAX_BYTES + 1)
            except HTTPError as error:
                error.close()
                reason = f"status {error.code}"
                if error.code in (404, 410):
                    raise self._missing(path) from None
                if error.code < 500 and error.code != 429:
                    break
            except (URLError, HTTPException, OSError) as error:
                reason = str(error)
            if wait is not None:
                time.sleep(wait)
        raise EcgAccessError(f"{self}/{path} could not be had ({reason}); download the corpus and pass its folder")

    def _read(self, path: str) -> bytes:
        return self._ask(path, "GET")[1]

    def _stamp(self, path: str) -> str | None:
        try:
            return self._ask(path, "HEAD")[0]
        except MissingFileError:
            return None

    def list(self, path: str = "") -> list[str]:
        """Refuses, since a file server cannot be listed."""
        raise EcgAccessError(
            f"{self}/{path} is on a file server, which cannot be listed; use a folder or a zip archive"
        )


def open_root(location: str | os.PathLike[str], marker: str) -> CorpusRoot:
    """Opens the place of a corpus, or finds it below the place given.

    Args:
        location: A folder, a zip archive, or the address of a folder on a file server. The first two may hold the
            corpus some folders further down, as wget and PhysioNet's zip archives leave it.
        marker: A file that stands in the corpus' own folder and nowhere else.

    Raises:
        EcgAccessError: If there is no such place, or it holds no corpus or more than one.
        EcgFormatError: If a file is given that is no zip archive.
    """
    text = os.fspath(location)
    if text.startswith(("http://", "https://")):
        return ServerRoot(text)
    path = Path(text).expanduser()
    if path.is_dir():
        found = [path] if (path / marker).is_file() else _folders_with(path, marker)
        return FolderRoot(Path(_the_only(path, marker, [str(folder) for folder in found])))
    if path.is_file():
        root = ZipRoot(path)
        names = [name for name in root.members.NameToInfo if f"/{name}".endswith(f"/{marker}")]
        root.prefix = _the_only(path, marker, [name.removesuffix(marker) for name in names])
        return root
    raise EcgAccessError(f"{text} is no folder, zip archive or http(s) address; set data_dir to where the corpus is")


def is_html(data: bytes) -> bool:
    """Says whether bytes begin like a web page."""
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(b"<") and (b"<html" in start or b"<!doctype html" in start)


def _inside(path: str) -> str:
    if {"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path or path[1:2] == ":":
        raise EcgAccessError(
            f"{path!r} is no plain path below the root; what names it is damaged or hostile, replace it"
        )
    return path


def _folders_with(top: Path, marker: str) -> list[Path]:
    found, level, looked = [], [top], 0
    for _ in range(DEPTH):
        looked += len(level)
        if looked > MAX_FOLDERS:
            raise EcgAccessError(f"{top} has over {MAX_FOLDERS} folders; set data_dir to the one that holds {marker}")
        here = {folder: (folder / marker).is_file() for folder in level}
        found += [folder for folder, hit in here.items() if hit]
        try:
            items = [item for folder, hit in here.items() if not hit for item in folder.iterdir()]
        except OSError as error:
            raise EcgAccessError(f"{top} cannot be searched ({error}); set data_dir to what holds {marker}") from None
        level = [item for item in items if item.is_dir() and not item.is_symlink()]
    return sorted(found)


def _the_only(place: Path, marker: str, found: list[str]) -> str:
    if not found:
        raise EcgAccessError(
            f"{place} holds no {marker}; set data_dir to the folder or zip archive of the whole corpus"
        )
    if len(found) > 1:
        raise EcgAccessError(f"{place} holds {len(found)} copies of the corpus, {found}; set data_dir to one of them")
    return found[0]


def _open_zip(archive: Path) -> zipfile.ZipFile:
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise EcgFormatError(f"{archive} is no zip archive that can be read ({error}); download it again") from None
    if len(opened.NameToInfo) != len(opened.infolist()):
        raise EcgIntegrityError(f"{archive} holds two files of one name; download it again")
    return opened
