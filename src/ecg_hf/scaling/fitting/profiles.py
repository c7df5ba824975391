"""Profile likelihoods, which hold one parameter at each value of a grid and refit the rest."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from ecg_hf.scaling.fitting.fit import Problem, dispersion, pose, solve
from ecg_hf.scaling.fitting.intervals import CONFIDENCE
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values

_NUM_GRID = 51
_NUM_COARSE = 41
_WIDE = 4.0  # deviance up to which the final grid reaches, in units of the limit
_NUM_STARTS = 4


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile of one parameter: the least objective at each of its values, and the interval that follows.

    Args:
        fit: Fit that was profiled.
        name: Letter of the parameter.
        grid: Values of the parameter, rising; the middle one is the fitted value.
        deviance: Twice the rise of the objective in units of the noise, a likelihood-ratio statistic.
        low: Lower end of the interval; the end of the grid if the interval is open there.
        high: Upper end of the interval; the end of the grid if the interval is open there.
        open_low: Whether the data reject no value below the fitted one.
        open_high: Whether the data reject no value above the fitted one.
        confidence: Confidence level of the interval.
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
    """Profiles one parameter: refits the law with the parameter held at each value of a grid.

    A percentile interval is always finite. Only a profile shows that the data reject no value on one side.

    Args:
        fit: Fit to profile.
        name: Letter of a level such as E, an exponent, or a rate such as R_D*; not of an amplitude.
        num: Number of values; an even number is raised by one, so that the fitted value is the middle one.
        confidence: Confidence level of the interval.

    Returns:
        The profile with its interval.

    Raises:
        ValueError: If the law has no such parameter, or the parameter was given or is an amplitude.

    Source:
        Venzon and Moolgavkar 1988; for a robust objective, Huber and Ronchetti 2009, section 7.6.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import fit, profile
        >>> n = np.geomspace(2e4, 2e7, 8)
        >>> noise = 1 + 0.01 * np.random.default_rng(0).normal(size=8)
        >>> found = fit({"N": n, "loss": (0.05 + 3 * n**-0.25) * noise}, form="pow+E")
        >>> print(profile(found, "E"))
        E: 0.0527 (profile, 95 % 0.05 to 0.0558)
    """
    law, problem = fit.law, pose(fit)
    if name not in law.parameters or name in fit.fixed:
        free = [each for each in law.parameters if each not in fit.fixed]
        raise ValueError(f"cannot profile {name!r}; the parameters sought were {', '.join(free)}")
    num += 1 - num % 2
    if name in law.offsets({each: np.ones(1) for each in law.parameters}, fit.frame):
        raise ValueError(f"cannot profile the amplitude {name}, which depends on its exponent; profile the exponent")
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
    """Computes the least objective with one coordinate held at each value, from the fit and from other starts."""
    starts = np.vstack([fit.theta[None], problem.starts(_NUM_STARTS)])
    held = np.eye(len(fit.theta))[column] > 0
    low, high = (
        np.tile(np.where(held, working[:, None], side), (len(starts), 1)) for side in (problem.low, problem.high)
    )
    begin = np.where(held, working[:, None], starts[:, None]).reshape(-1, len(fit.theta))
    objective = solve(replace(problem, low=low, high=high), begin, fit.delta)[1]
    return np.asarray(objective.reshape(len(starts), -1).min(axis=0))


def _noise(problem: Problem, fit: Fit) -> float:
    """Estimates the rise of the objective that chance alone causes; for least squares, the variance of residuals."""
    inside = float(np.average(np.abs(fit.residuals) <= fit.delta, weights=fit.weights))
    found = dispersion(problem, fit.theta, fit.delta) * max(inside, 1 / fit.num_points)
    return max(found, float(np.finfo(float).tiny))


def _grid(middle: float, low: float, high: float, num: int) -> Values:
    """Spreads values over an interval, denser towards the middle value, which is one of them."""
    high = min(high, middle + 8 * max(abs(middle), 0.1)) if high > 1e6 else high
    ramp = np.linspace(0, 1, num // 2 + 1)[1:] ** 1.5
    return np.concatenate([(middle - (middle - low) * ramp)[::-1], [middle], middle + (high - middle) * ramp])


def _end(grid: Values, deviance: Values, limit: float) -> tuple[float, bool]:
    """Finds where the deviance exceeds the limit, outwards from the fit, by interpolating its root, nearly a line.

    Returns:
        The value there and False, or the end of the grid and True if the deviance stays below the limit.
    """
    beyond = np.flatnonzero(deviance > limit)
    if not len(beyond):
        return float(grid[-1]), True
    place = beyond[0]
    if place == 0:
        return float(grid[0]), False
    inner, outer = np.sqrt(np.maximum(deviance[place - 1 : place + 1], 0))
    share = (np.sqrt(limit) - inner) / (outer - inner)
    return float(grid[place - 1] + share * (grid[place] - grid[place - 1])), False
