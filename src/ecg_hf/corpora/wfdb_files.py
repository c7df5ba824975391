"""The reader of the files of one WFDB record: its header, and the signal files that the header must name."""

from collections.abc import Sequence

from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.signals.formats.wfdb import parse_header
from ecg_hf.signals.formats.wfdb_header import Header


def read_files(root: CorpusRoot, paths: Sequence[str], record_name: str) -> tuple[Header, dict[str, bytes]]:
    """Reads the header and the signal files of a record.

    Args:
        root: Place of the corpus' files.
        paths: Path of the header, then paths of the signal files in the order in which the header must name them.
        record_name: Name of the record, which the header must state.

    Returns:
        The header, and the contents of the signal files by file name, as `decode` expects them.

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
