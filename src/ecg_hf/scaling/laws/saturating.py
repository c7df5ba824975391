"""The saturating law, in which the loss of small models levels off at the known loss at chance."""

from collections.abc import Mapping
from itertools import product

import numpy as np
from scipy.special import expit

from ecg_hf.scaling.laws.base import LARGEST_EXPONENT, Frame, Law, Values

_MAX_STEPS = 60
_SHARPNESS = (0.1, 0.4, 0.8, 1.2)
_CONSTANTS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)


class Saturating(Law):
    """The law (L - E) / (L0 - L)^g = A N^-alpha, where L0 is the loss of a model that knows only the prevalence.

    Far below L0 the law is a power law with exponent alpha; near L0 no power law holds. L0 is known, for example 1 for
    a normalised entropy, and has to be given.

    Source:
        Alabdulmohsin et al. 2022 (arXiv:2209.06640), M4.
    """

    name = "saturating"
    formula = "(L - E) / (L0 - L)^g = A N^-alpha"
    inputs = ("N",)
    parameters = ("A", "E", "L0", "alpha", "g")
    levels = ("E", "L0")
    exponents = ("alpha", "g")
    given = ("L0",)

    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Returns the logarithm of the loss, shape (R, n), and its gradient with respect to theta, shape (R, P, n).

        With L = E + w s(z), where w = L0 - E and s is the logistic function, the law becomes a monotone equation in z.
        """
        a, constant, chance, alpha, g = theta.T[:, :, None]
        width = chance - constant
        z = _solve((a - alpha * x[0]) - (1 - g) * np.log(width), g)
        share, rest = expit(z), expit(-z)
        slope = rest + g * share
        loss = constant + width * share
        steep = width * share * rest / slope  # derivative of L by the logarithm of the right-hand side
        gradient = np.stack(
            [
                steep,
                rest + (1 - g) * steep / width,
                np.zeros_like(loss),
                -steep * x[0],
                steep * (np.log(width) - np.logaddexp(0, z)),
            ],
            axis=1,
        )
        return np.log(loss), gradient / loss[:, None]

    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Returns the difference that the frame makes to the logarithm of the amplitude: ln A = theta + offset."""
        return {"A": (1 - params["g"]) * np.log(frame.scale) + params["alpha"] * frame.centre[0]}

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta for the data, shape (P,) each."""
        low, high = self.default_bounds(x, frame)
        high[1] = min(high[1], frame.chance * (1 - 1e-9))
        low[2], high[2] = frame.smallest, np.inf
        low[4], high[4] = 0.0, LARGEST_EXPONENT
        return low, high

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Fits a line to the transformed losses for every g and E of a grid, with L0 from the frame."""
        loss, chance = np.exp(target), frame.chance
        below = loss < 0.995 * chance
        if below.sum() < 2:
            below = loss <= np.median(loss)
        found, squares = [], []
        for g, part in product(_SHARPNESS, _CONSTANTS):
            constant = part * min(frame.smallest, chance)
            height = np.log(loss[below] - constant) - g * np.log(np.maximum(chance - loss[below], 1e-3 * chance))
            slope, level = np.polyfit(x[0][below], height, 1, w=np.sqrt(weights[below]))
            found.append([level, constant, chance, float(np.clip(-slope, 0.02, 2.0)), g])
            residuals = self.evaluate(np.array(found[-1:]), x)[0][0] - target
            squares.append(float(weights @ residuals**2))
        return np.array(found)[np.argsort(squares, kind="stable")]


def _solve(right: Values, g: Values) -> Values:
    """Solves g softplus(z) - softplus(-z) = right for z with Newton's method.

    The left side is monotone, and everywhere convex or everywhere concave, so that at most one step overshoots.
    """
    z = np.where(right < 0, right, right / np.maximum(g, 0.05))
    for _ in range(_MAX_STEPS):
        height = g * np.logaddexp(0, z) - np.logaddexp(0, -z) - right
        step = height / np.maximum(expit(-z) + g * expit(z), 1e-12)
        z = np.clip(z - step, -700.0, 700.0)
        if np.max(np.abs(step)) < 1e-13 * (1 + np.max(np.abs(z))):
            break
    return z
