"""Profile likelihoods: what the data say against each value of one parameter, the others free."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from ecg_hf.scaling.fitting.fit import Problem, dispersion, pose, solve
from ecg_hf.scaling.fitting.intervals import CONFIDENCE
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values

_NUM_GRID = 51
_NUM_COARSE = 41
_WIDE = 4.0  # how far beyond the limit the drawn grid reaches
_NUM_STARTS = 4


@dataclass(frozen=True, eq=False)
class Profile:
    """The objective along one parameter.

    Args:
        fit: Whose parameter it is.
        name: Letter of the parameter.
        grid: Values of it, rising, the fit's among them.
        deviance: Twice the rise of the objective in units of the noise; the likelihood-ratio statistic.
        low: Lower end of the interval; the end of the grid if open.
        high: Upper end.
        open_low: Whether no value of the grid below the fit's is refused.
        open_high: Whether none above is.
        confidence: Of the interval.
    """

    fit: Fit
    name: str
    grid: Values
    deviance: Values
    low: float
    high: float
    open_low: bool
    open_high: bool
    confidence: float

    def __str__(self) -> str:
        low = f"below {self.low:.3g}, open" if self.open_low else f"{self.low:.3g}"
        high = f"above {self.high:.3g}, open" if self.open_high else f"{self.high:.3g}"
        return f"{self.name}: {self.fit.params[self.name]:.3g} (profile, {100 * self.confidence:.0f} % {low} to {high})"


def profile(fit: Fit, name: str, num: int = _NUM_GRID, confidence: float = CONFIDENCE) -> Profile:
    """Refits a law with one parameter held at each value of a grid.

    A percentile interval is always finite; only a profile can say that the data refuse no value on one side.

    Args:
        fit: To profile.
        name: Letter of a level, an exponent, or an amplitude whose exponents are given.
        num: How many values; odd, so that the fit's is the middle one.
        confidence: Of the interval.

    Raises:
        ValueError: If the parameter is not of the law, was given, or moves with an exponent that is free.

    Source:
        Venzon and Moolgavkar 1988; for a robust objective, Huber and Ronchetti 2009, section 7.6.
    """
    law, problem = fit.law, pose(fit)
    if name not in law.parameters or name in fit.fixed:
        free = [each for each in law.parameters if each not in fit.fixed]
        raise ValueError(f"cannot profile {name!r}; the parameters sought were {', '.join(free)}")
    num += 1 - num % 2
    if name in law.offsets({each: np.ones(1) for each in law.parameters}, fit.frame):
        raise ValueError(f"cannot profile the amplitude {name}, which means nothing without its exponent; profile that")
    column = law.parameters.index(name)
    middle = float(np.clip(fit.theta[column], problem.low[column], problem.high[column]))
    limit, noise = float(chi2.ppf(confidence, 1)), _noise(problem, fit)
    working = _grid(middle, float(problem.low[column]), float(problem.high[column]), _NUM_COARSE)
    rise = 2 * (_along(problem, fit, column, working) - fit.objective) / noise
    near = np.flatnonzero(rise < _WIDE * limit)
    low, high = working[[max(near[0] - 1, 0), min(near[-1] + 1, len(working) - 1)]]
    working = _grid(middle, float(low), float(high), num)
    objective = _along(problem, fit, column, working)
    deviance = 2 * (objective - min(fit.objective, float(objective.min()))) / noise
    unit = law.unit(name, fit.frame) if name in law.levels else 1.0
    grid = working * unit if name in law.levels or name in law.exponents else np.exp(working)
    place = num // 2
    low_end, open_low = _end(grid[place::-1], deviance[place::-1], limit)
    high_end, open_high = _end(grid[place:], deviance[place:], limit)
    return Profile(fit, name, grid, deviance, low_end, high_end, open_low, open_high, confidence)


def _along(problem: Problem, fit: Fit, column: int, working: Values) -> Values:
    """Gives the least objective with one coordinate held at each value, from the fit and from other valleys."""
    starts = np.vstack([fit.theta[None], problem.starts(_NUM_STARTS)])
    held = np.eye(len(fit.theta))[column] > 0
    low, high = (
        np.tile(np.where(held, working[:, None], side), (len(starts), 1)) for side in (problem.low, problem.high)
    )
    begin = np.where(held, working[:, None], starts[:, None]).reshape(-1, len(fit.theta))
    objective = solve(replace(problem, low=low, high=high), begin, fit.delta)[1]
    return np.asarray(objective.reshape(len(starts), -1).min(axis=0))


def _noise(problem: Problem, fit: Fit) -> float:
    """Gives what the objective rises by chance; of least squares, the variance of the residuals."""
    inside = float(np.average(np.abs(fit.residuals) <= fit.delta, weights=fit.weights))
    found = dispersion(problem, fit.theta, fit.delta) * max(inside, 1 / fit.num_points)
    return max(found, float(np.finfo(float).tiny))


def _grid(middle: float, low: float, high: float, num: int) -> Values:
    """Spreads values over an interval, denser near the middle, which is one of them."""
    high = min(high, middle + 8 * max(abs(middle), 0.1)) if high > 1e6 else high
    ramp = np.linspace(0, 1, num // 2 + 1)[1:] ** 1.5
    return np.concatenate([(middle - (middle - low) * ramp)[::-1], [middle], middle + (high - middle) * ramp])


def _end(grid: Values, deviance: Values, limit: float) -> tuple[float, bool]:
    """Walks from the fit outwards to where the deviance, whose root is nearly a line, crosses the limit."""
    beyond = np.flatnonzero(deviance > limit)
    if not len(beyond):
        return float(grid[-1]), True
    place = beyond[0]
    if place == 0:
        return float(grid[0]), False
    inner, outer = np.sqrt(np.maximum(deviance[place - 1 : place + 1], 0))
    share = (np.sqrt(limit) - inner) / (outer - inner)
    return float(grid[place - 1] + share * (grid[place] - grid[place - 1])), False
