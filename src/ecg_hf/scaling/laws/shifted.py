"""The loss-to-loss law, a shifted power law from one loss to another."""

from collections.abc import Mapping
from itertools import product

import numpy as np

from ecg_hf.scaling.laws.base import Frame, Law, Values

_SHARES = (0.0, 0.3, 0.6, 0.8, 0.9, 0.96)


class Shifted(Law):
    """The law L_y = E_y + K (L_x - E_x)^kappa, where L_x is the loss of the same or a paired model on other data.

    Source:
        Brandfonbrener et al. 2024 (arXiv:2411.12925), eq. 5; Mayilvahanan et al. 2025 (arXiv:2502.12120), eq. 1.
    """

    name = "loss-to-loss"
    formula = "L_y = E_y + K (L_x - E_x)^kappa"
    inputs = ("X",)
    parameters = ("K", "E_x", "E_y", "kappa")
    levels = ("E_x", "E_y")
    exponents = ("kappa",)
    num_starts = 36

    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Returns the logarithm of L_y, shape (R, n), and its gradient with respect to theta, shape (R, P, n)."""
        level, floor, constant, kappa = theta.T[:, :, None]
        above = np.maximum(np.exp(x[0]) - floor, 1e-12)
        part = np.exp(level + kappa * np.log(above))
        total = constant + part
        gradient = np.stack([part, -kappa * part / above, np.ones_like(part), part * np.log(above)], axis=1)
        return np.log(total), gradient / total[:, None]

    def unit(self, name: str, frame: Frame) -> float:
        """Returns the loss that one unit of a level stands for; E_x is in units of L_x and E_y in units of L_y."""
        return float(np.exp(frame.centre[0])) if name == "E_x" else frame.scale

    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Returns the difference that the frame makes to the logarithm of the amplitude: ln K = theta + offset."""
        return {"K": np.log(frame.scale) - params["kappa"] * frame.centre[0]}

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta for the data, shape (P,) each."""
        low, high = self.default_bounds(x, frame)
        low[1], high[1] = 0.0, float(np.exp(x[0].min())) * (1 - 1e-6)
        low[2], high[2] = 0.0, frame.smallest * (1 - 1e-6)
        high[3] = 10.0
        return low, high

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Fits a line to ln(L_y - E_y) as a function of ln(L_x - E_x) for every E_x and E_y of a grid."""
        lowest, found, squares = float(np.exp(x[0].min())), [], []
        for share_x, share_y in product(_SHARES, repeat=2):
            floor, constant = share_x * lowest, share_y * frame.smallest
            above = np.log(np.exp(x[0]) - floor)
            kappa, level = np.polyfit(above, np.log(np.exp(target) - constant), 1, w=np.sqrt(weights))
            found.append([level, floor, constant, max(float(kappa), 0.02)])
            residuals = self.evaluate(np.array(found[-1:]), x)[0][0] - target
            squares.append(float(weights @ residuals**2))
        return np.array(found)[np.argsort(squares, kind="stable")]
