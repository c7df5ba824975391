"""The function that opens the place given by a user and finds the corpus there."""

import os
from pathlib import Path

from ecg_hf.corpora.roots.archive import ZipRoot
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.roots.server import ServerRoot
from ecg_hf.errors import EcgAccessError

DEPTH = 8  # levels of folders that are searched for the corpus
MAX_FOLDERS = 20_000  # folders that are searched at most


def open_root(location: str | os.PathLike[str], marker: str) -> CorpusRoot:
    """Opens the root of a corpus, searching a folder or a zip archive for it.

    Args:
        location: A folder, a zip archive, or the http(s) address of a folder on a file server. A folder or an archive
            may hold the corpus some folders further down, as downloads by wget and PhysioNet's zip archives do.
        marker: Path of a file that exists in the corpus' own folder and nowhere else.

    Returns:
        The root, from which paths start at the folder that holds the marker. A server is not searched.

    Raises:
        EcgAccessError: If there is no such place, or it holds no corpus or more than one.
        EcgFormatError: If `location` is a file but not a zip archive.
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
    raise EcgAccessError(f"{text} is not a folder, zip archive or http(s) address; set data_dir to where the corpus is")


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
