"""The points that a law is fitted to: inputs, losses, standard errors and clusters, from a run table or columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.scaling.laws.base import Law, Values
from ecg_hf.scaling.table.row import KINDS, METRICS, PASSES, REQUIRED, RunRow
from ecg_hf.scaling.table.run_table import RunTable

# Names of the columns that may hold an input, those of the run table first.
NAMES = {
    "N": ("n_params", "n_params_nonembed", "n_params_total", "N"),
    "D": ("n_unique", "n_patients", "D"),
    "S": ("examples_seen", "S"),
    "K": ("n_labels", "K"),
    "C": ("compute", "C"),
    "X": ("x_loss", "X"),
}
_LETTERS = {name: letter for letter, names in NAMES.items() for name in names}
_LOSSES = ("value", "L", "loss")
_OF_TABLE = {*REQUIRED, "eval_id"}
CHANCE_SHARE = 0.95
ENOUGH_DECADES = 1.5


@dataclass(frozen=True, eq=False)
class Points:
    """The points that a law is fitted to.

    Args:
        letters: Letters of the inputs: N, D, S (records seen), K (labels), C (FLOP of training), X (another loss).
        columns: Names of the columns of the inputs; two fits are compared only if these agree.
        inputs: Inputs, not their logarithms, shape (K, n).
        loss: Losses, shape (n,).
        loss_name: Name of the loss.
        relative_se: Standard errors of the logarithms of the losses, shape (n,); None if unknown.
        clusters: Number of the configuration of each point, shape (n,). The bootstrap draws the points of a
            configuration, its seeds, together.
        cell: Family and paradigm of the runs, or another name of the points.
        chance: Loss of a model that knows only the prevalence; infinite if unknown.
        notes: Remarks on the points for the reader of a fit.
    """

    letters: tuple[str, ...]
    columns: tuple[str, ...]
    inputs: Values
    loss: Values
    loss_name: str = "loss"
    relative_se: Values | None = None
    clusters: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    cell: str = ""
    chance: float = np.inf
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (*zip(self.columns, self.inputs, strict=True), (self.loss_name, self.loss)):
            bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if len(bad):
                raise ValueError(
                    f"every {name} must be a positive finite number, got {values[bad[0]]} at point {bad[0]}; "
                    "leave that run out and state why"
                )
        if not len(self.clusters):
            object.__setattr__(self, "clusters", np.arange(len(self.loss)))

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, rows: NDArray[Any]) -> "Points":
        """Returns the points at some positions.

        Args:
            rows: Positions, or a mask, of the points to keep.
        """
        se = None if self.relative_se is None else self.relative_se[rows]
        clusters = np.unique(self.clusters[rows], return_inverse=True)[1]
        return replace(self, inputs=self.inputs[:, rows], loss=self.loss[rows], relative_se=se, clusters=clusters)

    def remarks(self) -> tuple[str, ...]:
        """Lists the notes, the inputs that span too narrow a range for a law, and whether a loss is near chance."""
        found = list(self.notes)
        for letter, values in zip(self.letters, self.inputs, strict=True):
            decades = float(np.log10(values.max() / values.min()))
            if decades < ENOUGH_DECADES:
                found.append(f"{letter} spans {decades:.2f} decades only (at least {ENOUGH_DECADES} for an exponent)")
        if self.loss.max() > CHANCE_SHARE * self.chance:
            found.append(
                f"the largest loss, {self.loss.max():.4g}, is near chance ({self.chance:.4g}), where no power law holds"
            )
        return tuple(found)


def gather(data: object, law: Law, x: Sequence[str] | None, y: str | None) -> Points:
    """Collects the points of a law from a run table or from columns.

    Args:
        data: One of: `Points`; a `RunTable` of one cell and one evaluation; columns by name, in a mapping, a data frame
            or a dataset. Columns have the names of the run table, or the letters N, D, S, K, C and "value", "loss" or
            "L". Columns that include run_id, family, paradigm, n_params, n_unique and eval_id are read as a run table.
        law: Law that the points are for.
        x: Columns or letters of the inputs, in the law's order; None takes the law's own letters.
        y: Column of the loss; None takes "value", "loss" or "L".

    Returns:
        The points.

    Raises:
        ValueError: If a column is missing, columns differ in length, a value is not positive and finite, or a table
            has several cells or evaluations.
        TypeError: If the data are of another type.
        EcgFormatError: If the columns are read as a run table and a row is not a valid row of one.
    """
    wanted = tuple(x) if x is not None else law.inputs
    if len(wanted) != len(law.inputs):
        raise ValueError(f"{law.name} takes {len(law.inputs)} inputs ({', '.join(law.inputs)}), got {list(wanted)}")
    if isinstance(data, Points):
        return _matching(data, wanted)
    if isinstance(data, RunTable):
        return _of_table(data, wanted, y or "value")
    if not hasattr(data, "__getitem__"):
        raise TypeError(f"expected a RunTable, Points or columns by name, got a {type(data).__name__}")
    there = _names(data)
    if set(there) >= _OF_TABLE:
        return _of_table(_as_table(data, there), wanted, y or "value")
    return _of_columns(data, there, wanted, y)


def _matching(points: Points, wanted: tuple[str, ...]) -> Points:
    letters = tuple(_LETTERS.get(name, name) for name in wanted)
    missing = [letter for letter in letters if letter not in points.letters]
    if missing:
        raise ValueError(f"the points have {', '.join(points.letters)}, not {', '.join(missing)}; gather them again")
    places = [points.letters.index(letter) for letter in letters]
    columns = tuple(points.columns[place] for place in places)
    return replace(points, letters=letters, columns=columns, inputs=points.inputs[places])


def _names(data: Any) -> list[Any]:
    for attribute in ("column_names", "columns"):
        found = getattr(data, attribute, None)
        if found is not None:
            return list(found)
    return list(data)


def _of_columns(data: Any, there: list[Any], wanted: tuple[str, ...], y: str | None) -> Points:
    names = [_find(there, (name,) if name not in NAMES else NAMES[name]) for name in wanted]
    loss = _find(there, (y,) if y else _LOSSES)
    columns = [np.atleast_1d(np.asarray(data[name], dtype=np.float64)) for name in (*names, loss)]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim > 1:
        shapes = ", ".join(f"{name} {c.shape}" for name, c in zip((*names, loss), columns, strict=True))
        raise ValueError(f"inputs and losses must be columns of one length, got {shapes}")
    _one_evaluation(data, there)
    letters = tuple(_LETTERS.get(name, name) for name in wanted)
    inputs = np.stack(columns[:-1])
    # without the columns of a configuration, runs with the same inputs count as seeds of one configuration
    same = np.unique(inputs, axis=1, return_inverse=True)[1].ravel()
    clusters = same if "run_id" in there else np.zeros(0, np.intp)
    return Points(letters, tuple(names), inputs, columns[-1], loss, _errors(data, there, columns[-1]), clusters)


def _errors(data: Any, there: list[Any], loss: Values) -> Values | None:
    if "value_se" not in there:
        return None
    se = np.asarray(data["value_se"], dtype=np.float64)
    if not (np.isfinite(se) & (se > 0)).all():
        bad = se[~(np.isfinite(se) & (se > 0))][0]
        raise ValueError(f"every value_se must be a positive finite number, got {bad}; leave the column out")
    return se / loss


def _one_evaluation(data: Any, there: list[Any]) -> None:
    named = sorted({str(name) for name in np.asarray(data["eval_id"]).tolist()}) if "eval_id" in there else []
    if len(named) > 1:
        raise ValueError(f"a law needs losses of one evaluation, got {', '.join(named)}; keep the rows of one eval_id")


def _as_table(data: Any, there: list[Any]) -> RunTable:
    columns = {name: np.asarray(data[name]).tolist() for name in there if name in KINDS}
    rows = zip(*columns.values(), strict=True)
    return RunTable.from_rows(dict(zip(columns, row, strict=True)) for row in rows)


def _find(there: list[Any], names: tuple[str, ...]) -> str:
    found = [name for name in names if name in there]
    if not found:
        raise ValueError(f"expected a column {' or '.join(names)}, got {', '.join(map(str, there))}; name it in x or y")
    if len(found) > 1:
        raise ValueError(f"several columns could be the one to use ({', '.join(found)}); name one in x or y")
    return found[0]


def _of_table(table: RunTable, wanted: tuple[str, ...], y: str) -> Points:
    # sorted, so that fits of the same runs on different evaluations have their points in the same order
    done = replace(table, rows=tuple(sorted(table.done().rows, key=lambda row: (row.run_id, row.probe_seed or 0))))
    columns = tuple(_column(done, name) for name in wanted)
    _of_one_kind(done.rows, columns)
    inputs = np.stack([_input(done, name) for name in columns])
    loss = done.column(y)
    row = done.rows[0]
    metrics = sorted({str(row.metric) for row in done.rows})
    _refuse_scores(metrics)
    clusters = np.unique([str(row.configuration) for row in done.rows], return_inverse=True)[1]
    chances = {row.chance for row in done.rows if row.chance is not None}
    return Points(
        tuple(_LETTERS[name] for name in columns),
        columns,
        inputs,
        loss,
        _loss_name(row),
        _relative_se(done),
        clusters,
        f"{row.family} {row.paradigm}",
        min(chances, default=np.inf),
        _notes(table, done),
    )


def _of_one_kind(rows: Sequence[RunRow], columns: tuple[str, ...]) -> None:
    kinds: dict[str, set[tuple[Any, ...]]] = {
        "evaluation": {row.evaluation for row in rows},
        "family, paradigm and objective": {(row.family, row.paradigm, row.objective) for row in rows},
    }
    if "n_labels" not in columns:
        kinds["number of labels"] = {(label_text(row.n_labels),) for row in rows}
    for what, found in kinds.items():
        if len(found) != 1:
            named = [" ".join(str(part) for part in kind if part is not None) for kind in sorted(found, key=str)]
            raise ValueError(
                f"a law needs runs of one {what}, got {len(found)} ({'; '.join(named) or 'no run that is done'}); "
                f"choose with table.where(column, value), or keep only the rows of one {what}"
            )


def label_text(number: float | None) -> str:
    """Returns a number of labels in words, such as "6 labels"."""
    if number is None:
        return "an unknown number of labels"
    return f"{number:g} label{'' if number == 1 else 's'}"


def _refuse_scores(metrics: list[str]) -> None:
    rising = [name for name in metrics if not METRICS[name]]
    if rising:
        raise ValueError(f"a law falls towards a loss, but {rising[0]} is better when higher; fit nll or ne instead")


def _column(table: RunTable, name: str) -> str:
    return {"N": table.size, "D": table.data, "S": "examples_seen", "K": "n_labels", "C": "compute"}.get(name, name)


def _input(table: RunTable, name: str) -> Values:
    if name != "compute":
        return table.column(name)
    return np.asarray(PASSES * table.column("flops_fwd") * table.column("examples_seen"))


def _relative_se(table: RunTable) -> Values | None:
    """Returns the standard errors of the log losses; None if the run noise is unknown.

    Standard errors of the test set alone would claim that runs have no noise.
    """
    se = table.column("value_se") / table.column("value")
    seeds = [row.n_seeds for row in table.rows]
    if None not in seeds:
        # if no configuration has several seeds, an aggregated row has only the standard error of the test set
        several = any(num is not None and num > 1 for num in seeds)
        return se if several and np.isfinite(se).all() else None
    noise = table.seed_noise()
    if noise is None:
        return None
    return np.sqrt(noise**2 + np.where(np.isfinite(se), se, 0.0) ** 2)


def _loss_name(row: RunRow) -> str:
    """Returns the name of the loss of a row; in distribution it includes the objective, as each has its own loss."""
    own = f" ({row.objective or row.paradigm})" if row.eval_group == "id" else ""
    probe = "" if row.probe == "none" else f", {row.probe} probe" + (f" on {row.probe_n:g}" if row.probe_n else "")
    probe += f", {row.probe_dim:g} features" if row.probe_dim else ""
    return f"{row.metric} of {row.eval_id}{own}{probe}"


def _notes(table: RunTable, done: RunTable) -> tuple[str, ...]:
    found, num = [], len({row.run_id for row in done.rows})
    if table.unfinished():
        names = ", ".join(table.unfinished())
        found.append(f"not done and left out: {names}")
    last = {row.run_id for row in done.rows if row.es_interior is False}
    if last:
        found.append(f"best at the last step, so perhaps not converged: {len(last)} of {num} points")
    edge = {row.run_id for row in done.rows if row.lr_on_boundary}
    if edge:
        found.append(f"learning rate at the edge of its sweep: {len(edge)} of {num} points")
    return tuple(found)
