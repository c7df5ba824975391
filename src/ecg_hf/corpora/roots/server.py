"""The root of a corpus on a file server, read over http or https."""

import time
from http.client import HTTPException
from typing import BinaryIO, ClassVar, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import fsspec

from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError
from ecg_hf.errors import EcgAccessError

TIMEOUT_S = 30.0
WAITS_S = (0.5, 2.0, 8.0)  # before each new attempt after the server was busy or broke the connection
BLOCK = 2**20  # bytes that are fetched at once when a file is read in parts


class ServerRoot(CorpusRoot):
    """A folder on a file server, read over http or https without a login.

    Args:
        url: Plain address of the corpus' own folder.

    Raises:
        EcgAccessError: If the address has a user, a query or a fragment, or lacks a host.
    """

    stamps_are_cheap: ClassVar[bool] = False

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
                    return repr(state), answer.read(self.max_bytes + 1)
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
        raise EcgAccessError(f"{self}/{path} could not be fetched ({reason}); download the corpus and pass its folder")

    def _read(self, path: str) -> bytes:
        return self._ask(path, "GET")[1]

    def _open(self, path: str) -> BinaryIO:
        if self._stamp(path) is None:
            raise self._missing(path)
        try:
            return cast(BinaryIO, fsspec.filesystem("http").open(f"{self.url}/{quote(path)}", block_size=BLOCK))
        except (OSError, ValueError) as error:
            raise EcgAccessError(
                f"{self}/{path} cannot be read in parts ({error}); download the corpus and pass its folder"
            ) from None

    def _stamp(self, path: str) -> str | None:
        try:
            return self._ask(path, "HEAD")[0]
        except MissingFileError:
            return None

    def list(self, path: str = "") -> list[str]:
        """Raises `EcgAccessError`, since a file server cannot be listed."""
        raise EcgAccessError(
            f"{self}/{path} is on a file server, which cannot be listed; use a folder or a zip archive"
        )
