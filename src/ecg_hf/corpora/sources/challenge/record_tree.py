"""The search for records in a tree of folders, and writers of records and RECORDS files for examples."""

import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from ecg_hf.corpora.roots.archive import ZipRoot
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.roots.open import open_root
from ecg_hf.corpora.roots.server import ServerRoot
from ecg_hf.errors import EcgAccessError
from ecg_hf.signals.record import LEADS

DEPTH = 8  # levels of folders that are searched
MAX_FOLDERS = 20_000  # folders that are searched at most

_FILE = re.compile(r".*\.(?i:hea|mat|dat|csv|tsv|txt|html?|json|md|pdf|py|sh|xlsx|zip|t?gz|bak|log)|[A-Z]{5,}")

logger = logging.getLogger(__name__)


def open_any_root(place: str) -> CorpusRoot:
    """Opens the root of a corpus without a marker file: the root is the given place itself.

    Args:
        place: A folder, a zip archive, or the http(s) address of a folder on a file server.

    Raises:
        EcgAccessError: If there is no such place.
        EcgFormatError: If the place is a file but not a zip archive.
    """
    if not place.startswith(("http://", "https://")):
        path = Path(place).expanduser()
        if path.is_dir():
            return FolderRoot(path)
        if path.is_file():
            return ZipRoot(path)
    return open_root(place, "RECORDS")


def find_records(root: CorpusRoot, suffix: str, skip: Collection[str]) -> tuple[list[str], list[str]]:
    """Finds all records in a tree of folders; a file server, which cannot be listed, is searched by its RECORDS files.

    The names of the official folders are not guaranteed, so they are read and never computed.

    Args:
        root: Place of the corpus' files.
        suffix: Suffix of one file of each record, such as ".hea".
        skip: Names of folders that are not searched.

    Returns:
        Paths of the records without suffix, and paths in RECORDS files that do not exist, both sorted.

    Raises:
        EcgAccessError: If there are too many or too deep folders, or a RECORDS file on a server is missing.
    """
    records: set[str] = set()
    folders: set[str] = set()
    promised: set[str] = set()
    queue = [""]
    while queue:
        folder = queue.pop()
        names = ["RECORDS"] if isinstance(root, ServerRoot) else _list(root, folder)
        if names is None or folder in folders:
            continue
        folders.add(folder)
        if len(folders) > MAX_FOLDERS or folder.count("/") > DEPTH:
            raise EcgAccessError(f"{root} has too many folders, such as {folder}; set data_dir to those of the corpus")
        start = folder and f"{folder}/"
        lines = _lines(root.read(f"{start}RECORDS")) if "RECORDS" in names else []
        promised.update(start + line for line in lines if not _parts(line) & set(skip))
        if isinstance(root, ServerRoot):
            names = [line.rstrip("/") if line.endswith("/") else line + suffix for line in lines]
        records.update(start + name.removesuffix(suffix) for name in names if name.endswith(suffix))
        queue += [start + name for name in names if not _FILE.fullmatch(name) and not _parts(name) & set(skip)]
    lost = {path for path in promised if path.rstrip("/") not in (folders if path.endswith("/") else records)}
    return sorted(records), sorted(lost)


def _list(root: CorpusRoot, folder: str) -> list[str] | None:
    try:
        return root.list(folder)
    except EcgAccessError as error:
        if not folder:
            raise
        logger.warning("passed over %s, which is not a folder that can be listed: %s", folder, error)
        return None


def _parts(path: str) -> set[str]:
    return set(path.split("/"))


def _lines(data: bytes) -> list[str]:
    return [line.strip() for line in data.decode("utf-8", "backslashreplace").splitlines() if line.strip()]


class Style(NamedTuple):
    """The form in which a release writes its headers.

    Args:
        suffix: Text that follows the record's name in the first line.
        date: Date and time at the end of the first line.
        encoding: Format of the samples, with the offset of the first sample in the file.
        gain: Gain and unit of the samples.
        mark: Characters at the start of a comment.
    """

    suffix: str = ""
    date: str = ""
    encoding: str = "16x1+24"
    gain: str = "1000.0(0)/mV"
    mark: str = "# "


STYLES = (
    Style(),
    Style(".mat", " 05-May-2020 14:50:55", "16+24", "1000/mV", "#"),
    Style("", " 04-Jun-2020 15:11:55", "16+24", "1000/mv", "#"),
)


def write_matlab_record(
    path: Path, samples: NDArray[np.int16], sampling_rate: int, comments: Sequence[str], style: Style
) -> None:
    """Writes a record as the Challenge does: a header and a MATLAB 4 matrix.

    Args:
        path: Folder and name of the record, without a suffix.
        samples: Samples in uV, shape (12, T).
        sampling_rate: Sampling rate in Hz.
        comments: Comments of the header, such as "Age: 56".
        style: Form of the header.

    Source:
        WFDB header(5) and signal(5); the headers of the Challenge's three releases.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{path.name}{style.suffix} 12 {sampling_rate} {samples.shape[1]}{style.date}"]
    for lead, row in zip(LEADS, samples, strict=True):
        checksum = int(row.sum(dtype=np.int16))
        lines.append(f"{path.name}.mat {style.encoding} {style.gain} 16 0 {row[0]} {checksum} 0 {lead}")
    lines += [style.mark + comment for comment in comments]
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n", encoding="ascii")
    savemat(path.with_suffix(".mat"), {"val": samples}, format="4")


def write_lists(folder: Path) -> None:
    """Writes a RECORDS file into every folder with records, and one at the top that lists these folders."""
    leaves = sorted({path.parent for path in folder.rglob("*.hea")})
    for leaf in leaves:
        names = sorted(path.stem for path in leaf.glob("*.hea"))
        (leaf / "RECORDS").write_text("\n".join(names), encoding="ascii")
    top = "".join(f"{leaf.relative_to(folder).as_posix()}/\n" for leaf in leaves if leaf != folder)
    if top:
        (folder / "RECORDS").write_text(top, encoding="ascii")
