"""The broken power law, which changes smoothly from one exponent to another at a break."""

from collections.abc import Mapping
from itertools import product

import numpy as np
from scipy.special import expit

from ecg_hf.scaling.laws.base import Frame, Law, Values
from ecg_hf.scaling.laws.power_laws import PowerLaws

_LINE = PowerLaws("line", "", ("N",), (("A", "alpha", 0),), constant=True)
_CHANGES = (-0.2, 0.2, 0.6)
_WIDTH = 0.3


class Broken(Law):
    """The law L = E + A N^-alpha (1 + (N/d)^(1/f))^(-c f), whose exponent is alpha far below d and alpha + c far above.

    Source:
        Caballero et al. 2023 (arXiv:2210.14891), eq. 1 with one break.
    """

    name = "broken"
    formula = "L = E + A N^-alpha (1 + (N/d)^(1/f))^(-c f)"
    inputs = ("N",)
    parameters = ("A", "E", "alpha", "c", "d", "f")
    exponents = ("alpha", "c")
    num_starts = 48

    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Returns the logarithm of the loss, shape (R, n), and its gradient with respect to theta, shape (R, P, n)."""
        a, constant, alpha, change, place, log_width = theta.T[:, :, None]
        width = np.exp(log_width)
        z = (x[0] - place) / width
        soft = np.logaddexp(0, z)
        part = np.exp(a - alpha * x[0] - change * width * soft)
        total = constant + part
        beyond = expit(z)
        slopes = [
            np.ones_like(part),
            1 / part,
            -np.broadcast_to(x[0], part.shape),
            -width * soft,
            change * beyond,
            -change * width * (soft - z * beyond),
        ]
        return np.log(total), np.stack(slopes, axis=1) * (part / total)[:, None]

    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Returns the difference that the frame makes to the logarithms of the amplitude A and of the break d."""
        zero = np.zeros_like(params["alpha"])
        return {"A": np.log(frame.scale) + params["alpha"] * frame.centre[0], "d": frame.centre[0] + zero}

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta, shape (P,) each; the break lies within the data."""
        low, high = self.default_bounds(x, frame)
        low[3] = -high[3]
        low[4], high[4] = x[0].min(), x[0].max()
        low[5], high[5] = np.log(0.02), np.log(5.0)
        return low, high

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Starts from the best fits without a break, with breaks at several places to larger and smaller exponents."""
        lines = _LINE.starts(x, target, weights, frame)[:4]
        breaks = list(product(_CHANGES, np.quantile(x[0], [0.2, 0.4, 0.6, 0.8])))
        rows = []
        for amplitude, constant, alpha in lines:
            for change, place in breaks:
                lost = change * _WIDTH * np.logaddexp(0, (np.mean(x[0]) - place) / _WIDTH)
                rows.append([amplitude + lost, constant, alpha, change, place, np.log(_WIDTH)])
        return np.array(rows)
