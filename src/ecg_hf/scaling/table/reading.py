"""Readers and the writer of run table files: CSV, Parquet, JSON, JSON lines and trackio exports."""

import csv
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ecg_hf.errors import EcgFormatError
from ecg_hf.output.files import replacing

logger = logging.getLogger(__name__)

Raw = dict[str, Any]
# Structural columns of trackio's "metrics" table. Its column run_id holds an identifier of trackio's own.
_TRACKIO = ("id", "timestamp", "run_name", "step", "log_id", "space_id")


def read_raw(path: Path) -> list[Raw]:
    """Reads the rows of a .csv, .parquet, .jsonl or .json file; the suffix selects the format.

    Args:
        path: Path of the file.

    Returns:
        One dictionary per row, from column to value; values from CSV are text.

    Raises:
        EcgFormatError: If the suffix is unknown, a line of a .jsonl file is not JSON, or a .json file is not a list.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_json_lines, ".json": _read_json}
    if path.suffix not in readers:
        raise EcgFormatError(f"a run table is a file {', '.join(readers)}, got {path.name!r}; rename or convert it")
    return readers[path.suffix](path)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as JSON lines without the values that are None; the file appears complete or not at all."""
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps({name: value for name, value in row.items() if value is not None}) + "\n")


def _read_csv(path: Path) -> list[Raw]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, restkey="beyond the header"))
    return rows


def _read_parquet(path: Path) -> list[Raw]:
    import pyarrow.parquet as pq

    rows: list[Raw] = pq.read_table(path).to_pylist()
    return rows


def _read_json(path: Path) -> list[Raw]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list):
        raise EcgFormatError(f"{path.name} must hold a JSON list of rows, got a {type(rows).__name__}")
    return rows


def _read_json_lines(path: Path) -> list[Raw]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith("\n") and not line.rstrip().endswith("}"):
            logger.warning("%s: left out line %d, which an interrupted run did not finish", path.name, number)
            continue
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise EcgFormatError(f"line {number} of {path.name} is not JSON: {error.msg}") from error
    return rows


def drop_columns(rows: Iterable[Mapping[str, Any]], ignore: Iterable[str]) -> list[Raw]:
    """Returns the rows without the columns in `ignore`."""
    ignored = set(ignore)
    return [{name: value for name, value in row.items() if name not in ignored} for row in rows]


def only_evaluations(rows: Iterable[Mapping[str, Any]], name: str) -> list[Raw]:
    """Returns the rows that have an `eval_id` or a `status`, and logs how many were dropped.

    The logs of a training run mix evaluations with lines of training steps, which have neither.

    Args:
        rows: Lines of a log, from column to value.
        name: Name of the log in the message.
    """
    kept = [dict(row) for row in rows]
    found = [row for row in kept if row.get("eval_id") not in (None, "") or row.get("status") not in (None, "")]
    if len(found) < len(kept):
        logger.info("%s: left out %d of %d lines, which hold no evaluation", name, len(kept) - len(found), len(kept))
    return found


def from_trackio(rows: Iterable[Mapping[str, Any]]) -> list[Raw]:
    """Converts rows of a trackio export: drops trackio's structural columns and takes `run_name` as the `run_id`.

    Trackio writes every key that a project logged into one table, so most rows leave most columns empty.
    """
    return [
        {key: value for key, value in row.items() if key not in _TRACKIO} | {"run_id": row["run_name"]}
        for row in only_evaluations(rows, "the trackio export")
    ]
