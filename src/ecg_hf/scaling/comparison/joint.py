"""The joint multiplier: two cells under one law, in which one cell needs a constant factor more of an input."""

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
    """A constant factor between two cells, and the test whether one factor is enough.

    Args:
        estimate: Factor by which the second cell needs more of the input than the first.
        shared: Parameters that both cells have in common, by letter.
        p_value: P-value of the test that the cells differ by this factor only; a small value rejects one factor.
        delta_aicc: AICc of the joint law minus that of two free laws; a negative value favours the joint law.
    """

    estimate: Estimate
    shared: dict[str, float]
    p_value: float
    delta_aicc: float

    @property
    def rejected(self) -> bool:
        """Whether the data reject one factor; the factor then depends on the loss, and `iso_loss` shows how."""
        return self.p_value < _SIGNIFICANCE

    def __str__(self) -> str:
        verdict = "refused" if self.rejected else "not refused"
        return f"{self.estimate}; one factor is {verdict} (p = {self.p_value:.3g}, delta AICc {self.delta_aicc:+.1f})"


class _Joint(Law):
    """Two copies of a law that share some of their parameters; the last input of a point is the number of its copy."""

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
        """Returns the logarithm of the loss, shape (R, n), and its gradient with respect to theta, shape (R, P, n)."""
        value = np.empty((len(theta), x.shape[1]))
        gradient = np.zeros((len(theta), theta.shape[1], x.shape[1]))
        for copy, places in enumerate(self.places):
            mine = np.flatnonzero(x[-1] == copy)
            value[:, mine], part = self.law.evaluate(theta[:, places], x[:-1, mine])
            gradient[np.ix_(np.arange(len(theta)), np.array(places), mine)] = part
        return value, gradient

    def offsets(self, params: object, frame: Frame) -> dict[str, Values]:
        """Returns no offsets; this law is evaluated in working coordinates only."""
        return {}

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta, those of the law for each copy, shape (P,) each."""
        low, high = np.empty(len(self.parameters)), np.empty(len(self.parameters))
        for places in self.places:
            low[places], high[places] = self.law.bounds(x[:-1], frame)
        return low, high

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Returns no starting points; the two single fits provide them."""
        return np.empty((0, len(self.parameters)))


def joint_multiplier(
    a: Boot, b: Boot, axis: str = "N", *, share: Sequence[str] | None = None, num_replicates: int | None = None
) -> JointMultiplier:
    """Fits one law to two cells, in which the second cell needs a factor rho more of an input for the same loss.

    N parameters of b count as N / rho parameters of a: the term of b is A (N / rho)^-alpha, with the A, the alpha and
    the E of a.

    Args:
        a: Bootstrap of the first cell; its resamples are used again.
        b: Bootstrap of the second cell, with the same form and evaluation.
        axis: Letter of the input.
        share: Letters of the parameters in common; None takes E and the exponent of the axis. The amplitude of the axis
            cannot be shared.
        num_replicates: Number of resamples to use; None takes all.

    Returns:
        The factor with its interval, and the test whether one factor is enough.

    Raises:
        ValueError: If the fits cannot be compared, were not resampled by runs ("pairs"), or their form is not a sum or
            norm of power-law terms.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import bootstrap, fit, joint_multiplier
        >>> n = np.geomspace(2e4, 2e7, 8)
        >>> noise = 1 + 0.01 * np.random.default_rng(1).normal(size=(2, 8))
        >>> resnet = fit({"N": n, "loss": 3 * n**-0.25 * noise[0]}, form="pow")
        >>> transformer = fit({"N": n, "loss": 3 * (n / 2) ** -0.25 * noise[1]}, form="pow")
        >>> found = joint_multiplier(bootstrap(resnet, 50), bootstrap(transformer, 50))
        >>> print(f"{found.estimate.value:.2f} ({found.estimate.low:.2f} to {found.estimate.high:.2f})")
        1.98 (1.93 to 2.02)
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
        # infinite in a replicate whose term of the axis vanishes
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
    """Compares a joint law with two free laws, by an F test of the rise of the objective and by AICc.

    The rise is measured in units of the noise of the free laws.

    Returns:
        The p-value, and the AICc of the joint law minus that of the free laws.

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
