"""Fitting a law to points: starts by variable projection, then a robust descent from each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_hf.scaling.fitting.descent import descend
from ecg_hf.scaling.fitting.points import Points, gather
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Frame, Law, Values
from ecg_hf.scaling.laws.names import get

FEWEST_POINTS = 4
_FEWEST_VALUES = {"N": 4}  # distinct values of an input with an exponent of its own; of a second input, 3
_OTHERWISE = 3
_HUBER_EFFICIENT = 1.345 * 1.4826
# Of the objective, and absolute: what two searches of one valley differ by.
_SAME, _NOTHING = 1e-6, 1e-22
_NEAR = 1e-6


@dataclass(frozen=True, eq=False)
class Problem:
    """A law, its points in working coordinates, and where each parameter may go.

    Args:
        law: The form.
        frame: Of the working coordinates.
        x: Centred logarithms of the inputs, shape (K, n).
        target: Logarithms of the losses, shape (n,).
        weights: Mean 1, shape (n,).
        low: Lower bounds, shape (P,).
        high: Upper bounds, shape (P,); equal to the lower where a parameter is given.
    """

    law: Law
    frame: Frame
    x: Values
    target: Values
    weights: Values
    low: Values
    high: Values

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which parameters are sought, shape (P,)."""
        return self.low < self.high

    def starts(self, num_starts: int) -> Values:
        """Gives at most so many starts within the bounds, the best first."""
        found = self.law.starts(self.x, self.target, self.weights, self.frame)
        return np.clip(found[:num_starts], self.low, self.high)


def fit(
    data: object,
    form: str = "chinchilla",
    *,
    x: Sequence[str] | None = None,
    y: str | None = None,
    delta: float | Literal["auto"] = "auto",
    weights: Literal["se", "equal"] | ArrayLike = "se",
    fix: Mapping[str, float] | None = None,
    num_starts: int | None = None,
) -> Fit:
    """Fits a law to a run table or to columns.

    Args:
        data: As in `points.gather`: a `RunTable` of one cell and one evaluation, columns by name, or `Points`.
        form: Name of the law.
        x: Columns or letters of the inputs, in the law's order; a law of one input takes any one, such as ("D",).
        y: Column of the loss.
        delta: Where Huber's loss of a log residual becomes linear. "auto" is 1.345 robust standard deviations of the
            residuals of a first least-squares fit; the literature uses 1e-3, which is nearly least absolute
            deviations; infinity is least squares.
        weights: "se" is one over the variance from seeds and test set where the points know it; "equal"; or one
            number per point.
        fix: Parameters that are known, by letter.
        num_starts: How many of the best starts to search from; None is what the law needs.

    Raises:
        ValueError: If there are too few points or distinct inputs for the law, a parameter that is known has no place
            in the law, or the data are not as `points.gather` asks.
    """
    law = get(form)
    points = gather(data, law, x, y)
    given = dict(fix or {})
    _check(law, points, given)
    problem = _pose(law, points, given, _weigh(points, weights))
    starts = problem.starts(num_starts or law.num_starts)
    if delta == "auto":
        starts, delta = _choose_delta(problem, starts)
    elif not delta > 0:
        raise ValueError(f"delta must be positive or 'auto', got {delta}; 1e-3 is what the literature uses")
    theta, objective = solve(problem, starts, delta)
    return _conclude(problem, points, float(delta), theta, objective)


def solve(problem: Problem, starts: Values, delta: float) -> tuple[Values, Values]:
    """Searches from every start; the parameters, shape (S, P), and the objectives, shape (S,)."""
    return descend(problem.law, problem.x, problem.target, problem.weights, delta, starts, (problem.low, problem.high))


def pose(fit: Fit) -> Problem:
    """Gives the problem that a fit has solved."""
    given = {name: fit.params[name] for name in fit.fixed}
    return _pose(fit.law, fit.points, given, fit.weights)


def _check(law: Law, points: Points, given: Mapping[str, float]) -> None:
    unknown = [name for name in given if name not in law.parameters]
    if unknown:
        raise ValueError(f"{law.name} has no parameter {unknown[0]!r}; its parameters are {', '.join(law.parameters)}")
    lacking = [name for name in law.given if name not in given]
    if lacking:
        raise ValueError(f"{law.name} needs {', '.join(lacking)}, which no fit finds; pass fix={{{lacking[0]!r}: ...}}")
    if given.get("L0", np.inf) <= points.loss.min():
        raise ValueError(f"L0 must lie above the smallest loss, got {given['L0']:.4g} and {points.loss.min():.4g}")
    num_free = len(law.parameters) - len(given)
    needed = max(FEWEST_POINTS, num_free + 1)
    num = len(np.unique(points.inputs, axis=1).T)
    if num < needed:
        raise ValueError(
            f"{law.name} has {num_free} free parameters and needs at least {needed} different points, got {num}; "
            "train more runs, or choose a form with fewer parameters"
        )
    if set(given) >= set(law.exponents):
        return
    for letter, slot, values in zip(points.letters, law.inputs, points.inputs, strict=True):
        fewest = FEWEST_POINTS if len(law.inputs) == 1 else _FEWEST_VALUES.get(slot, _OTHERWISE)
        if len(np.unique(values)) < fewest:
            raise ValueError(
                f"{law.name} needs at least {fewest} different values of {letter}, got {len(np.unique(values))}; "
                f"vary {letter}, or choose a law without it"
            )


def _weigh(points: Points, weights: Literal["se", "equal"] | ArrayLike) -> Values:
    if isinstance(weights, str):
        if weights not in ("se", "equal"):
            raise ValueError(f"weights must be 'se', 'equal' or one number per point, got {weights!r}")
        se = points.relative_se
        known = weights == "se" and se is not None and bool((se > 0).all())
        found = 1 / se**2 if known and se is not None else np.ones(len(points))
    else:
        found = np.asarray(weights, dtype=np.float64)
        if found.shape != points.loss.shape or not (np.isfinite(found) & (found >= 0)).all() or not found.any():
            raise ValueError(f"weights must be {len(points)} finite numbers of at least 0, got shape {found.shape}")
    return np.asarray(found / found.mean())


def _pose(law: Law, points: Points, given: Mapping[str, float], weights: Values) -> Problem:
    frame = law.frame(points.inputs, points.loss, given.get("L0", np.inf))
    if any(name not in law.levels and name not in law.exponents for name in given):
        # an amplitude that is known stays put only if no centre moves it with the exponent
        frame = Frame(np.zeros(len(points.inputs)), 1.0, float(points.loss.min()), given.get("L0", np.inf))
    x = np.log(points.inputs) - frame.centre[:, None]
    low, high = law.bounds(x, frame)
    if given:
        held = [law.encode({name: given.get(name, other) for name in law.parameters}, frame)[0] for other in (0.5, 0.9)]
        for column, name in enumerate(law.parameters):
            if name not in given:
                continue
            if held[0][column] != held[1][column] and not np.isclose(held[0][column], held[1][column], rtol=1e-12):
                raise ValueError(f"{law.name} cannot hold {name} while its exponent is free; give the exponent too")
            low[column] = high[column] = held[0][column]
    return Problem(law, frame, x, np.log(points.loss / frame.scale), weights, low, high)


def _choose_delta(problem: Problem, starts: Values) -> tuple[Values, float]:
    """Fits least squares first; its robust spread gives delta, its solutions the starts."""
    theta, objective = solve(problem, starts, np.inf)
    residuals = problem.law.evaluate(theta[objective.argmin()][None], problem.x)[0][0] - problem.target
    delta = _HUBER_EFFICIENT * float(np.median(np.abs(residuals - np.median(residuals))))
    # residuals that are rounding have no outliers to guard against
    return theta, delta if delta > 1e-9 else np.inf


def _conclude(problem: Problem, points: Points, delta: float, theta: Values, objective: Values) -> Fit:
    best = int(objective.argmin())
    reached = objective <= objective[best] * (1 + _SAME) + _NOTHING * len(points)
    law, chosen = problem.law, theta[best]
    params = {name: float(value[0]) for name, value in law.decode(chosen[None], problem.frame).items()}
    width = np.where(np.isfinite(problem.high), problem.high - problem.low, 1.0)
    edge = problem.free & ((chosen - problem.low <= _NEAR * width) | (problem.high - chosen <= _NEAR * width))
    variance = covariance(problem, chosen, delta)
    return Fit(
        form=law.name,
        params=params,
        fixed=tuple(name for name, free in zip(law.parameters, problem.free, strict=True) if not free),
        theta=chosen,
        frame=problem.frame,
        points=points,
        weights=problem.weights,
        delta=delta,
        objective=float(objective[best]),
        standard_errors=_public_errors(problem, chosen, variance),
        num_starts=len(theta),
        num_reached=int(reached.sum()),
        at_bound=tuple(name for name, at in zip(law.parameters, edge, strict=True) if at),
        unidentified=_unidentified(problem, chosen, np.sqrt(np.diag(variance)), edge),
    )


def dispersion(problem: Problem, theta: Values, delta: float) -> float:
    """Gives the variance that turns curvature into the variance of parameters; of least squares, that of residuals.

    Source:
        Huber and Ronchetti 2009, eq. 7.83, without the correction for small samples.
    """
    residuals = problem.law.evaluate(theta[None], problem.x)[0][0] - problem.target
    freedom = max(len(residuals) - int(problem.free.sum()), 1)
    inside = max(float(np.average(np.abs(residuals) <= delta, weights=problem.weights)), 1 / len(residuals))
    return float(problem.weights @ np.clip(residuals, -delta, delta) ** 2) / freedom / inside**2


def covariance(problem: Problem, theta: Values, delta: float) -> Values:
    """Gives the covariance of the working coordinates from the curvature, shape (P, P); zero where given or at a bound.

    A direction on which no point depends has a variance that is only very large.
    """
    inner = np.flatnonzero(problem.free & (theta > problem.low) & (theta < problem.high))
    gradient = problem.law.evaluate(theta[None], problem.x)[1][0][inner] * np.sqrt(problem.weights)
    scale = np.linalg.norm(gradient, axis=1)
    scale = np.where(scale > 1e-100, scale, 1.0)  # a direction on which nothing depends
    values, vectors = np.linalg.eigh((gradient / scale[:, None]) @ (gradient / scale[:, None]).T)
    inverse = (vectors / np.maximum(values, 1e-14)) @ vectors.T
    found = np.zeros((len(theta), len(theta)))
    found[np.ix_(inner, inner)] = inverse * dispersion(problem, theta, delta) / np.outer(scale, scale)
    return found


def _public_errors(problem: Problem, theta: Values, variance: Values) -> dict[str, float]:
    """Carries the covariance over to the parameters by the slope of each, of an amplitude that of its logarithm."""
    law = problem.law
    steps = 1e-6 * np.eye(len(theta))
    found = {}
    upper, lower = law.decode(theta + steps, problem.frame), law.decode(theta - steps, problem.frame)
    for column, name in enumerate(law.parameters):
        if not variance[column, column] > 0:
            continue
        plain = name in law.levels or name in law.exponents
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = (upper[name], lower[name]) if plain else (np.log(upper[name]), np.log(lower[name]))
            slope = (ends[0] - ends[1]) / 2e-6
        found[name] = float(np.sqrt(slope @ variance @ slope))
    return found


def _unidentified(problem: Problem, theta: Values, errors: Values, edge: NDArray[np.bool_]) -> tuple[str, ...]:
    """An exponent whose error is as large as itself; a scale or amplitude known to no better than a factor of e."""
    found = []
    for column, name in enumerate(problem.law.parameters):
        if not problem.free[column] or edge[column]:
            continue
        limit = 1.0
        if name in problem.law.exponents or name in problem.law.levels:
            limit = abs(theta[column])
        if not errors[column] < limit:
            found.append(name)
    return tuple(found)
