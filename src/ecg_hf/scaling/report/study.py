"""A whole study: the law of every cell on every evaluation, with all that says how far to trust it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ecg_hf.errors import EcgError
from ecg_hf.scaling.comparison.bottleneck import Bottleneck, bottleneck
from ecg_hf.scaling.comparison.flops import FlopsModel
from ecg_hf.scaling.comparison.frontier import Frontier, frontier
from ecg_hf.scaling.fitting.cell_fit import FORMS, LINES, Delta, check_form, fit_cell, sensitivity
from ecg_hf.scaling.fitting.choice import Choice, Holdout, compare, holdout
from ecg_hf.scaling.fitting.fit import fit
from ecg_hf.scaling.fitting.intervals import Boot, bootstrap
from ecg_hf.scaling.fitting.points import label_text
from ecg_hf.scaling.fitting.profiles import Profile, profile
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.names import get
from ecg_hf.scaling.table.macro import macro
from ecg_hf.scaling.table.row import METRICS, RunRow
from ecg_hf.scaling.table.run_table import RunTable

Evaluation = tuple[Any, ...]
Cell = tuple[str, str, str]

_PROFILED = ("E", "alpha", "beta", "gamma")
_NUM_BUDGETS = 12
_ALIKE = 1.5  # largest over smallest below which a median stands for all runs


@dataclass(frozen=True, eq=False)
class CellLaw:
    """The law of one cell on one evaluation.

    Args:
        cell: Family, paradigm and objective, with the number of labels where runs of the study differ in it.
        evaluation: As `RunRow.evaluation`.
        table: Its rows.
        boot: Of the law that is reported.
        choices: All forms that could be fitted, the best by AICc first.
        holdouts: Predictions of the largest runs.
        refused: Why a largest run could not be held out, one sentence each.
        profiles: Of the constant and the exponents.
        sensitivity: Parameters under other choices, by what was changed.
        bottleneck: What limits the loss; None for a law of one input.
        frontier: Of compute; None without costs.
        why: Why the law is of these inputs.
        no_frontier: Why there is no frontier.
    """

    cell: Cell
    evaluation: Evaluation
    table: RunTable
    boot: Boot
    choices: list[Choice]
    holdouts: list[Holdout]
    refused: list[str]
    profiles: list[Profile]
    sensitivity: dict[str, dict[str, float]]
    bottleneck: Bottleneck | None
    frontier: Frontier | None
    why: str
    no_frontier: str = ""

    @property
    def fit(self) -> Fit:
        """The law that is reported."""
        return self.boot.fit

    @property
    def name(self) -> str:
        """Names the cell."""
        return _name(self.cell)


def _name(cell: Cell) -> str:
    return " ".join(dict.fromkeys(cell))


@dataclass(eq=False)
class Study:
    """The laws of a run table.

    Args:
        table: All rows.
        laws: By evaluation and cell.
        missing: Why a cell has no law on an evaluation, and what a mean over tasks leaves out.
        num_replicates: Of each bootstrap.
        seed: Of the bootstraps.
        form: Of the law that was asked for.
        delta: As in `fitting.fit`.
    """

    table: RunTable
    laws: dict[Evaluation, dict[Cell, CellLaw]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    num_replicates: int = 1000
    seed: int = 0
    form: str = "chinchilla"
    delta: Delta = "auto"

    def each(self) -> Iterator[CellLaw]:
        """Goes through all laws."""
        for laws in self.laws.values():
            yield from laws.values()


def analyse(
    table: RunTable,
    *,
    form: str = "chinchilla",
    num_replicates: int = 1000,
    seed: int = 0,
    delta: Delta = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Study:
    """Fits every cell on every evaluation whose metric is a loss, and on the mean of the normalised entropies.

    Args:
        table: All runs of the study.
        form: Of the law of N and D that is reported, the same for all cells; others are compared with it. A cell
            whose runs vary only one of the two gets "pow+E" of that one, and the report says so. "saturating" is one
            of N alone, or of D alone.
        num_replicates: Of each bootstrap.
        seed: Of all bootstraps, so that laws of the same runs have the same resamples.
        delta: As in `fitting.fit`.
        say: Takes a line of progress.

    Raises:
        ValueError: If the form is not one of `REPORTED`, it needs a column that the table does not have, or delta is
            not positive.
    """
    check_form(form, delta, table)
    study = Study(table, num_replicates=num_replicates, seed=seed, form=form, delta=delta)
    cell_of = _name_cells(table.done(), by_labels="K" not in get(form).inputs)
    for evaluation, part in _evaluations(table, study).items():
        for cell, mine in _cells(part, cell_of).items():
            try:
                law = _analyse_cell(cell, evaluation, _seeds_as_one(mine), study)
            except (ValueError, EcgError) as error:
                study.missing.append(f"{_name(cell)}, {evaluation[2]} of {evaluation[0]}: {error}")
                continue
            study.laws.setdefault(evaluation, {})[cell] = law
            say(str(law.fit))
    return study


def _name_cells(table: RunTable, by_labels: bool) -> Callable[[RunRow], Cell]:
    """Gives what names a row's cell; the whole table decides, so that a cell has one name on every evaluation."""
    labels: dict[tuple[str, str | None], set[float | None]] = {}
    for row in table.rows:
        labels.setdefault((row.paradigm, row.objective), set()).add(row.n_labels)

    def cell_of(row: RunRow) -> Cell:
        several = by_labels and len(labels[row.paradigm, row.objective]) > 1
        objective = row.objective or ""
        return row.family, row.paradigm, f"{objective} with {label_text(row.n_labels)}" if several else objective

    return cell_of


def _cells(table: RunTable, cell_of: Callable[[RunRow], Cell]) -> dict[Cell, RunTable]:
    rows: dict[Cell, list[RunRow]] = {}
    for row in table.rows:
        rows.setdefault(cell_of(row), []).append(row)
    return {cell: replace(table, rows=tuple(mine)) for cell, mine in rows.items()}


def _seeds_as_one(table: RunTable) -> RunTable:
    """Makes seeds, of runs and of probes, one point where they are known."""
    known = any(row.seed is not None or row.probe_seed is not None for row in table.rows)
    return table.aggregate_seeds() if known else table


def _evaluations(table: RunTable, study: Study) -> dict[Evaluation, RunTable]:
    """Splits by evaluation, and adds the macro averages of each group that has several tasks in normalised entropy."""
    parts = {key: part for key, part in table.evaluations().items() if METRICS[str(key[2])]}
    for group in ("ood_seen", "ood_unseen"):
        try:
            found = macro(table, group)
        except EcgError as error:
            study.missing.append(f"macro {group}: {error}")
            continue
        parts |= found.table.evaluations()
        study.missing += found.missing
    return parts


def _analyse_cell(cell: Cell, evaluation: Evaluation, table: RunTable, study: Study) -> CellLaw:
    fitted, mine, why = fit_cell(table, study.form, study.delta)
    # of a family and paradigm there may be several cells, which figures must not give one name
    fitted = replace(fitted, points=replace(fitted.points, cell=_name(cell)))
    boot = bootstrap(fitted, study.num_replicates, seed=study.seed)
    letters = fitted.points.letters
    front, no_front = _frontier(mine, boot)
    holdouts, refused = [], []
    for letter in letters:
        try:
            holdouts.append(holdout(fitted, f"largest {letter}"))
        except ValueError as error:
            refused.append(f"held out largest {letter}: {error}")
    free = [name for name in fitted.params if name in _PROFILED and name not in fitted.fixed]
    return CellLaw(
        cell,
        evaluation,
        mine,
        boot,
        compare([fitted, *_others(mine, fitted, study.delta)]),
        holdouts,
        refused,
        [profile(fitted, name) for name in free],
        sensitivity(mine, fitted, study.delta),
        bottleneck(boot) if letters == ("N", "D") else None,
        front,
        why,
        no_front,
    )


def _others(table: RunTable, fitted: Fit, delta: Delta) -> list[Fit]:
    """Fits the other forms of the same inputs; one that the runs do not allow is not among the choices."""
    found = []
    x = fitted.points.letters
    for form in FORMS if len(x) > 1 else LINES:
        if form == fitted.form:
            continue
        try:
            found.append(fit(table, form, x=x[:2], delta=delta))
        except ValueError:
            continue
    chance, alone = fitted.points.chance, len(x) == 1 and fitted.form != "saturating"
    if alone and fitted.points.loss.min() < chance < np.inf and fitted.num_points > 5:
        found.append(fit(table, "saturating", x=x, delta=delta, fix={"L0": chance}))
    return found


def _frontier(table: RunTable, boot: Boot) -> tuple[Frontier | None, str]:
    """Spends what the cell's cheapest to dearest runs cost, on the terms that they had; or says why it cannot."""
    if boot.fit.points.letters != ("N", "D"):
        return None, ""
    seen, flops, amounts = (table.column(name) for name in ("examples_seen", "flops_fwd", table.data))
    if not (np.isfinite(seen).all() and np.isfinite(flops).all()):
        return None, "no frontier without examples_seen and flops_fwd of every run"
    epochs = seen / amounts
    fixed, constant = (each.max() / each.min() < _ALIKE for each in (epochs, seen))
    if not (fixed or constant):
        return None, (
            f"no frontier, because neither the epochs ({epochs.min():.3g} to {epochs.max():.3g}) nor the records seen "
            f"({seen.min():.3g} to {seen.max():.3g}) are alike in all runs, so N and D do not say what a run costs"
        )
    model = FlopsModel.of(table)
    spent = model.training(table.column(table.size), seen)
    return frontier(
        boot,
        model,
        np.geomspace(spent.min(), spent.max(), _NUM_BUDGETS).tolist(),
        epochs=float(np.median(epochs)),
        examples=None if fixed else float(np.median(seen)),
        max_data=float(amounts.max()),
        extrapolate=True,
    ), ""
