"""Parsers of the table of labels that lists a user's own records."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecg_hf.corpora.index import SPLITS, Entry, parse_table
from ecg_hf.errors import EcgFormatError

RESERVED = ("record_id", "patient_id", "split", "age", "sex", "device", "report", "labels", "file", "row")
SEXES = {"female": "female", "f": "female", "male": "male", "m": "male", "": None}

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")

Row = Mapping[str, str]
Labels = tuple[tuple[str, str, float], ...]


def read_table(data: bytes, name: str) -> tuple[list[str], list[dict[str, str]]]:
    """Reads the table of labels, without blanks around the fields.

    Args:
        data: Content of the table, in UTF-8.
        name: Name of the table, for messages.

    Returns:
        The names of the columns, and the fields of each row by column.

    Raises:
        EcgFormatError: If the data are not a table with a column `record_id`, or a column has no name of its own.
    """
    try:
        header = next(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise EcgFormatError(f"{name} is not a table in UTF-8 ({error}); save it as 'CSV UTF-8'") from None
    columns = [column.strip() for column in header]
    if "record_id" not in columns or "" in columns or len(set(columns)) < len(columns):
        raise EcgFormatError(
            f"{name}: expected columns separated by commas, each with a name of its own and one of them record_id, "
            f"got {header}; rename them, and leave out an index (index=False in pandas)"
        )
    rows = [{column.strip(): text.strip() for column, text in row.items()} for row in parse_table(data, name, header)]
    return columns, rows


def label_columns(columns: Sequence[str], asked: Any, name: str) -> list[str]:
    """Returns the columns that are labels.

    Args:
        columns: Names of all columns of the table.
        asked: Names of the columns that are labels; all columns without a reserved meaning if None.
        name: Name of the table, for messages.

    Raises:
        EcgFormatError: If a name in `asked` is not a column or has a reserved meaning.
    """
    free = [column for column in columns if column not in RESERVED]
    if asked is None:
        return free
    if not isinstance(asked, (list, tuple)) or (odd := [column for column in asked if column not in free]):
        odd = odd if isinstance(asked, (list, tuple)) else asked
        raise EcgFormatError(f"expected label_columns to be a list of columns of {name}, {free}, got {odd!r}")
    return list(asked)


def flag_columns(rows: Sequence[Row], wanted: Sequence[str]) -> list[str]:
    """Returns the columns among `wanted` that hold only 0, 1 and empty fields."""
    return [column for column in wanted if all(_value(row[column]) in (0.0, 1.0, None) for row in rows)]


def parse_labels(row: Row, wanted: Sequence[str], flags: Sequence[str], name: str) -> Labels:
    """Reads the labels of a record.

    Args:
        row: Fields of the record's row by column.
        wanted: Names of the columns that are labels.
        flags: Names of the label columns that hold only 0, 1 and empty fields.
        name: Name of the record, for messages.

    Returns:
        Label set, name and value of each label, in the sets "label" and "value".

    Raises:
        EcgFormatError: If a label column holds anything but a number, or contradicts the column `labels`.
    """
    listed = [text.strip() for text in row.get("labels", "").split(";") if text.strip()]
    filled = {column: value for column in wanted if (value := _value(row[column])) is not None}
    if odd := {column: row[column] for column, value in filled.items() if value != value}:
        raise EcgFormatError(
            f"{name}: expected numbers or empty fields in columns of labels, got {odd}; write 1 or 0, put names into "
            "the column labels, or name the columns that are labels in label_columns"
        )
    if odd_names := [column for column in listed if filled.get(column) == 0]:
        raise EcgFormatError(f"{name}: expected labels to agree with the columns, got {odd_names} with 0; correct one")
    present = dict.fromkeys([*listed, *(column for column in flags if filled.get(column) == 1)])
    values = (("value", column, value) for column, value in filled.items())
    return (*(("label", label, 1.0) for label in present), *values)


def parse_entry(row: Row, split: str, path: str, labels: Labels, table: str) -> Entry:
    """Builds the index entry of a record.

    Args:
        row: Fields of the record's row by column.
        split: Split of the record.
        path: Path of the record's file, as `Entry.path` holds it.
        labels: Labels of the record.
        table: Name of the table, for messages.

    Raises:
        EcgFormatError: If `record_id` or `patient_id` is empty, or age, sex or split has an invalid value.
    """
    name = f"record {row['record_id']!r} of {table}"
    age, sex = row.get("age", ""), row.get("sex", "").lower()
    if not row["record_id"] or split not in SPLITS or not row.get("patient_id", "?"):
        raise EcgFormatError(
            f"{name}: expected a record_id, a patient_id in every row or in none, and a split of {SPLITS}, got "
            f"{row['record_id']!r}, {row.get('patient_id')!r} and {split!r}; fill them in"
        )
    if sex not in SEXES or (age and not (_NUMBER.fullmatch(age) and 0 <= float(age) <= 120)):
        raise EcgFormatError(
            f"{name}: expected female, male or nothing and an age from 0 to 120 or none, got {row.get('sex')!r} and "
            f"{age!r}; correct them"
        )
    years = _value(age)
    return Entry(
        record_id=row["record_id"],
        split=split,
        patient_id=row.get("patient_id"),
        path=path,
        age=None if years is not None and years > 89 else years,
        age_over_89=years is not None and years > 89,
        sex=SEXES[sex],
        device=row.get("device") or None,
        report=row.get("report") or None,
        labels=labels,
    )


def _value(text: str) -> float | None:
    """Returns the number in a field, rounded to float32; None if the field is empty, NaN if it holds anything else."""
    return None if not text else float(np.float32(text if _NUMBER.fullmatch(text) else "nan"))
