"""The run table: every run of a study with its evaluations, under one definition of model size and one of data size."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.scaling.table.reading import drop_columns, from_trackio, only_evaluations, read_raw, write_lines
from ecg_hf.scaling.table.row import AMOUNTS, KINDS, SIZES, RunRow, parse_row, run_fields

Cell = tuple[str, str]


@dataclass(frozen=True, eq=False)
class RunTable:
    """Rows, one per run and evaluation, that agree with each other.

    Args:
        rows: The rows.
        size: Which column N is, for every fit of this table: one of `SIZES`.
        data: Which column D is: one of `AMOUNTS`.

    Raises:
        ValueError: If `size` or `data` is not such a column.
        EcgFormatError: If a row lacks the column that N or D is.
        EcgIntegrityError: If a row is there twice, or rows of one run disagree about it.
    """

    rows: tuple[RunRow, ...]
    size: str = "n_params"
    data: str = "n_unique"

    def __post_init__(self) -> None:
        for name, choices in (("size", SIZES), ("data", AMOUNTS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        seen: set[tuple[Any, ...]] = set()
        runs: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            for name in (self.size, self.data):
                if getattr(row, name) is None:
                    raise EcgFormatError(f"run {row.run_id!r} has no {name}, which this table takes for N or D")
            key = (row.run_id, *row.evaluation, row.probe_seed)
            if key in seen:
                raise EcgIntegrityError(
                    f"run {row.run_id!r} has evaluation {row.eval_id!r} twice ({row.metric}, probe {row.probe}); "
                    "give each one row"
                )
            seen.add(key)
            known, said = runs.setdefault(row.run_id, run_fields(row)), run_fields(row)
            if known != said:
                name = next(name for name in said if said[name] != known[name])
                raise EcgIntegrityError(
                    f"rows of run {row.run_id!r} disagree about {name}: {known[name]!r} and {said[name]!r}; "
                    "give each run its own run_id"
                )

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        size: str = "n_params",
        data: str = "n_unique",
        ignore: Iterable[str] = (),
    ) -> "RunTable":
        """Makes a table of dictionaries, such as those that iterating a `datasets.Dataset` gives.

        Args:
            rows: By column.
            size: Which column N is.
            data: Which column D is.
            ignore: Columns to leave out; any other that the table does not have is refused.

        Raises:
            EcgFormatError: If a row is not one of the run table.
        """
        parsed = [parse_row(raw, f"row {number}") for number, raw in enumerate(drop_columns(rows, ignore), 1)]
        return cls(tuple(parsed), size, data)

    @classmethod
    def read(
        cls, path: str | Path, *, size: str = "n_params", data: str = "n_unique", ignore: Iterable[str] = ()
    ) -> "RunTable":
        """Reads a .csv, .parquet, .json or .jsonl file; lines of a log without an evaluation are left out and counted.

        Args:
            path: Of the file.
            size: Which column N is.
            data: Which column D is.
            ignore: Columns to leave out.

        Raises:
            EcgFormatError: If the file does not hold a run table.
        """
        path = Path(path)
        raw = read_raw(path)
        if path.suffix == ".jsonl":
            raw = only_evaluations(raw, path.name)
        return cls.from_rows(raw, size=size, data=data, ignore=ignore)

    @classmethod
    def from_trackio(
        cls, path: str | Path, *, size: str = "n_params", data: str = "n_unique", ignore: Iterable[str] = ()
    ) -> "RunTable":
        """Reads a project that trackio exported to Parquet, whose runs logged rows of the run table.

        Args:
            path: Of the export.
            size: Which column N is.
            data: Which column D is.
            ignore: Columns to leave out: whatever else the project logged.

        Raises:
            EcgFormatError: If what was logged is not a run table.
        """
        return cls.from_rows(from_trackio(read_raw(Path(path))), size=size, data=data, ignore=ignore)

    def write(self, path: str | Path) -> None:
        """Writes JSON lines that `read` gives back."""
        write_lines(Path(path), map(asdict, self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> NDArray[Any]:
        """Gives a column; missing numbers are NaN, missing texts None."""
        if name not in KINDS:
            raise KeyError(f"the run table has no column {name!r}; its columns are {', '.join(KINDS)}")
        values = [getattr(row, name) for row in self.rows]
        return np.array(values, dtype=object if KINDS[name] is str else np.float64)

    def filter(self, keep: Callable[[RunRow], bool]) -> "RunTable":
        """Gives the rows for which a function is true."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    def where(self, column: str, *values: Any) -> "RunTable":
        """Gives the rows that have one of some values in a column.

        Raises:
            ValueError: If no row has.
        """
        found = np.isin(self.column(column), values)
        if not found.any():
            there = sorted({str(getattr(row, column)) for row in self.rows})
            raise ValueError(f"no row has {column} in {values}; there are {', '.join(there)}")
        return replace(self, rows=tuple(row for row, kept in zip(self.rows, found, strict=True) if kept))

    def of_tasks(self) -> "RunTable":
        """Gives the rows of whole tasks: without those of single labels, "x/y" beside "x"."""
        names = {str(row.eval_id) for row in self.rows}
        labels = {name for name in names if any(name.startswith(f"{other}/") for other in names)}
        return self.filter(lambda row: row.eval_id not in labels)

    def done(self) -> "RunTable":
        """Gives the rows of runs that are done."""
        return self.filter(lambda row: row.status == "done")

    def unfinished(self) -> tuple[str, ...]:
        """Names the runs that are not done."""
        return tuple(sorted({f"{row.run_id} ({row.status})" for row in self.rows if row.status != "done"}))

    def cells(self) -> dict[Cell, "RunTable"]:
        """Splits by family and paradigm."""
        return self._split(lambda row: (row.family, row.paradigm))

    def evaluations(self) -> dict[tuple[Any, ...], "RunTable"]:
        """Splits what is done by evaluation: eval_id, eval_group, metric, probe, probe_n, probe_dim."""
        return self.done()._split(lambda row: row.evaluation)

    def _split(self, key: Callable[[RunRow], tuple[Any, ...]]) -> dict[Any, "RunTable"]:
        parts: dict[Any, list[RunRow]] = defaultdict(list)
        for row in self.rows:
            parts[key(row)].append(row)
        return {name: replace(self, rows=tuple(rows)) for name, rows in parts.items()}

    def seed_noise(self) -> float | None:
        """Pools the standard deviation of the logarithm of the value over seeds; None if no point has two.

        A deviation is pooled over every configuration and evaluation with the freedom that it has.
        """
        parts = self.done()._split(lambda row: (row.configuration, row.evaluation, row.probe_seed)).values()
        logs = [np.log(part.column("value")) for part in parts if len(part) > 1 and _seeds_differ(part.rows)]
        if not logs:
            return None
        return float(np.sqrt(sum(each.var() * len(each) for each in logs) / sum(len(each) - 1 for each in logs)))

    def aggregate_seeds(self) -> "RunTable":
        """Gives one row per configuration and evaluation: the geometric mean over seeds and over probe subsamples.

        `value_se` becomes the standard error of that mean: the noise of a run, pooled over all points of the evaluation
        that have several seeds, over the root of the number of runs; the test set's part, which runs share, is added.
        """
        noise = {name: part.seed_noise() for name, part in self.evaluations().items()}
        parts = self.done()._split(lambda row: (row.configuration, row.evaluation))
        for part in parts.values():
            first = {row.run_id: row for row in part.rows}
            if len(first) > 1 and not _seeds_differ(tuple(first.values())):
                raise EcgIntegrityError(
                    f"runs {', '.join(sorted(first))} have one family, paradigm, objective, N, D and number of "
                    "labels but not each a seed of its own; give them seeds, or filter the table to one of them"
                )
        return replace(self, rows=tuple(_aggregate(part.rows, noise[key[1]]) for key, part in parts.items()))


def _seeds_differ(rows: tuple[RunRow, ...]) -> bool:
    seeds = [row.seed for row in rows]
    return None not in seeds and len(set(seeds)) == len(seeds)


def _aggregate(rows: tuple[RunRow, ...], noise: float | None) -> RunRow:
    logs = np.log([row.value for row in rows if row.value is not None])
    runs = {row.run_id for row in rows}
    spread = float(logs.std(ddof=1)) if len(runs) > 1 else None
    value = float(np.exp(logs.mean()))
    of_test = [row.value_se / row.value for row in rows if row.value_se is not None and row.value]
    parts = [noise / np.sqrt(len(runs))] if noise is not None else []
    parts += [float(np.mean(of_test))] if of_test else []
    changes = {
        "run_id": "+".join(sorted(runs)),
        "seed": None,
        "probe_seed": None,
        "value": value,
        "value_se": value * float(np.sqrt(np.sum(np.square(parts)))) if parts else None,
        "n_seeds": len(runs),
        "seed_sd": spread,
    }
    # one seed that did not converge taints the mean of all
    changes |= {"es_interior": False} if any(row.es_interior is False for row in rows) else {}
    changes |= {"lr_on_boundary": True} if any(row.lr_on_boundary for row in rows) else {}
    own = {"lr", "lr_on_boundary", "es_interior", "examples_seen", "epochs"} - set(changes)
    mixed = {name: None for name in own if len({getattr(row, name) for row in rows}) > 1}
    return rows[0].changed(changes | mixed)
