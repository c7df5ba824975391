"""The fit of a law to points: starts by variable projection, then a robust descent from each start."""

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
_FEWEST_VALUES = {"N": 4}  # distinct values that a law of several inputs needs of N; of every other input, 3
_OTHERWISE = 3
# Huber's constant for 95 % efficiency, times the standard deviation of normal values over their median deviation.
_HUBER_EFFICIENT = 1.345 * 1.4826
# Relative and absolute difference of their objectives up to which two searches count as ending at the same optimum.
_SAME, _NOTHING = 1e-6, 1e-22
_NEAR = 1e-6


@dataclass(frozen=True, eq=False)
class Problem:
    """A fitting problem: a law, points in working coordinates, and bounds of the parameters.

    Args:
        law: Law to fit.
        frame: Frame of the working coordinates.
        x: Centred logarithms of the inputs, shape (K, n).
        target: Logarithms of the losses in units of the frame, shape (n,).
        weights: Weights of the points, with mean 1, shape (n,).
        low: Lower bounds, shape (P,).
        high: Upper bounds, shape (P,); equal to the lower bound where a parameter is given.
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
        """Mask of the parameters to fit, shape (P,)."""
        return self.low < self.high

    def starts(self, num_starts: int) -> Values:
        """Returns at most `num_starts` starting points within the bounds, the most promising first, shape (S, P)."""
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
    """Fits a scaling law to a run table or to columns.

    Args:
        data: A `RunTable` of one cell and one evaluation, columns by name, or `Points`; see `points.gather`.
        form: Name of the law, a key of `LAWS`.
        x: Columns or letters of the inputs, in the law's order; None takes the law's own letters. A law of one input
            can be fitted to any input, such as ("D",).
        y: Column of the loss; None takes "value", "loss" or "L".
        delta: Log residual at which Huber's loss becomes linear. "auto" is 1.345 robust standard deviations of the
            residuals of a first least-squares fit. The literature uses 1e-3, which is close to least absolute
            deviations. Infinity is least squares.
        weights: "se" for the inverse variance from seeds and test set, where the points have one; "equal"; or one
            number per point.
        fix: Parameters that are known and not fitted, by letter.
        num_starts: Number of starting points to search from, the most promising ones; None takes the law's default.

    Returns:
        The fit of least objective.

    Raises:
        KeyError: If there is no law of this name.
        ValueError: If there are too few points or distinct inputs for the law, the law lacks a parameter in `fix`, or
            `points.gather` refuses the data.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import fit
        >>> n = np.repeat([2e4, 2e5, 2e6, 2e7], 4)
        >>> d = np.tile([5e3, 2e4, 8e4, 3.2e5], 4)
        >>> found = fit({"N": n, "D": d, "loss": 0.05 + 3 * n**-0.25 + 4 * d**-0.30}, form="chinchilla")
        >>> {name: round(value, 3) for name, value in found.params.items()}
        {'A': 3.0, 'B': 4.0, 'E': 0.05, 'alpha': 0.25, 'beta': 0.3}
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
    """Searches from every start and returns the working coordinates, shape (S, P), and the objectives, shape (S,)."""
    return descend(problem.law, problem.x, problem.target, problem.weights, delta, starts, (problem.low, problem.high))


def pose(fit: Fit) -> Problem:
    """Builds the problem that a fit is the solution of."""
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
        # with centred inputs, the coordinate of a known amplitude would change with its exponent
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
    """Fits by least squares; returns the solutions, to start from, and delta from the robust spread of residuals."""
    theta, objective = solve(problem, starts, np.inf)
    residuals = problem.law.evaluate(theta[objective.argmin()][None], problem.x)[0][0] - problem.target
    delta = _HUBER_EFFICIENT * float(np.median(np.abs(residuals - np.median(residuals))))
    # residuals that are only rounding errors have no outliers
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
    """Computes the factor between the inverse curvature and the covariance of the parameters.

    For least squares the factor is the variance of the residuals.

    Args:
        problem: Problem that was solved.
        theta: Working coordinates of the solution, shape (P,).
        delta: Log residual at which Huber's loss becomes linear.

    Returns:
        The factor, a variance of log residuals.

    Source:
        Huber and Ronchetti 2009, eq. 7.83, without the correction for small samples.
    """
    residuals = problem.law.evaluate(theta[None], problem.x)[0][0] - problem.target
    freedom = max(len(residuals) - int(problem.free.sum()), 1)
    inside = max(float(np.average(np.abs(residuals) <= delta, weights=problem.weights)), 1 / len(residuals))
    return float(problem.weights @ np.clip(residuals, -delta, delta) ** 2) / freedom / inside**2


def covariance(problem: Problem, theta: Values, delta: float) -> Values:
    """Computes the covariance of the working coordinates from the curvature, shape (P, P).

    Entries of parameters that are given or at a bound are zero. A direction on which no point depends has a very large
    but finite variance.

    Args:
        problem: Problem that was solved.
        theta: Working coordinates of the solution, shape (P,).
        delta: Log residual at which Huber's loss becomes linear.
    """
    inner = np.flatnonzero(problem.free & (theta > problem.low) & (theta < problem.high))
    gradient = problem.law.evaluate(theta[None], problem.x)[1][0][inner] * np.sqrt(problem.weights)
    scale = np.linalg.norm(gradient, axis=1)
    scale = np.where(scale > 1e-100, scale, 1.0)  # no point depends on this coordinate
    values, vectors = np.linalg.eigh((gradient / scale[:, None]) @ (gradient / scale[:, None]).T)
    inverse = (vectors / np.maximum(values, 1e-14)) @ vectors.T
    found = np.zeros((len(theta), len(theta)))
    found[np.ix_(inner, inner)] = inverse * dispersion(problem, theta, delta) / np.outer(scale, scale)
    return found


def _public_errors(problem: Problem, theta: Values, variance: Values) -> dict[str, float]:
    """Converts the covariance to standard errors of the parameters, relative ones for amplitudes."""
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
    """Lists the parameters with a standard error above their own value; for an amplitude, above 1 in its logarithm."""
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
