"""Robust least squares for many parameter vectors at once, by damped Newton steps on the log-Huber objective."""

import numpy as np
from numpy.typing import NDArray

from ecg_hf.scaling.laws.base import Law, Values

_MAX_STEPS = 500
_CHUNK_VALUES = 2**18  # 2 MiB of gradient, so that the working set of a chunk stays in a core's cache
_MOST_DAMPING = 1e12
_TOLERANCE = 1e-13
# Mean squared residual below which only rounding is left, because the data follow the law exactly.
_EXACT = 1e-29


def huber(residuals: Values, delta: float) -> Values:
    """Computes Huber's loss of residuals, which is half the square up to delta and linear beyond.

    Args:
        residuals: Residuals, of any shape.
        delta: Residual at which the loss becomes linear; infinity is half the square everywhere.

    Returns:
        Losses, of the shape of the residuals.

    Source:
        Huber 1964, eq. 1.
    """
    size = np.abs(residuals)
    if np.isinf(delta):
        return size**2 / 2
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def descend(
    law: Law, x: Values, target: Values, weights: Values, delta: float, start: Values, bounds: tuple[Values, Values]
) -> tuple[Values, Values]:
    """Minimises the weighted sum of Huber's losses of log residuals, from R starting points at once.

    Each start may have targets and weights of its own, as bootstrap replicates do.

    Args:
        law: Law to fit.
        x: Centred logarithms of the inputs, shape (K, n).
        target: Logarithms of the losses, shape (n,) or (R, n).
        weights: Weights of the points, shape (n,) or (R, n).
        delta: Log residual at which Huber's loss becomes linear.
        start: Working coordinates to start from, shape (R, P).
        bounds: Lower and upper bounds, shape (P,) or (R, P) each; equal bounds fix a parameter.

    Returns:
        Working coordinates at the minima, shape (R, P), and the objectives there, shape (R,).

    Source:
        Hoffmann et al. 2022 (arXiv:2203.15556), eq. 3, as a sum and not a mean: Besiroglu et al. 2024
        (arXiv:2404.10102). Steps: Marquardt 1963; bounds: Bertsekas 1982, section 1.5.
    """
    num, num_points = len(start), x.shape[-1]
    size = max(1, _CHUNK_VALUES // (len(law.parameters) * num_points))
    targets, weighted = (np.broadcast_to(each, (num, num_points)) for each in (target, weights))
    low, high = (np.broadcast_to(each, start.shape) for each in bounds)
    theta, objective = np.empty(start.shape), np.empty(num)
    for first in range(0, num, size):
        chunk = slice(first, first + size)
        search = _Descent(law, x, targets[chunk], weighted[chunk], delta, low[chunk], high[chunk])
        theta[chunk], objective[chunk] = search.run(start[chunk])
    return theta, objective


class _Descent:
    """The searches of one chunk of starts, with data of shape (R, n) and bounds of shape (R, P)."""

    def __init__(self, law: Law, x: Values, target: Values, weights: Values, delta: float, low: Values, high: Values):
        self.law, self.x, self.target, self.weights, self.delta = law, x, target, weights, delta
        self.low, self.high = low, high

    def run(self, start: Values) -> tuple[Values, Values]:
        """Descends from every start until three steps in a row gain nothing, no step descends, or the fit is exact."""
        theta = np.clip(start, self.low, self.high)
        residuals, gradient, objective = self._evaluate(theta, np.arange(len(theta)))
        damping, calm = np.full(len(theta), 1e-3), np.zeros(len(theta), dtype=np.intp)
        active = np.arange(len(theta))
        for _ in range(_MAX_STEPS):
            if not len(active):
                break
            step = self._step(theta, residuals, gradient, damping, active)
            tried = np.clip(theta[active] + step, self.low[active], self.high[active])
            new_residuals, new_gradient, new_objective = self._evaluate(tried, active)
            gain = objective[active] - new_objective
            better = gain >= 0
            kept = active[better]
            small = gain <= _TOLERANCE * objective[active]
            calm[active] = np.where(better, np.where(small, calm[active] + 1, 0), calm[active])
            theta[kept], residuals[kept], gradient[kept] = tried[better], new_residuals[better], new_gradient[better]
            objective[kept] = new_objective[better]
            damping[active] *= np.where(better, 0.2, 8.0)
            np.maximum(damping, 1e-12, out=damping)
            exact = objective[active] <= _EXACT * self.weights[active].sum(axis=1)
            active = active[(calm[active] < 3) & (damping[active] < _MOST_DAMPING) & ~exact]
        return theta, objective

    def _evaluate(self, theta: Values, rows: NDArray[np.intp]) -> tuple[Values, Values, Values]:
        predicted, gradient = self.law.evaluate(theta, self.x)
        residuals = predicted - self.target[rows]
        return residuals, gradient, np.einsum("rn,rn->r", self.weights[rows], huber(residuals, self.delta))

    def _step(
        self, theta: Values, residuals: Values, gradient: Values, damping: Values, rows: NDArray[np.intp]
    ) -> Values:
        """Computes a damped Newton step for each of some rows, shape (number of rows, P).

        The curvature comes from the points within delta. The damping adds the curvature of a parabola that touches the
        objective and lies above it, so that a step with enough damping always descends.
        """
        residuals, gradient, weights = residuals[rows], gradient[rows], self.weights[rows]
        size = np.abs(residuals)
        slope = (gradient @ (weights * np.clip(residuals, -self.delta, self.delta))[..., None])[..., 0]
        above = weights * (np.minimum(1.0, self.delta / np.maximum(size, 1e-300)) if np.isfinite(self.delta) else 1.0)
        turned = gradient.transpose(0, 2, 1)
        majorant = (gradient * above[:, None]) @ turned
        inside = (gradient * (weights * (size <= self.delta))[:, None]) @ turned
        diagonal = np.arange(theta.shape[1])
        majorant[:, diagonal, diagonal] *= 2
        matrix = inside + damping[rows, None, None] * majorant
        at_low, at_high = theta[rows] <= self.low[rows], theta[rows] >= self.high[rows]
        held = (at_low & (slope > 0)) | (at_high & (slope < 0)) | (at_low & at_high)
        matrix = np.where(held[:, :, None] | held[:, None, :], 0.0, matrix)
        # the ridge keeps a direction that no point depends on from making the matrix singular
        ridge = 1e-14 * np.trace(matrix, axis1=1, axis2=2)[:, None] + 1e-300
        matrix[:, diagonal, diagonal] = np.where(held, 1.0, matrix[:, diagonal, diagonal] + ridge)
        return np.asarray(-np.linalg.solve(matrix, np.where(held, 0.0, slope)[..., None])[..., 0], dtype=np.float64)
