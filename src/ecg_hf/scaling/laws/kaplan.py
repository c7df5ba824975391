"""The early-stopped law of model and data size, whose two terms limit each other instead of adding up."""

from collections.abc import Mapping

import numpy as np

from ecg_hf.scaling.laws.base import Frame, Law, Values
from ecg_hf.scaling.laws.power_laws import PowerLaws

_TERMS = (("A", "alpha", 0), ("B", "beta", 1))
_SUM = PowerLaws("sum", "", ("N", "D"), _TERMS, constant=True)


class Kaplan(Law):
    """L = E + ((A/N)^(alpha/beta) + B/D)^beta.

    The working amplitudes are those of the terms alone, (A/N)^alpha and (B/D)^beta, so that L - E is their norm of
    order 1/beta.

    Source:
        Kaplan et al. 2020 (arXiv:2001.08361), eq. 1.5, with the constant E of Brandfonbrener et al. 2024
        (arXiv:2411.12925), eq. 2.
    """

    name = "kaplan"
    formula = "L = E + ((A/N)^(alpha/beta) + B/D)^beta"
    inputs = ("N", "D")
    parameters = ("A", "B", "E", "alpha", "beta")
    exponents = ("alpha", "beta")
    terms = _TERMS

    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Gives the logarithm of the loss, shape (R, n), and its gradient by theta, shape (R, P, n)."""
        a, b, constant, alpha, beta = theta.T[:, :, None]
        first, second = (a - alpha * x[0]) / beta, (b - beta * x[1]) / beta
        norm = np.logaddexp(first, second)
        reducible = np.exp(beta * norm)
        share, rest = np.exp(first - norm), np.exp(second - norm)
        total = constant + reducible
        of_beta = norm - share * first - rest * (second + x[1])
        gradient = np.stack([share, rest, np.zeros_like(total), -x[0] * share, of_beta], axis=1)
        gradient *= (reducible / total)[:, None]
        gradient[:, 2] = 1 / total
        return np.log(total), gradient

    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Gives what the frame takes from the logarithm of each amplitude: ln A = theta + offset."""
        return _SUM.offsets(params, frame)

    def log_amplitude(self, name: str, params: Mapping[str, Values]) -> Values:
        """Gives the logarithm of the term alone: (A/N)^alpha at N = 1."""
        return np.log(params[name]) * params["alpha" if name == "A" else "beta"]

    def amplitude(self, name: str, coordinate: Values, params: Mapping[str, Values]) -> Values:
        """Undoes `log_amplitude`."""
        return np.exp(coordinate / params["alpha" if name == "A" else "beta"])

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Gives the lower and upper bound of theta for data, shape (P,) each."""
        return self.default_bounds(x, frame)

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Begins where the sum of the two terms fits: the same terms, whose norm is a little less than their sum."""
        return _SUM.starts(x, target, weights, frame)
