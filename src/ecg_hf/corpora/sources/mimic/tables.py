"""Readers of tables that are too large for memory, row by row, and parsers of their fields."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, TypeVar

from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError, is_html
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError

FOLDER = "labels"  # in the corpus, for the tables of labels that are not kept beside the index
UNKNOWN = ("", "nan", "-999", "-999.0")

_Meaning = TypeVar("_Meaning")
_WHOLE = re.compile(r"(-?[0-9]{1,10})(?:\.0+)?")  # pandas writes whole numbers of a column with gaps as 52.0
_NUMBER = re.compile(r"-?[0-9]{1,10}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,2})?")


def find_table(root: CorpusRoot, name: str) -> str | None:
    """Returns the path of a table in the folder of the corpus or its subfolder `labels`; None if neither has it.

    Raises:
        EcgIntegrityError: If both have it.
    """
    found = [path for path in (f"{FOLDER}/{name}", name) if root.exists(path)]
    if len(found) > 1:
        raise EcgIntegrityError(f"{root} holds {name} twice, expected one of {found}; delete the other")
    return found[0] if found else None


def read_rows(root: CorpusRoot, path: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yields the rows of a table, with some of its columns, without holding the whole table in memory.

    Args:
        root: Root of the corpus.
        path: Path of the table, below the root.
        columns: Names of the columns to read.

    Raises:
        EcgAccessError: If the file is missing or is a web page.
        EcgFormatError: If the file is not such a table, lacks a column, has one twice, or is cut off.
    """
    try:
        file = root.open(path)
    except MissingFileError:
        raise
    except EcgAccessError:
        file = io.BytesIO(root.read(path))  # compressed in a zip archive
    with file:
        if is_html(file.read(1024)):
            raise EcgAccessError(f"{root}/{path} should hold data but is a web page; download it again, logged in")
        file.seek(0)
        yield from stream_rows(file, path, columns)


def stream_rows(file: BinaryIO, name: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yields the rows of a comma-separated table with a header, with some of its columns; closes the file at the end.

    Args:
        file: The open table, in UTF-8, with or without a byte order mark.
        name: Name of the table, for messages.
        columns: Names of the columns to read.

    Raises:
        EcgFormatError: If the file is not such a table, lacks a column, has one twice, or is cut off.
    """
    try:
        with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            header = next(reader, [])
            if odd := [column for column in columns if header.count(column) != 1]:
                raise EcgFormatError(
                    f"{name}: expected each of the columns {odd} once, got {header[:40]}; download the version that "
                    "the corpus names"
                )
            places = [(column, header.index(column)) for column in columns]
            for row in reader:
                if len(row) != len(header):
                    raise EcgFormatError(
                        f"{name}, line {reader.line_num}: expected {len(header)} fields, got {len(row)}; download it "
                        "again"
                    )
                yield {column: row[place] for column, place in places}
    except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EcgFormatError(f"{name} is not a whole table in UTF-8 ({error}); download it again") from None


def whole(row: Mapping[str, str], column: str) -> int:
    """Parses a field as a whole number.

    Raises:
        EcgFormatError: If the field is not a whole number.
    """
    match = _WHOLE.fullmatch(row[column])
    if match is None:
        raise meaningless(row, column)
    return int(match[1])


def number(row: Mapping[str, str], column: str) -> float | None:
    """Parses a field as a number; returns None if the field stands for an unknown value.

    Raises:
        EcgFormatError: If the field is not a number.
    """
    if row[column] in UNKNOWN:
        return None
    if not _NUMBER.fullmatch(row[column]):
        raise meaningless(row, column)
    return float(row[column])


def meaningless(row: Mapping[str, str], column: str) -> EcgFormatError:
    """Builds the error about a field that is invalid in its column."""
    study = next((row[key] for key in ("study_id", "general_study_id") if key in row), "?")
    return EcgFormatError(f"study {study!r}: {row[column]!r} has no meaning as {column}; download the table again")


def meaning(row: Mapping[str, str], column: str, meanings: Mapping[str, _Meaning]) -> _Meaning:
    """Looks up the meaning of the word in a field.

    Raises:
        EcgFormatError: If the word is unknown.
    """
    if row[column] not in meanings:
        raise meaningless(row, column)
    return meanings[row[column]]
