"""The power law that breaks once into another, smoothly."""

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
    """L = E + A N^-alpha (1 + (N/d)^(1/f))^(-c f): exponent alpha far below d, alpha + c far above.

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
        """Gives the logarithm of the loss, shape (R, n), and its gradient by theta, shape (R, P, n)."""
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
        """Gives what the frame takes from the logarithms of the amplitude and of the place of the break."""
        zero = np.zeros_like(params["alpha"])
        return {"A": np.log(frame.scale) + params["alpha"] * frame.centre[0], "d": frame.centre[0] + zero}

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Gives the lower and upper bound of theta for data, shape (P,) each; the break lies within the data."""
        low, high = self.default_bounds(x, frame)
        low[3] = -high[3]
        low[4], high[4] = x[0].min(), x[0].max()
        low[5], high[5] = np.log(0.02), np.log(5.0)
        return low, high

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Breaks the best unbroken laws in several places, up and down."""
        lines = _LINE.starts(x, target, weights, frame)[:4]
        breaks = list(product(_CHANGES, np.quantile(x[0], [0.2, 0.4, 0.6, 0.8])))
        rows = []
        for amplitude, constant, alpha in lines:
            for change, place in breaks:
                lost = change * _WIDTH * np.logaddexp(0, (np.mean(x[0]) - place) / _WIDTH)
                rows.append([amplitude + lost, constant, alpha, change, place, np.log(_WIDTH)])
        return np.array(rows)
