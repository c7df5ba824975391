"""Kaplan's law of model and data size under early stopping, in which the larger of the two terms dominates."""

from collections.abc import Mapping

import numpy as np

from ecg_hf.scaling.laws.base import Frame, Law, Values
from ecg_hf.scaling.laws.power_laws import PowerLaws

_TERMS = (("A", "alpha", 0), ("B", "beta", 1))
_SUM = PowerLaws("sum", "", ("N", "D"), _TERMS, constant=True)


class Kaplan(Law):
    """The law L = E + ((A/N)^(alpha/beta) + B/D)^beta.

    The working coordinates of A and B are the logarithms of A^alpha and B^beta, the amplitudes of the terms
    (A/N)^alpha and (B/D)^beta. L - E is the norm of order 1/beta of these two terms.

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
        """Returns the logarithm of the loss, shape (R, n), and its gradient with respect to theta, shape (R, P, n)."""
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
        """Returns, by amplitude, the difference that the frame makes to its coordinate, as for a sum of two terms."""
        return _SUM.offsets(params, frame)

    def log_amplitude(self, name: str, params: Mapping[str, Values]) -> Values:
        """Returns the logarithm of A^alpha or B^beta, the term of the amplitude at N = 1 or D = 1."""
        return np.log(params[name]) * params["alpha" if name == "A" else "beta"]

    def amplitude(self, name: str, coordinate: Values, params: Mapping[str, Values]) -> Values:
        """Returns the amplitude of a working coordinate; the inverse of `log_amplitude`."""
        return np.exp(coordinate / params["alpha" if name == "A" else "beta"])

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta for the data, shape (P,) each."""
        return self.default_bounds(x, frame)

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Starts from fits of the sum of the same two terms, which is a little larger than their norm."""
        return _SUM.starts(x, target, weights, frame)
