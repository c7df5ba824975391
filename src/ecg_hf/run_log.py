"""The log of a run: metrics.jsonl, one row per optimizer step."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class RunLog:
    """Appends rows, each a line of JSON, each with its "step".

    Args:
        folder: The run's folder; the log is `metrics.jsonl` in it.
    """

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"

    def append(self, row: Mapping[str, float | int | None]) -> None:
        """Writes a row; JSON has no NaN, so a number that is not finite becomes null."""
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """Reads all rows; half a row, which a killed run can leave at the end, is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("}\n")]

    def truncate(self, step: int) -> None:
        """Drops rows after a step: a run that continues from there will write them again."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_text(
            "".join(json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step), encoding="utf-8"
        )
        partial.replace(self.path)
