"""The files of one WFDB record, read together: a header, and the signal files that it must name."""

from collections.abc import Sequence

from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.signals.formats.wfdb import parse_header
from ecg_hf.signals.formats.wfdb_header import Header


def read_files(root: CorpusRoot, paths: Sequence[str], record_name: str) -> tuple[Header, dict[str, bytes]]:
    """Reads a header and its signal files.

    Args:
        root: Where they are.
        paths: Of the header, then of the signal files, in the order in which the header must name them.
        record_name: That the header must have.

    Returns:
        The header, and the bytes of the signal files by their names, as `decode` takes them.

    Raises:
        EcgIntegrityError: If the header names other files.
        EcgError: If a file is missing or the header cannot be read.
    """
    header_file, *signal_files = paths
    header = parse_header(root.read(header_file), record_name)
    names = tuple(path.rpartition("/")[2] for path in signal_files)
    if header.file_names != names:
        expected = ", ".join(names)
        raise EcgIntegrityError(f"{header_file} names {header.file_names}, expected {expected}; download it again")
    return header, {name: root.read(path) for name, path in zip(names, signal_files, strict=True)}
