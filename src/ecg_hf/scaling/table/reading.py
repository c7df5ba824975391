"""Files of run tables as rows of plain values: CSV, Parquet, JSON lines, and what trackio exports."""

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
# Structural columns of trackio's "metrics" table; its run_id is an identifier of its own.
_TRACKIO = ("id", "timestamp", "run_name", "step", "log_id", "space_id")


def read_raw(path: Path) -> list[Raw]:
    """Reads a table by the suffix of its file: .csv, .parquet, .jsonl or .json.

    Raises:
        EcgFormatError: If the suffix is another, or a line is not JSON.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_json_lines, ".json": _read_json}
    if path.suffix not in readers:
        raise EcgFormatError(f"a run table is a file {', '.join(readers)}, got {path.name!r}; rename or convert it")
    return readers[path.suffix](path)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as JSON lines, whole or not at all, without what is None."""
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
            logger.warning("%s: left out line %d, which a killed run left unfinished", path.name, number)
            continue
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise EcgFormatError(f"line {number} of {path.name} is not JSON: {error.msg}") from error
    return rows


def drop_columns(rows: Iterable[Mapping[str, Any]], ignore: Iterable[str]) -> list[Raw]:
    """Leaves out columns that are not of the run table."""
    ignored = set(ignore)
    return [{name: value for name, value in row.items() if name not in ignored} for row in rows]


def only_evaluations(rows: Iterable[Mapping[str, Any]], name: str) -> list[Raw]:
    """Leaves out the lines of training steps, which have neither an evaluation nor a status, and counts them."""
    kept = [dict(row) for row in rows]
    found = [row for row in kept if row.get("eval_id") not in (None, "") or row.get("status") not in (None, "")]
    if len(found) < len(kept):
        logger.info("%s: left out %d of %d lines, which hold no evaluation", name, len(kept) - len(found), len(kept))
    return found


def from_trackio(rows: Iterable[Mapping[str, Any]]) -> list[Raw]:
    """Takes trackio's own columns away; its run_name becomes the run_id.

    Trackio writes every logged key of a project into one table, so a row lacks what it did not log.
    """
    return [
        {key: value for key, value in row.items() if key not in _TRACKIO} | {"run_id": row["run_name"]}
        for row in only_evaluations(rows, "the trackio export")
    ]
