"""The run table, which holds every run of a study and its evaluations under one definition of N and one of D."""

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
    """A table of runs, one row per run and evaluation, checked for duplicates and contradictions.

    Args:
        rows: Rows of the table.
        size: Column that serves as N in every fit of this table, one of `SIZES`.
        data: Column that serves as D, one of `AMOUNTS`.

    Raises:
        ValueError: If `size` or `data` is not one of these columns.
        EcgFormatError: If a row has no value in the column of N or D.
        EcgIntegrityError: If two rows describe the same run and evaluation, or rows of one run disagree about the run.

    Example:
        >>> from ecg_hf.scaling import RunTable
        >>> run = {"family": "resnet", "paradigm": "sl", "n_unique": 5000}
        >>> evaluation = {"eval_id": "ptbxl", "eval_group": "id", "metric": "nll"}
        >>> sizes_and_losses = [(2e4, 0.42), (2e5, 0.31), (2e6, 0.25)]
        >>> table = RunTable.from_rows(
        ...     {"run_id": f"resnet-{n:g}", "n_params": n, "value": loss} | run | evaluation
        ...     for n, loss in sizes_and_losses
        ... )
        >>> len(table), list(table.cells())
        (3, [('resnet', 'sl')])
        >>> table.where("n_params", 2e6).column("value")
        array([0.25])
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
                    raise EcgFormatError(
                        f"run {row.run_id!r} has no {name}, the column that this table takes as N or D; fill it"
                    )
            key = (row.run_id, *row.evaluation, row.probe_seed)
            if key in seen:
                raise EcgIntegrityError(
                    f"run {row.run_id!r} has evaluation {row.eval_id!r} twice ({row.metric}, probe {row.probe}); "
                    "keep one row of each evaluation"
                )
            seen.add(key)
            first, other = runs.setdefault(row.run_id, run_fields(row)), run_fields(row)
            if first != other:
                name = next(name for name in other if other[name] != first[name])
                raise EcgIntegrityError(
                    f"rows of run {row.run_id!r} disagree about {name}: {first[name]!r} and {other[name]!r}; "
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
        """Builds a table from dictionaries, such as the rows of a `datasets.Dataset`.

        Args:
            rows: One dictionary per row, from column to value.
            size: Column that serves as N.
            data: Column that serves as D.
            ignore: Columns to leave out; every other unknown column is an error.

        Returns:
            The table.

        Raises:
            EcgFormatError: If a row has an unknown column, lacks a required one, or has a value of the wrong type.
        """
        parsed = [parse_row(raw, f"row {number}") for number, raw in enumerate(drop_columns(rows, ignore), 1)]
        return cls(tuple(parsed), size, data)

    @classmethod
    def read(
        cls, path: str | Path, *, size: str = "n_params", data: str = "n_unique", ignore: Iterable[str] = ()
    ) -> "RunTable":
        """Reads a table from a .csv, .parquet, .json or .jsonl file.

        Lines of a .jsonl log that hold no evaluation are left out, and their number is logged.

        Args:
            path: Path of the file.
            size: Column that serves as N.
            data: Column that serves as D.
            ignore: Columns to leave out.

        Returns:
            The table.

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
        """Reads the Parquet export of a trackio project whose runs logged rows of a run table.

        Args:
            path: Path of the export.
            size: Column that serves as N.
            data: Column that serves as D.
            ignore: Columns to leave out, such as other keys that the project logged.

        Returns:
            The table.

        Raises:
            EcgFormatError: If the logged rows are not those of a run table.
        """
        return cls.from_rows(from_trackio(read_raw(Path(path))), size=size, data=data, ignore=ignore)

    def write(self, path: str | Path) -> None:
        """Writes the table as JSON lines, for `read` to load.

        Args:
            path: Path of the file, which must end in .jsonl for `read`.
        """
        write_lines(Path(path), map(asdict, self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> NDArray[Any]:
        """Returns one column, shape (number of rows,); missing numbers are NaN, missing texts None.

        Raises:
            KeyError: If the run table has no such column.
        """
        if name not in KINDS:
            raise KeyError(f"the run table has no column {name!r}; its columns are {', '.join(KINDS)}")
        values = [getattr(row, name) for row in self.rows]
        return np.array(values, dtype=object if KINDS[name] is str else np.float64)

    def filter(self, keep: Callable[[RunRow], bool]) -> "RunTable":
        """Returns the table of the rows for which `keep` is true."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    def where(self, column: str, *values: Any) -> "RunTable":
        """Returns the table of the rows whose value in a column is one of `values`.

        Raises:
            ValueError: If there is no such row.
        """
        found = np.isin(self.column(column), values)
        if not found.any():
            there = sorted({str(getattr(row, column)) for row in self.rows})
            raise ValueError(f"no row has {column} in {values}; there are {', '.join(there)}")
        return replace(self, rows=tuple(row for row, kept in zip(self.rows, found, strict=True) if kept))

    def of_tasks(self) -> "RunTable":
        """Returns the table without evaluations of single labels, which are "x/y" beside a task "x"."""
        names = {str(row.eval_id) for row in self.rows}
        labels = {name for name in names if any(name.startswith(f"{other}/") for other in names)}
        return self.filter(lambda row: row.eval_id not in labels)

    def done(self) -> "RunTable":
        """Returns the table of the runs that are done."""
        return self.filter(lambda row: row.status == "done")

    def unfinished(self) -> tuple[str, ...]:
        """Lists the runs that are not done, each with its status, such as "r7 (failed)"."""
        return tuple(sorted({f"{row.run_id} ({row.status})" for row in self.rows if row.status != "done"}))

    def cells(self) -> dict[Cell, "RunTable"]:
        """Splits the table into cells, by family and paradigm."""
        return self._split(lambda row: (row.family, row.paradigm))

    def evaluations(self) -> dict[tuple[Any, ...], "RunTable"]:
        """Splits the runs that are done by evaluation: (eval_id, eval_group, metric, probe, probe_n, probe_dim)."""
        return self.done()._split(lambda row: row.evaluation)

    def _split(self, key: Callable[[RunRow], tuple[Any, ...]]) -> dict[Any, "RunTable"]:
        parts: dict[Any, list[RunRow]] = defaultdict(list)
        for row in self.rows:
            parts[key(row)].append(row)
        return {name: replace(self, rows=tuple(rows)) for name, rows in parts.items()}

    def seed_noise(self) -> float | None:
        """Returns the standard deviation of the logarithm of the value between seeds, pooled over the table.

        Each configuration and evaluation with several seeds contributes with its degrees of freedom. None if there is
        no such configuration.
        """
        parts = self.done()._split(lambda row: (row.configuration, row.evaluation, row.probe_seed)).values()
        logs = [np.log(part.column("value")) for part in parts if len(part) > 1 and _seeds_differ(part.rows)]
        if not logs:
            return None
        return float(np.sqrt(sum(each.var() * len(each) for each in logs) / sum(len(each) - 1 for each in logs)))

    def aggregate_seeds(self) -> "RunTable":
        """Averages seeds: returns one row per configuration and evaluation, with the geometric mean of its values.

        The mean runs over seeds and probe subsamples. `value_se` becomes its standard error. The variance is the sum of
        two parts: the run noise, which is pooled over the evaluation and falls with the number of runs, and the noise
        of the test set, which does not fall because all runs share the test set.

        Raises:
            EcgIntegrityError: If runs of one configuration do not have different seeds.
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
    # one seed that did not converge makes the mean doubtful
    changes |= {"es_interior": False} if any(row.es_interior is False for row in rows) else {}
    changes |= {"lr_on_boundary": True} if any(row.lr_on_boundary for row in rows) else {}
    own = {"lr", "lr_on_boundary", "es_interior", "examples_seen", "epochs"} - set(changes)
    mixed = {name: None for name in own if len({getattr(row, name) for row in rows}) > 1}
    return rows[0].changed(changes | mixed)
