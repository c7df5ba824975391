"""Comparison of a corpus' files with their published checksums."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError, is_html
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError

NAMES = ("SHA256SUMS.txt", "SHA256SUMS")
BLOCK = 1 << 20  # bytes read at once

_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+[*]?(.+)")


@dataclass
class Checksums:
    """The result of comparing files with a list of their SHA-256.

    Args:
        name: Name of the list; empty if the corpus has none.
        num_files: Number of files in the list.
        changed: Reason for each file that differs from the list, by path.
        missing: Paths of the listed files that do not exist.
    """

    name: str = ""
    num_files: int = 0
    changed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def find_list(root: CorpusRoot) -> str | None:
    """Returns the name of the list of checksums that PhysioNet puts beside the data; None if there is no list."""
    return next((name for name in NAMES if root.exists(name)), None)


def parse_list(data: bytes, name: str) -> dict[str, str]:
    """Reads a list of SHA-256.

    Args:
        data: Content of the list, a SHA-256 and a path in each line.
        name: Name of the list, for messages.

    Returns:
        The SHA-256 of each file, in lower case, by path.

    Raises:
        EcgFormatError: If a line is not a SHA-256 and a path.
    """
    sums = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise EcgFormatError(f"{name}, line {number}: expected a SHA-256 and a path, got {line[:80]!r}")
        sums[match[2].removeprefix("./")] = match[1].lower()
    return sums


def compare(root: CorpusRoot, path: str, expected: str) -> str | None:
    """Compares a file with its published SHA-256.

    Args:
        root: Place of the corpus' files.
        path: Path of the file, relative to the root.
        expected: Published SHA-256 in lower case.

    Returns:
        None if the file is as published, otherwise the reason why it is not.

    Raises:
        MissingFileError: If the file does not exist.
    """
    digest = hashlib.sha256()
    try:
        with root.open(path) as file:
            start = file.read(BLOCK)
            digest.update(start)
            while block := file.read(BLOCK):
                digest.update(block)
    except MissingFileError:
        raise
    except (EcgAccessError, EcgIntegrityError) as error:
        return str(error)
    if digest.hexdigest() == expected:
        return None
    if is_html(start) and not path.lower().endswith((".html", ".htm")):
        return "a web page saved under its name"
    return f"SHA-256 {digest.hexdigest()}, expected {expected}"


def check_files(root: CorpusRoot) -> Iterator[tuple[str, Checksums]]:
    """Compares all listed files, yielding each path with the result so far; yields nothing if there is no list."""
    name = find_list(root)
    if name is None:
        return
    sums = parse_list(root.read(name), name)
    state = Checksums(name, len(sums))
    if not sums:
        yield name, state
    for path, expected in sums.items():
        try:
            if why := compare(root, path, expected):
                state.changed[path] = why
        except MissingFileError:
            state.missing.append(path)
        yield path, state
