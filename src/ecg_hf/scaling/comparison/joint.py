"""Two cells under one law that differ by a factor in how much they make of an input: one number for an efficiency."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution

from ecg_hf.scaling.comparison.multipliers import axis_of, check_comparable
from ecg_hf.scaling.fitting.descent import descend
from ecg_hf.scaling.fitting.fit import Problem, dispersion
from ecg_hf.scaling.fitting.intervals import Boot, Estimate, summarise
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Frame, Law, Values
from ecg_hf.scaling.laws.kaplan import Kaplan
from ecg_hf.scaling.laws.power_laws import PowerLaws

_SIGNIFICANCE = 0.05
_NUM_STARTS = 12


@dataclass(frozen=True)
class JointMultiplier:
    """A constant factor between two cells, and whether the data allow it to be one.

    Args:
        estimate: The factor by which the second cell needs more.
        shared: Parameters that both cells have in common, by letter.
        p_value: Of the test that the cells differ by no more than the factor; small refuses it.
        delta_aicc: AICc of the joint law less that of two free laws; negative favours the joint law.
    """

    estimate: Estimate
    shared: dict[str, float]
    p_value: float
    delta_aicc: float

    @property
    def rejected(self) -> bool:
        """Whether the data refuse one factor; then only the iso-loss curve says what holds where."""
        return self.p_value < _SIGNIFICANCE

    def __str__(self) -> str:
        verdict = "refused" if self.rejected else "not refused"
        return f"{self.estimate}; one factor is {verdict} (p = {self.p_value:.3g}, delta AICc {self.delta_aicc:+.1f})"


class _Joint(Law):
    """Two copies of a law, some of whose parameters are one; points carry the number of their copy as last input."""

    name = "joint"
    formula = ""

    def __init__(self, law: Law, share: tuple[str, ...]):
        self.law = law
        own = [name for name in law.parameters if name not in share]
        self.parameters = (*share, *(f"{name}_{copy}" for copy in (0, 1) for name in own))
        self.places = [
            [self.parameters.index(name if name in share else f"{name}_{copy}") for name in law.parameters]
            for copy in (0, 1)
        ]

    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Gives the logarithm of the loss, shape (R, n), and its gradient by theta, shape (R, P, n)."""
        value = np.empty((len(theta), x.shape[1]))
        gradient = np.zeros((len(theta), theta.shape[1], x.shape[1]))
        for copy, places in enumerate(self.places):
            mine = np.flatnonzero(x[-1] == copy)
            value[:, mine], part = self.law.evaluate(theta[:, places], x[:-1, mine])
            gradient[np.ix_(np.arange(len(theta)), np.array(places), mine)] = part
        return value, gradient

    def offsets(self, params: object, frame: Frame) -> dict[str, Values]:
        """Has no parameters of its own."""
        return {}

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Gives the bounds of the law for both copies."""
        low, high = np.empty(len(self.parameters)), np.empty(len(self.parameters))
        for places in self.places:
            low[places], high[places] = self.law.bounds(x[:-1], frame)
        return low, high

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Has none of its own: it starts from the two fits."""
        return np.empty((0, len(self.parameters)))


def joint_multiplier(
    a: Boot, b: Boot, axis: str = "N", *, share: Sequence[str] | None = None, num_replicates: int | None = None
) -> JointMultiplier:
    """Fits both cells at once as if b had rho times fewer of an input: A (N / rho)^-alpha, with E and alpha in common.

    Args:
        a: Bootstrap of the first cell, whose resamples are used again.
        b: Of the second, by the same form to the same evaluation.
        axis: Letter of the input.
        share: Letters in common; None is E and the exponent of the axis. The amplitude of the axis cannot be shared.
        num_replicates: How many resamples to use; None is all.

    Raises:
        ValueError: If the fits cannot be compared, were not resampled by runs, or the form is no sum or norm of terms.
    """
    first, second = a.fit, b.fit
    if {a.method, b.method} != {"pairs"}:
        raise ValueError(f"a joint multiplier resamples runs, got bootstraps by {a.method} and {b.method}; use 'pairs'")
    check_comparable(first, second)
    amplitude, exponent = _term(first, second, axis)
    names = tuple(share) if share is not None else tuple(n for n in ("E", exponent) if n in first.law.parameters)
    if exponent not in names or amplitude in names or not set(names) <= set(first.law.parameters):
        raise ValueError(f"share must contain {exponent}, not {amplitude}, and only parameters of {first.form}")
    problem, starts = _pose(a, b, names)
    delta = float(np.hypot(first.delta, second.delta) / np.sqrt(2))
    bounds = (problem.low, problem.high)
    theta, objective = descend(problem.law, problem.x, problem.target, problem.weights, delta, starts, bounds)
    best = theta[objective.argmin()]
    p_value, delta_aicc = _test(problem, (first, second), float(objective.min()), best, delta)
    num = min(len(a.theta), len(b.theta), num_replicates or len(a.theta))
    counts = np.hstack([boot.counts[:num][:, boot.fit.points.clusters] for boot in (a, b)])
    start = np.tile(best, (num, 1))
    replicates, _ = descend(problem.law, problem.x, problem.target, problem.weights * counts, delta, start, bounds)
    joint = problem.law
    columns = [joint.parameters.index(name) for name in (f"{amplitude}_0", f"{amplitude}_1", exponent)]
    with np.errstate(over="ignore"):
        # infinite where a replicate has no term of the axis left
        rho = [
            np.exp((each[:, columns[1]] - each[:, columns[0]]) / each[:, columns[2]])
            for each in (best[None], replicates)
        ]
    cells = f"{second.points.cell or 'b'} over {first.points.cell or 'a'}"
    span = f"losses {min(first.points.loss.min(), second.points.loss.min()):.4g} to "
    span += f"{max(first.points.loss.max(), second.points.loss.max()):.4g}"
    note = f"{cells}, {span}, form {first.form}, in common {', '.join(names)}"
    estimate = summarise(f"joint multiplier of {axis}", float(rho[0][0]), rho[1], note=note)
    shared = {name: float(best[joint.parameters.index(name)]) for name in names}
    shared |= {name: shared[name] * problem.frame.scale for name in names if name in first.law.levels}
    return JointMultiplier(estimate, shared, p_value, delta_aicc)


def _term(first: Fit, second: Fit, axis: str) -> tuple[str, str]:
    if first.form != second.form or not isinstance(first.law, PowerLaws | Kaplan):
        raise ValueError(
            f"a joint multiplier needs one form of terms for both cells, got {first.form} and {second.form}; "
            "fit both with chinchilla, tied, kaplan, pow or pow+E"
        )
    place = axis_of(first, axis)
    return next((amplitude, exponent) for amplitude, exponent, number in first.law.terms if number == place)


def _pose(a: Boot, b: Boot, names: tuple[str, ...]) -> tuple[Problem, Values]:
    fits = (a.fit, b.fit)
    law = _Joint(a.fit.law, names)
    inputs = np.hstack([fit.points.inputs for fit in fits])
    loss = np.concatenate([fit.points.loss for fit in fits])
    frame = a.fit.law.frame(inputs, loss)
    copy = np.repeat([0.0, 1.0], [fit.num_points for fit in fits])
    x = np.vstack([np.log(inputs) - frame.centre[:, None], copy])
    low, high = law.bounds(x, frame)
    own = [law.law.encode(fit.params, frame)[0] for fit in fits]
    starts = np.empty((_NUM_STARTS, len(law.parameters)))
    generator = np.random.default_rng(0)
    for row in range(_NUM_STARTS):
        share = row / (_NUM_STARTS - 1)
        middle = (1 - share) * own[0] + share * own[1]
        for places, theta in zip(law.places, own, strict=True):
            starts[row, places] = theta
        for name in names:
            starts[row, law.parameters.index(name)] = middle[law.law.parameters.index(name)]
    starts[:, len(names) :] += 0.05 * generator.normal(size=starts[:, len(names) :].shape)
    weights = np.concatenate([fit.weights for fit in fits])
    problem = Problem(law, frame, x, np.log(loss / frame.scale), weights, low, high)
    return problem, np.clip(starts, low, high)


def _test(
    problem: Problem, fits: tuple[Fit, Fit], objective: float, theta: Values, delta: float
) -> tuple[float, float]:
    """Compares with two free laws: an F test of the rise of the objective in units of the free laws' noise.

    Source:
        Huber and Ronchetti 2009, section 7.6: tests with a robust objective.
    """
    free_law = _Joint(fits[0].law, ())
    low, high = free_law.bounds(problem.x, problem.frame)
    own = np.concatenate([fits[0].law.encode(fit.params, problem.frame)[0] for fit in fits])
    free = Problem(free_law, problem.frame, problem.x, problem.target, problem.weights, low, high)
    start = np.clip(own, low, high)[None]
    found, rest = descend(free_law, free.x, free.target, free.weights, delta, start, (low, high))
    num, size, most = len(problem.target), len(theta), len(own)
    noise = dispersion(free, found[0], delta)
    residuals = free_law.evaluate(found, free.x)[0][0] - free.target
    inside = max(float(np.average(np.abs(residuals) <= delta, weights=free.weights)), 1 / num)
    rise = max(objective - float(rest[0]), 0.0)
    if float(rest[0]) < 1e-20 * num:
        exact = rise < 1e-15 * num
        return (1.0 if exact else 0.0), (-np.inf if exact else np.inf)
    statistic = 2 * rise / (noise * inside) / (most - size)
    p_value = float(f_distribution.sf(statistic, most - size, num - most))

    def aicc(value: float, count: int) -> float:
        return float(num * np.log(value) + 2 * (count + 1) * num / max(num - count - 2, 1))

    return p_value, aicc(objective, size) - aicc(float(rest[0]), most)
