"""The study, which holds the law of every cell on every evaluation, with the checks of how far to trust it."""

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
_ALIKE = 1.5  # ratio of the largest to the smallest value below which the median stands for all runs


@dataclass(frozen=True, eq=False)
class CellLaw:
    """The law of one cell on one evaluation.

    Args:
        cell: Family, paradigm and objective, with the number of labels if the runs of the study differ in it.
        evaluation: Evaluation, as in `RunRow.evaluation`.
        table: Rows that the law was fitted to.
        boot: Bootstrap of the reported law.
        choices: All forms that could be fitted, the best by AICc first.
        holdouts: Predictions of the largest runs from the rest.
        refused: Reasons why the largest runs could not be held out, one sentence each.
        profiles: Profile likelihoods of the constant and the exponents.
        sensitivity: Parameters under other choices in fitting, by a text that describes the choice.
        bottleneck: Bottleneck at the largest N and D; None unless the law has exactly these inputs.
        frontier: Frontier of compute; None if it cannot be computed.
        why: Reason for the inputs of the law.
        no_frontier: Reason why there is no frontier; empty if there is one, or the law is not one of N and D.
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
        """The reported law."""
        return self.boot.fit

    @property
    def name(self) -> str:
        """Name of the cell."""
        return _name(self.cell)


def _name(cell: Cell) -> str:
    return " ".join(dict.fromkeys(cell))


@dataclass(eq=False)
class Study:
    """The laws of a run table.

    Args:
        table: All rows of the run table.
        laws: Laws by evaluation and cell.
        missing: Sentences on cells without a law, and on tasks and runs that a mean over tasks leaves out.
        num_replicates: Number of replicates of each bootstrap.
        seed: Seed of the bootstraps.
        form: Name of the form that was asked for.
        delta: Delta of Huber's loss, or "auto"; see `fit`.
    """

    table: RunTable
    laws: dict[Evaluation, dict[Cell, CellLaw]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    num_replicates: int = 1000
    seed: int = 0
    form: str = "chinchilla"
    delta: Delta = "auto"

    def each(self) -> Iterator[CellLaw]:
        """Yields all laws, evaluation by evaluation."""
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
    """Fits a law to every cell on every evaluation whose metric is a loss, and on every macro average.

    Args:
        table: Run table of the study.
        form: Name of the reported form, the same for all cells; other forms are compared with it. A cell whose runs
            vary only N, or only D, gets the form "pow+E" of that input, and the report mentions it. The form
            "saturating" has one input, N or D.
        num_replicates: Number of replicates of each bootstrap.
        seed: Seed of all bootstraps, so that laws of the same runs have the same resamples.
        delta: Delta of Huber's loss, or "auto"; see `fit`.
        say: Function that is called with a line of progress for each law.

    Returns:
        The study.

    Raises:
        ValueError: If the form is not one of `REPORTED`, needs a column that the table does not have, or delta is
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
    """Returns the function from a row to its cell; the whole table decides, so that names agree over evaluations."""
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
    """Averages over the seeds of runs and of probes, if the table has any."""
    known = any(row.seed is not None or row.probe_seed is not None for row in table.rows)
    return table.aggregate_seeds() if known else table


def _evaluations(table: RunTable, study: Study) -> dict[Evaluation, RunTable]:
    """Splits a table by evaluation, and adds the macro averages of each group out of distribution that has any."""
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
    # a family and paradigm may have several cells, whose names must differ in figures
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
    """Fits the other forms of the same inputs, except those that the runs do not allow."""
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
    """Computes the frontier over the range of the runs' costs, or returns the reason why there is none."""
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
            f"({seen.min():.3g} to {seen.max():.3g}) are alike in all runs, so N and D do not determine a run's cost"
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
