"""Profile likelihoods: what the data say against each value of one parameter, the others free."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from ecg_hf.scaling.fitting import dispersion, pose, solve
from ecg_hf.scaling.intervals import CONFIDENCE
from ecg_hf.scaling.law import Values
from ecg_hf.scaling.result import Fit

_NUM_GRID = 61
_NUM_STARTS = 8


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
        num: How many values.
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
    if name in law.offsets({each: np.ones(1) for each in law.parameters}, fit.frame):
        raise ValueError(f"cannot profile the amplitude {name}, which means nothing without its exponent; profile that")
    column = law.parameters.index(name)
    unit = law.unit(name, fit.frame) if name in law.levels else 1.0
    working = _grid(fit, float(problem.low[column]), float(problem.high[column]), column, num)
    held = np.repeat(np.eye(len(fit.theta))[column][None] > 0, num, axis=0)
    starts = np.vstack([fit.theta[None], problem.starts(_NUM_STARTS)])
    objective = np.full(num, np.inf)
    for start in starts:
        low, high = (np.where(held, working[:, None], side) for side in (problem.low, problem.high))
        part = replace(problem, low=low, high=high)
        objective = np.minimum(objective, solve(part, np.where(held, working[:, None], start), fit.delta)[1])
    least = min(fit.objective, float(objective.min()))
    noise = dispersion(problem, fit.theta, fit.delta) or np.finfo(float).tiny
    # for least squares this is n - p times the share by which the sum of squares rises
    inside = np.average(np.abs(fit.residuals) <= fit.delta, weights=fit.weights)
    deviance = 2 * (objective - least) / (noise * max(float(inside), 1 / fit.num_points))
    grid = working * unit if name in law.levels or name in law.exponents else np.exp(working)
    limit = float(chi2.ppf(confidence, 1))
    place = int(np.argmin(np.abs(working - fit.theta[column])))
    low_end, open_low = _end(grid[: place + 1][::-1], deviance[: place + 1][::-1], limit)
    high_end, open_high = _end(grid[place:], deviance[place:], limit)
    return Profile(fit, name, grid, deviance, low_end, high_end, open_low, open_high, confidence)


def _grid(fit: Fit, low: float, high: float, column: int, num: int) -> Values:
    """Spreads values over the bounds, most of them near the fit's, which is one."""
    middle = float(np.clip(fit.theta[column], low, high))
    high = min(high, middle + 8 * max(abs(middle), 0.1)) if high > 1e6 else high
    ramp = np.linspace(0, 1, num // 2 + 1)[1:] ** 2
    return np.concatenate([(middle - (middle - low) * ramp)[::-1], [middle], middle + (high - middle) * ramp])[:num]


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
