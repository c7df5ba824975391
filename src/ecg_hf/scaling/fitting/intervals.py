"""The bootstrap over runs, and intervals of parameters and of any quantity derived from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ecg_hf.scaling.fitting.descent import descend
from ecg_hf.scaling.fitting.fit import Problem, pose
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values

CONFIDENCE = 0.95
Method = Literal["pairs", "residual", "wild"]
Kind = Literal["percentile", "bca"]
Derived = Callable[[dict[str, Values]], Values]

_NUM_JITTERED = 2
_JITTER = 0.1
# Fraction of replicates without a value above which no interval is given.
MOST_UNDEFINED = 0.1


@dataclass(frozen=True)
class Estimate:
    """An estimated number, its interval, and the name of the quantity, which is never just "efficiency".

    Args:
        kind: Name of the quantity, such as "iso-loss multiplier of N".
        value: Value from the fits; NaN if they do not define it.
        low: Lower end of the interval; NaN if there is no interval.
        high: Upper end of the interval; NaN if there is no interval.
        note: Conditions under which the value holds: loss levels, ranges, forms.
        confidence: Confidence level of the interval.
        share_undefined: Fraction of the replicates that do not define the quantity; 1 if there are no replicates.
    """

    kind: str
    value: float
    low: float = np.nan
    high: float = np.nan
    note: str = ""
    confidence: float = CONFIDENCE
    share_undefined: float = 0.0

    def __str__(self) -> str:
        number = "undefined" if np.isnan(self.value) else f"{self.value:.3g}"
        interval = (
            "no interval" if np.isnan(self.low) else f"{100 * self.confidence:.0f} % {self.low:.3g} to {self.high:.3g}"
        )
        undefined = f", undefined in {100 * self.share_undefined:.2g} % of replicates" if self.share_undefined else ""
        return f"{self.kind}: {number} ({interval}{undefined}){'; ' + self.note if self.note else ''}"

    def as_dict(self) -> dict[str, float | str | None]:
        """Returns the fields ready for JSON, with None for NaN and "inf" for infinity."""
        return {
            name: None if value != value else str(value) if isinstance(value, float) and np.isinf(value) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True, eq=False)
class Boot:
    """A bootstrap: refits of a law to resampled runs.

    Args:
        fit: Fit to the original runs.
        theta: Working coordinates of the replicates, shape (B, P).
        jackknife: Working coordinates of the fits that leave out one cluster each, shape (number of clusters, P).
        method: Method of resampling.
        seed: Seed of the resampling.
        counts: Number of times each cluster was drawn, shape (B, number of clusters).
        num_failed: Number of replicates that had too few different points for the law and are not in `theta`.
        at_bound: Fraction of the replicates in which a parameter ended at a bound, by letter.
    """

    fit: Fit
    theta: Values
    jackknife: Values
    method: Method
    seed: int
    counts: NDArray[np.int64]
    num_failed: int
    at_bound: dict[str, float]

    @property
    def params(self) -> dict[str, Values]:
        """Parameters of the replicates, by letter, shape (B,) each."""
        return self.fit.law.decode(self.theta, self.fit.frame)

    def estimate(self, quantity: str | Derived, kind: Kind = "percentile", confidence: float = CONFIDENCE) -> Estimate:
        """Computes a parameter, or a quantity derived from the parameters, and its interval.

        Args:
            quantity: Letter of a parameter, or a function from parameters by letter, shape (R,) each, to values of
                shape (R,).
            kind: Kind of interval; "bca" corrects for bias and skewness with the jackknife.
            confidence: Confidence level of the interval.

        Returns:
            The estimate, named after the parameter or the function.

        Source:
            Efron and Tibshirani 1993, chapters 13 (percentile) and 14 (BCa).
        """
        function: Derived = (lambda params: params[quantity]) if isinstance(quantity, str) else quantity
        name = quantity if isinstance(quantity, str) else getattr(quantity, "__name__", "derived")
        value = float(function(self._decode(self.fit.theta[None]))[0])
        replicates = function(self.params)
        jackknife = function(self._decode(self.jackknife)) if kind == "bca" else None
        return summarise(name, value, replicates, confidence=confidence, jackknife=jackknife)

    def _decode(self, theta: Values) -> dict[str, Values]:
        return self.fit.law.decode(theta, self.fit.frame)

    def log_predict(self, inputs: Values) -> Values:
        """Predicts with every replicate.

        Args:
            inputs: Inputs in the order of the law, not their logarithms, shape (K, n).

        Returns:
            Logarithms of the loss, shape (B, n).
        """
        x = np.log(inputs) - self.fit.frame.centre[:, None]
        return np.asarray(self.fit.law.evaluate(self.theta, x)[0] + np.log(self.fit.frame.scale))


def summarise(
    kind: str,
    value: float,
    replicates: Values,
    *,
    note: str = "",
    confidence: float = CONFIDENCE,
    jackknife: Values | None = None,
) -> Estimate:
    """Computes the interval of a value from its replicates.

    Replicates that are NaN count as undefined; if more than 10 % of them are, there is no interval.

    Args:
        kind: Name of the quantity.
        value: Value from the fits.
        replicates: Values of the replicates, shape (B,).
        note: Conditions under which the value holds.
        confidence: Confidence level of the interval.
        jackknife: Values of the fits that leave out one cluster each, for a BCa interval; None for a percentile
            interval.

    Returns:
        The value with its interval.
    """
    defined = replicates[~np.isnan(replicates)]
    undefined = 1 - len(defined) / max(len(replicates), 1)
    if np.isnan(value) or undefined > MOST_UNDEFINED or len(defined) < 2:
        return Estimate(kind, value, note=note, confidence=confidence, share_undefined=undefined)
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if jackknife is not None:
        tails = _bca_tails(value, defined, jackknife, tails)
    low, high = np.quantile(defined, tails, method="linear" if np.isfinite(defined).all() else "nearest")
    return Estimate(kind, value, float(low), float(high), note, confidence, undefined)


def _bca_tails(value: float, replicates: Values, jackknife: Values, tails: Values) -> Values:
    below = (np.sum(replicates < value) + np.sum(replicates == value) / 2) / len(replicates)
    bias = norm.ppf(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    distance = jackknife.mean() - jackknife
    spread = np.sum(distance**2)
    skew = np.sum(distance**3) / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + norm.ppf(tails)
    return np.asarray(norm.cdf(bias + shifted / (1 - skew * shifted)))


def bootstrap(fit: Fit, num_replicates: int = 1000, *, method: Method = "pairs", seed: int = 0) -> Boot:
    """Refits a law to resampled runs, so that any derived quantity can be computed within each replicate.

    Runs are drawn with replacement within the cell; all seeds of a configuration are drawn together, as one cluster.
    Each refit starts from the original fit and from two points near it.

    Args:
        fit: Fit to resample.
        num_replicates: Number of replicates.
        method: "pairs" draws runs; "residual" keeps the inputs and draws residuals; "wild" keeps each residual at its
            run and flips the sign of all residuals of a configuration at random.
        seed: Seed of the resampling.

    Returns:
        The replicates.

    Raises:
        ValueError: If the method is unknown or `num_replicates` is not positive.

    Source:
        Davison and Hinkley 1997, sections 3.8 and 6.2.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import bootstrap, fit
        >>> n = np.geomspace(2e4, 2e7, 8)
        >>> noise = 1 + 0.01 * np.random.default_rng(0).normal(size=8)
        >>> found = fit({"N": n, "loss": 3 * n**-0.25 * noise}, form="pow")
        >>> print(bootstrap(found, num_replicates=50).estimate("alpha"))
        alpha: 0.249 (95 % 0.248 to 0.251)
    """
    if method not in ("pairs", "residual", "wild"):
        raise ValueError(f"method must be 'pairs', 'residual' or 'wild', got {method!r}")
    if num_replicates < 1:
        raise ValueError(f"num_replicates must be at least 1, got {num_replicates}; 1000 is usual")
    problem, generator = pose(fit), np.random.default_rng(seed)
    clusters, num_points = fit.points.clusters, fit.num_points
    num_clusters = int(clusters.max()) + 1
    target, weights = problem.target[None], problem.weights[None]
    counts = np.ones((num_replicates, num_clusters), dtype=np.int64)
    num_failed = 0
    if method == "pairs":
        counts = generator.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_replicates)
        counts = counts[_enough(fit, counts, clusters)]
        num_failed = num_replicates - len(counts)
        weights = problem.weights * counts[:, clusters]
    else:
        smooth, residuals = problem.target - fit.residuals, fit.residuals
        if method == "residual":
            centred = residuals - np.average(residuals, weights=problem.weights)
            target = smooth + centred[generator.integers(num_points, size=(num_replicates, num_points))]
        else:
            target = (
                smooth + residuals * generator.choice([-1.0, 1.0], size=(num_replicates, num_clusters))[:, clusters]
            )
    theta = _refit(problem, fit, target, weights, generator)
    left_out = problem.weights * (clusters != np.arange(num_clusters)[:, None])
    jackknife = _refit(problem, fit, problem.target[None], left_out, generator)
    width = np.where(np.isfinite(problem.high), problem.high - problem.low, 1.0)
    edge = problem.free & ((theta - problem.low <= 1e-6 * width) | (problem.high - theta <= 1e-6 * width))
    shares = {
        name: float(share) for name, share in zip(fit.law.parameters, edge.mean(axis=0), strict=True) if share > 0
    }
    return Boot(fit, theta, jackknife, method, seed, counts, num_failed, shares)


def _enough(fit: Fit, counts: NDArray[np.int64], clusters: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Returns a mask of the resamples that have more different points than the law has parameters, shape (B,)."""
    first = np.unique(fit.points.inputs, axis=1, return_inverse=True)[1].ravel()
    present = np.zeros((len(counts), first.max() + 1), dtype=bool)
    for point, place in enumerate(first):
        present[:, place] |= counts[:, clusters[point]] > 0
    return np.asarray(present.sum(axis=1) > fit.num_free)


def _refit(problem: Problem, fit: Fit, target: Values, weights: Values, generator: np.random.Generator) -> Values:
    num = max(len(target), len(weights))
    best, lowest = np.empty((num, len(fit.theta))), np.full(num, np.inf)
    for jitter in [0.0] + [_JITTER] * _NUM_JITTERED:
        moved = fit.theta * np.exp(jitter * generator.normal(size=best.shape))
        start = np.clip(moved, problem.low, problem.high)
        bounds = (problem.low, problem.high)
        theta, objective = descend(problem.law, problem.x, target, weights, fit.delta, start, bounds)
        better = objective < lowest
        best[better], lowest[better] = theta[better], objective[better]
    return best
