"""Trials of learning rates at a few sizes, and the rule that extends the best rates to all sizes by a power of N."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_hf.errors import EcgCollapseError
from ecg_hf.evaluation.bootstrap import Values
from ecg_hf.output.files import read_json, write_json
from ecg_hf.scaling.sweep.grid import Grid
from ecg_hf.scaling.sweep.model_size import measure
from ecg_hf.scaling.sweep.points import Point
from ecg_hf.scaling.sweep.training_job import TrainingJob, identify

Cell = tuple[str, str]
VERDICT = "diverged.json"  # written by a trial whose rate was too large
# Arguments that decide when a run is given up. They do not change its numbers, but they do change the verdict.
JUDGES = ("max_nonfinite_steps", "on_collapse")


@dataclass(frozen=True)
class Trial(TrainingJob):
    """A run that tries a learning rate; a rate that is too large for the run is a result too."""

    def done(self) -> bool:
        """Returns whether the trial has a result: a trained model, or the verdict that the rate is too large."""
        return self.trained() or self.diverged()

    def diverged(self) -> bool:
        """Returns whether training diverged or collapsed because the rate was too large.

        Raises:
            ValueError: If the verdict was reached with other arguments.
        """
        if not (self.folder / VERDICT).exists():
            return False
        self.require_made_with(read_json(self.folder / VERDICT)["arguments"], self._judged())
        return True

    def do(self) -> None:
        """Trains with the rate, and writes the verdict to the run folder if the rate is too large.

        Raises:
            FloatingPointError: If training diverged.
            EcgCollapseError: If the representations collapsed.
        """
        try:
            super().do()
        except (FloatingPointError, EcgCollapseError) as error:
            self.folder.mkdir(parents=True, exist_ok=True)
            reason = f"{type(error).__name__}: {error}"
            write_json(self.folder / VERDICT, {"why": reason, "arguments": self._judged()})
            raise

    def _judged(self) -> dict[str, Any]:
        return identify(self.arguments) | {name: getattr(self.arguments, name) for name in JUDGES}

    def loss(self) -> float:
        """Returns the best validation loss; it is infinite if the rate was too large."""
        return np.inf if self.diverged() else float(read_json(self.folder / "run.json")["validation_loss"])


@dataclass(frozen=True)
class RateRule:
    """The learning rate of each size of a cell: log lr = intercept + slope log N, clipped to the tried rates.

    Args:
        best: Best rate of each tried size; these sizes keep it.
        edges: Tried sizes whose best rate is the smallest or the largest tried one.
        intercept: Intercept of the fitted line.
        slope: Slope of the fitted line; 0 if one size was tried.
        lowest: Smallest tried rate; the rule does not go below it.
        highest: Largest tried rate; the rule does not go above it.
        losses: Rates and their losses by size; a loss is the geometric mean over seeds, or None if a seed diverged.
    """

    best: dict[str, float]
    edges: tuple[str, ...]
    intercept: float
    slope: float
    lowest: float
    highest: float
    losses: dict[str, list[tuple[float, float | None]]]

    def rate(self, size: str, n_params: int) -> tuple[float, bool]:
        """Returns the learning rate of a size, and whether the tried rates should have reached further.

        Args:
            size: Key of the size.
            n_params: N of the size, its number of parameters.

        Returns:
            The rate, and True if it is less reliable: at a tried size, the best rate lies at the edge of the tried
            rates; at another size, that is true of some tried size, or the rate was clipped.
        """
        if size in self.best:
            return self.best[size], size in self.edges
        fitted = float(np.exp(self.intercept + self.slope * np.log(n_params)))
        kept = min(max(fitted, self.lowest), self.highest)
        return float(f"{kept:.3g}"), bool(self.edges) or kept != fitted


def make_trials(grid: Grid, folder: Path) -> dict[Cell, dict[str, dict[float, list[Trial]]]]:
    """Builds the trials of a grid by cell, size and rate, one per seed.

    Args:
        grid: Grid of the sweep.
        folder: Folder of the sweep.

    Returns:
        The trials; empty if the grid asks for none.
    """
    asked = grid.learning_rates
    cells = dict.fromkeys((point.family, point.objective) for point in grid.points())
    if asked is None:
        return {}
    return {
        cell: {
            size: {rate: [_trial(grid, folder, Point(*cell, size, 1.0, seed), rate) for seed in asked.seeds]
                   for rate in sorted(asked.rates)}
            for size in asked.sizes
        }
        for cell in cells
    }  # fmt: skip


def _trial(grid: Grid, folder: Path, point: Point, rate: float) -> Trial:
    assert grid.learning_rates is not None
    name = f"{point.run_id}-rate{rate:g}"
    place = folder / "rates" / name
    changes = grid.learning_rates.arguments | {"learning_rate": rate}
    return Trial(name, folder, place, grid.arguments_of(point, place, **changes))


def find_rule(trials: Mapping[str, Mapping[float, Sequence[Trial]]]) -> RateRule:
    """Computes the learning-rate rule of a cell.

    Args:
        trials: Trials of the cell by size and rate, with the rates in ascending order.

    Raises:
        FloatingPointError: If every rate was too large for a size.
    """
    best, edges, losses, sizes = {}, [], {}, []
    for size, by_rate in trials.items():
        rates = list(by_rate)
        means = np.array([_geometric_mean([trial.loss() for trial in tried]) for tried in by_rate.values()])
        if not np.isfinite(means).any():
            raise FloatingPointError(f"training diverged at every rate that was tried for {size}; try smaller ones")
        place = int(np.argmin(means))
        best[size] = rates[place]
        edges += [size] if place in (0, len(rates) - 1) else []
        losses[size] = [(rate, float(mean) if np.isfinite(mean) else None)
                        for rate, mean in zip(rates, means, strict=True)]  # fmt: skip
        sizes.append(measure(by_rate[rates[place]][0].arguments).n_params)
    line = _fit_line(np.log(sizes), np.log(list(best.values())))
    return RateRule(best, tuple(edges), *line, rates[0], rates[-1], losses)


def _geometric_mean(losses: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(losses))))


def _fit_line(x: Values, y: Values) -> tuple[float, float]:
    if len(np.unique(x)) < 2:
        return float(y.mean()), 0.0
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)


def describe_rules(rules: Mapping[Cell, RateRule]) -> dict[str, Any]:
    """Returns the rules as values for JSON, keyed by family and objective."""
    return {
        f"{family} {objective}": {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(rule).items()
        }
        for (family, objective), rule in rules.items()
    }


def all_trials(trials: Mapping[Cell, Mapping[str, Mapping[float, Sequence[Trial]]]]) -> list[Trial]:
    """Lists the trials of all cells."""
    by_rate = [tried for by_size in trials.values() for rates in by_size.values() for tried in rates.values()]
    return [trial for tried in by_rate for trial in tried]
