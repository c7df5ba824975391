"""The log of a run: metrics.jsonl, one row per optimizer step."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecg_hf.errors import EcgCheckpointError

MAX_POINTS = 2000  # that a curve keeps


class RunLog:
    """Appends rows, each a line of JSON, each with its "step".

    Args:
        folder: The run's folder; the log is `metrics.jsonl` in it.
    """

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"
        self.curve: list[dict[str, Any]] = []  # rows at even distances, and all that have a validation
        self._distance = 1

    def append(self, row: Mapping[str, float | int | None]) -> None:
        """Writes a row; JSON has no NaN, so a number that is not finite becomes null.

        Raises:
            EcgCheckpointError: If it cannot be written.
        """
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in row.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise EcgCheckpointError(
                f"{self.path} cannot be written ({error}); free some space and resume from the last checkpoint"
            ) from error
        self._extend_curve(finite)

    def _extend_curve(self, row: dict[str, Any]) -> None:
        self.curve += [row] if self._lies_on_curve(row) else []
        if len(self.curve) > MAX_POINTS:
            self._distance *= 2
            self.curve = [kept for kept in self.curve if self._lies_on_curve(kept)]

    def _lies_on_curve(self, row: dict[str, Any]) -> bool:
        return row["step"] % self._distance == 0 or "validation_loss" in row

    def rows(self) -> list[dict[str, Any]]:
        """Reads all rows; half a row, which a killed run can leave at the end, is left out."""
        return list(self._read())

    def _read(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                yield from (json.loads(line) for line in file if line.endswith("}\n"))

    def truncate(self, step: int) -> None:
        """Drops rows after a step: a run that continues from there will write them again."""
        self.curve, self._distance = [], 1
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                for row in self._read():
                    if row["step"] <= step:
                        file.write(json.dumps(row) + "\n")
                        self._extend_curve(row)
            partial.replace(self.path)
        except OSError as error:
            raise EcgCheckpointError(f"{self.path} cannot be written ({error}); free some space and resume") from error
