"""Loss-to-loss laws, shifted power laws between the losses of two evaluations or cells, and a test for one curve."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from ecg_hf.scaling.fitting.fit import fit
from ecg_hf.scaling.fitting.intervals import Boot, Estimate, bootstrap, summarise
from ecg_hf.scaling.fitting.orthogonal import least_distance
from ecg_hf.scaling.fitting.profiles import Profile, profile
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values

Method = Literal["two-stage", "joint", "orthogonal"]
_SIGNIFICANCE = 0.05
_EXACT = 1e-8
_ROUNDING = 1e-5
_NUM_ORTHOGONAL = 200


@dataclass(frozen=True, eq=False)
class LossToLoss:
    """A fitted law L_y = E_y + K (L_x - E_x)^kappa.

    Args:
        method: Method of the fit.
        params: Parameters K, kappa, E_x and E_y, by letter.
        estimates: Parameters with intervals, by letter.
        x: Losses L_x, shape (n,).
        y: Losses L_y, shape (n,).
        spread: Standard deviation of the log residuals of L_y - E_y; of L_y for the joint and orthogonal fits.
        r_squared: Part of the variance of ln L_y that the law explains.
        flags: Warnings about the fit.
        profile: Profile of kappa, for the joint fit.
        kappas: Values of kappa in the replicates, shape (B,).
    """

    method: Method
    params: dict[str, float]
    estimates: dict[str, Estimate]
    x: Values
    y: Values
    spread: float
    r_squared: float
    flags: tuple[str, ...] = ()
    profile: Profile | None = None
    kappas: Values = field(default_factory=lambda: np.zeros(0))

    def predict(self, x: ArrayLike) -> Values:
        """Predicts L_y at L_x; NaN below E_x."""
        above = np.asarray(x, dtype=np.float64) - self.params["E_x"]
        with np.errstate(invalid="ignore"):
            return np.asarray(self.params["E_y"] + self.params["K"] * above ** self.params["kappa"])

    def __str__(self) -> str:
        found = ", ".join(f"{name} = {value:.4g}" for name, value in self.params.items())
        lines = [f"L_y = E_y + K (L_x - E_x)^kappa ({self.method}): {found}; R2 {self.r_squared:.4f}"]
        lines.append(f"  {self.estimates['kappa']}")
        return "\n".join(lines + [f"  ! {flag}" for flag in self.flags])


@dataclass(frozen=True)
class Collapse:
    """The result of the test whether the losses of all sizes and amounts of data lie on one curve.

    Args:
        kappa_n: Exponent along N, the alpha of the second loss over the alpha of the first.
        kappa_d: Exponent along D, the beta of the second loss over the beta of the first.
        p_value: P-value of the test that the second loss depends on N and D only through the first.
        spread: Standard deviation of the log residuals from one curve.
    """

    kappa_n: Estimate
    kappa_d: Estimate
    p_value: float
    spread: float

    @property
    def collapses(self) -> bool:
        """Whether one curve is not rejected, so that a single kappa describes the losses."""
        return self.p_value >= _SIGNIFICANCE

    def __str__(self) -> str:
        verdict = "one curve" if self.collapses else "no single curve: quote no single kappa"
        return f"{verdict} (p = {self.p_value:.3g}, spread {self.spread:.4f}); {self.kappa_n}; {self.kappa_d}"


def fit_losses(
    x: ArrayLike,
    y: ArrayLike,
    method: Method = "joint",
    *,
    e_x: float | None = None,
    e_y: float | None = None,
    num_replicates: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> LossToLoss:
    """Fits one loss as a shifted power law of another, from pairs of losses.

    Args:
        x: Losses L_x, shape (n,).
        y: Losses L_y of the same or the paired runs, shape (n,).
        method: "two-stage" takes E_x and E_y as given and fits a line to the logarithms of L_x - E_x and L_y - E_y;
            "joint" fits all four parameters at once, with noise in L_y; "orthogonal" does so with the same relative
            noise in both losses.
        e_x: Constant E of the law of L_x; required by "two-stage", held fixed by the rest if given.
        e_y: Constant E of the law of L_y, as `e_x`.
        num_replicates: Number of replicates of the bootstrap over points; at most 200 for "orthogonal".
        seed: Seed of the bootstrap.
        clusters: Number of the configuration of each point, shape (n,), whose points are drawn together; None to draw
            the points one by one.

    Returns:
        The law, with intervals.

    Raises:
        ValueError: If a loss is not positive, a constant is missing or not below every loss, or points are too few.

    Source:
        Brandfonbrener et al. 2024 (arXiv:2411.12925), section 3 (two-stage); Boggs, Byrd and Schnabel 1987
        (orthogonal distances), here of logarithms.
    """
    x, y = _checked(x, y, e_x, e_y)
    given = {name: value for name, value in (("E_x", e_x), ("E_y", e_y)) if value is not None}
    groups = np.arange(len(x)) if clusters is None else np.asarray(clusters)
    if method == "two-stage":
        if e_x is None or e_y is None:
            raise ValueError("two-stage needs e_x and e_y, the constants of the two laws; fit both or use 'joint'")
        counts = _resample(groups, num_replicates, seed)
        return _two_stage(x, y, np.full(len(counts), e_x), np.full(len(counts), e_y), counts)
    if method not in ("joint", "orthogonal"):
        raise ValueError(f"method must be 'two-stage', 'joint' or 'orthogonal', got {method!r}")
    found = fit({"X": x, "L": y, "run_id": groups}, "loss-to-loss", fix=given)
    if method == "joint":
        boot = bootstrap(found, num_replicates, seed=seed)
        estimates = {name: boot.estimate(name) for name in found.params}
        kappas = boot.params["kappa"]
        # the warning about decades is meant for sizes and amounts of data, not for losses
        flags = tuple(flag for flag in found.flags if "spans" not in flag)
        curve = profile(found, "kappa")
        return LossToLoss(method, found.params, estimates, x, y, found.rmse_log, found.r_squared, flags, curve, kappas)
    return _orthogonal(x, y, found.params, given, _resample(groups, min(num_replicates, _NUM_ORTHOGONAL), seed))


def relate(boot_x: Boot, boot_y: Boot, tolerance: float = _ROUNDING) -> LossToLoss:
    """Fits a two-stage loss-to-loss law whose intervals include the uncertainty of E_x and E_y.

    In each replicate, both laws and the line between them use the same resampled runs.

    Args:
        boot_x: Bootstrap of the law of L_x.
        boot_y: Bootstrap of the law of L_y, with the same runs in the same order and the same seed.
        tolerance: Relative difference allowed between the inputs of paired runs.

    Returns:
        The law, with intervals.

    Raises:
        ValueError: If the bootstraps do not have the same runs and resamples, or a law has no constant.
    """
    first, second = boot_x.fit, boot_y.fit
    alike = np.array_equal(first.points.clusters, second.points.clusters)
    if not alike or not _same_inputs(first, second, tolerance):
        raise ValueError("both laws must be of the same runs in the same order; filter both tables alike")
    if not np.array_equal(boot_x.counts, boot_y.counts):
        raise ValueError("both bootstraps must draw the same runs; give them one seed and number of replicates")
    if "E" not in first.params or "E" not in second.params:
        raise ValueError(f"both laws need a constant E, got {first.form} and {second.form}")
    constants = [np.append(boot.fit.params["E"], boot.params["E"]) for boot in (boot_x, boot_y)]
    counts = np.vstack([np.ones(first.num_points), boot_x.counts[:, first.points.clusters]])
    found = _two_stage(first.points.loss, second.points.loss, constants[0], constants[1], counts)
    return replace(found, flags=(*_constant_flags("E_x", first), *_constant_flags("E_y", second)))


def collapse_test(boot_x: Boot, boot_y: Boot, tolerance: float = _ROUNDING) -> Collapse:
    """Tests whether L_y depends on N and D only through L_x.

    An F test compares two regressions of ln(L_y - E_y): on ln(L_x - E_x) alone, and on ln N and ln D in addition. A
    single curve exists only if the ratio of the exponents of both losses is the same along N and along D.

    Args:
        boot_x: Bootstrap of a law of N and D for L_x.
        boot_y: Bootstrap of a law of N and D for L_y, over the same runs.
        tolerance: Relative difference allowed between the inputs of paired runs.

    Returns:
        The test, and the exponents along N and along D.

    Raises:
        ValueError: If a law is not a law of N and D with a constant, or the runs differ.
    """
    first, second = boot_x.fit, boot_y.fit
    for each in (first, second):
        if not {"alpha", "beta", "E"} <= set(each.params):
            raise ValueError(
                f"a collapse test needs laws with alpha, beta and E, got {each.form}; use chinchilla or kaplan"
            )
    if not _same_inputs(first, second, tolerance):
        raise ValueError("both laws must be of the same runs in the same order; filter both tables alike")
    above = [np.log(each.points.loss - each.params["E"]) for each in (first, second)]
    num = first.num_points
    plain = np.stack([np.ones(num), above[0]], axis=1)
    full = np.hstack([plain, np.log(first.points.inputs[:2]).T])
    squares = [
        float(np.sum((above[1] - each @ np.linalg.lstsq(each, above[1], rcond=None)[0]) ** 2)) for each in (plain, full)
    ]
    spread = np.sqrt(squares[0] / max(num - 2, 1))
    statistic = (squares[0] - squares[1]) / 2 / (max(squares[1], 1e-300) / max(num - 4, 1))
    p_value = 1.0 if spread < _EXACT else float(f_distribution.sf(statistic, 2, max(num - 4, 1)))
    kappas = []
    for axis, name in (("N", "alpha"), ("D", "beta")):
        pairs = min(len(boot_x.theta), len(boot_y.theta))
        ratio = boot_y.params[name][:pairs] / boot_x.params[name][:pairs]
        kappas.append(summarise(f"kappa along {axis}", second.params[name] / first.params[name], ratio))
    return Collapse(kappas[0], kappas[1], p_value, float(spread))


def _same_inputs(first: Fit, second: Fit, tolerance: float) -> bool:
    shapes = first.points.inputs.shape == second.points.inputs.shape
    return shapes and np.allclose(first.points.inputs, second.points.inputs, rtol=tolerance, atol=0)


def _checked(x: ArrayLike, y: ArrayLike, e_x: float | None, e_y: float | None) -> tuple[Values, Values]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"losses must come in pairs, got shapes {x.shape} and {y.shape}")
    for name, losses, constant in (("x", x, e_x), ("y", y, e_y)):
        if not (np.isfinite(losses) & (losses > 0)).all():
            raise ValueError(f"losses must be positive and finite, got {losses[~(losses > 0)][:1]} in {name}")
        if constant is not None and constant >= losses.min():
            raise ValueError(f"E_{name} must lie below every loss, got {constant:.4g} and a loss of {losses.min():.4g}")
    return x, y


def _resample(groups: NDArray[np.generic], num_replicates: int, seed: int) -> NDArray[np.int64]:
    places = np.unique(groups, return_inverse=True)[1]
    num = int(places.max()) + 1
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=num_replicates)
    return np.vstack([np.ones(len(places), dtype=np.int64), counts[:, places]])


def _constant_flags(letter: str, law: Fit) -> list[str]:
    """Returns warnings about a constant E that the first stage takes from its own law."""
    value = f"{letter} = {law.params['E']:.4g}"
    found = [f"at bound: {value} in its own law"] if "E" in law.at_bound else []
    found += [f"unidentified: {value} is not determined by its own law"] if "E" in law.unidentified else []
    return found + ([f"unstable: the law that gives {value}"] if law.unstable else [])


def _two_stage(x: Values, y: Values, e_x: Values, e_y: Values, counts: NDArray[np.generic]) -> LossToLoss:
    """Fits one line per row of counts; the first row is the original data and the rest are replicates."""
    if len(e_x) < len(counts):
        e_x, e_y = (np.append(each[:1], each) for each in (e_x, e_y))
    if np.ptp(x) == 0:
        raise ValueError(f"a loss-to-loss law needs losses in x that differ, got {len(x)} times {x[0]:.4g}")
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v = np.log(x - e_x[:, None]), np.log(y - e_y[:, None])
    weights = counts / counts.sum(axis=1, keepdims=True)
    u0, v0 = u - np.sum(weights * u, axis=1, keepdims=True), v - np.sum(weights * v, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        # undefined in a replicate that drew a single run
        kappa = np.sum(weights * u0 * v0, axis=1) / np.sum(weights * u0**2, axis=1)
    level = np.exp(np.sum(weights * v, axis=1) - kappa * np.sum(weights * u, axis=1))
    residuals = v0[0] - kappa[0] * u0[0]
    params = {"K": float(level[0]), "kappa": float(kappa[0]), "E_x": float(e_x[0]), "E_y": float(e_y[0])}
    columns = {"K": level, "kappa": kappa, "E_x": e_x, "E_y": e_y}
    estimates = {name: summarise(name, params[name], values[1:], note="two-stage") for name, values in columns.items()}
    predicted = np.log(params["E_y"] + params["K"] * np.exp(u[0]) ** params["kappa"])
    fitted = _r_squared(np.log(y), predicted)
    return LossToLoss("two-stage", params, estimates, x, y, float(residuals.std(ddof=2)), fitted, (), None, kappa[1:])


def _orthogonal(
    x: Values, y: Values, start: dict[str, float], given: dict[str, float], counts: NDArray[np.int64]
) -> LossToLoss:
    rows = []
    for count in counts:
        drawn = np.flatnonzero(count)
        theta, _ = least_distance(x[drawn], y[drawn], count[drawn], start, given)
        rows.append(theta)
    theta = np.array(rows)
    columns = {"K": np.exp(theta[:, 0]), "kappa": theta[:, 1], "E_x": theta[:, 2], "E_y": theta[:, 3]}
    params = {name: float(values[0]) for name, values in columns.items()}
    estimates = {name: summarise(name, params[name], values[1:], note="orthogonal") for name, values in columns.items()}
    _, distances = least_distance(x, y, np.ones(len(x)), start, given)
    predicted = np.log(params["E_y"] + params["K"] * np.maximum(x - params["E_x"], 1e-12) ** params["kappa"])
    edge = [f"at bound: {name} = 0" for name in ("E_x", "E_y") if name not in given and params[name] < 1e-6 * x.min()]
    spread = float(np.sqrt(np.sum(distances**2) / max(len(x) - 4, 1)))
    return LossToLoss(
        "orthogonal", params, estimates, x, y, spread, _r_squared(np.log(y), predicted), tuple(edge), None, theta[1:, 1]
    )


def _r_squared(values: Values, predicted: Values) -> float:
    return float(1 - np.sum((values - predicted) ** 2) / np.sum((values - values.mean()) ** 2))
