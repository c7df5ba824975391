"""The law of model and data size for training that repeats its records over several epochs."""

from collections.abc import Mapping
from itertools import product

import numpy as np

from ecg_hf.scaling.laws.base import Frame, Law, Values
from ecg_hf.scaling.laws.power_laws import PowerLaws

_SUM = PowerLaws("sum", "", ("N", "D"), (("A", "alpha", 0), ("B", "beta", 1)), constant=True)
_HALF_LIVES = np.log([1.0, 4.0, 15.0, 60.0])
_NUM_SUMS = 4


class Repeated(Law):
    """The chinchilla law of an effective N and D, in which each repetition of a record is worth less than the last.

    D counts unique records and S the records seen, D times the epochs. The value of repetitions decays with the
    constant R_D*; the value of parameters beyond the optimum for D decays with the constant R_N*.

    Source:
        Muennighoff et al. 2023 (arXiv:2305.16264), eq. 5, 6 and 11; N_opt is Hoffmann's, their eq. 4.
    """

    name = "repeated"
    formula = "L = E + A N'^-alpha + B D'^-beta, N' and D' saturating with R_N* and R_D*"
    inputs = ("N", "D", "S")
    parameters = ("A", "B", "E", "alpha", "beta", "R_D*", "R_N*")
    exponents = ("alpha", "beta")
    num_starts = _NUM_SUMS * len(_HALF_LIVES) ** 2

    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Returns the logarithm of the loss, shape (R, n), and its gradient with respect to theta, shape (R, P, n)."""
        a, b, _, alpha, beta, log_rate_d, log_rate_n = theta.T[:, :, None]
        unique = np.minimum(x[1], x[2])
        # the optimal N for this many unique records, where alpha A N^-alpha = beta B D^-beta
        balance = np.log(alpha / beta) + a - b
        optimum = balance / alpha + beta / alpha * unique
        capped = optimum < x[0]
        used = np.where(capped, optimum, x[0])
        size, size_by_used, size_by_rate = _decayed(used, x[0], log_rate_n)
        data, _, data_by_rate = _decayed(np.broadcast_to(unique, used.shape), x[2], log_rate_d)
        log_loss, plain = _SUM.evaluate(theta[:, :5], np.stack([size, data]))
        by_size, by_data = -alpha * plain[:, 0], -beta * plain[:, 1]
        by_used = np.where(capped, by_size * size_by_used, 0.0)
        gradient = np.concatenate([plain, (by_data * data_by_rate)[:, None], (by_size * size_by_rate)[:, None]], axis=1)
        gradient[:, 0] += by_used / alpha
        gradient[:, 1] -= by_used / alpha
        gradient[:, 3] += by_used * (1 - balance - beta * unique) / alpha**2
        gradient[:, 4] += by_used * (unique - 1 / beta) / alpha
        return log_loss, gradient

    def centre(self, logs: Values) -> Values:
        """Returns the origin of each input, shape (3,); unique records and records seen share one for comparison."""
        centre: Values = logs.mean(axis=1)
        centre[2] = centre[1]
        return centre

    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Returns, by amplitude, the difference that the frame makes to its logarithm: ln A = theta + offset."""
        return _SUM.offsets(params, frame)

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta for the data, shape (P,) each."""
        low, high = self.default_bounds(x, frame)
        low[5:], high[5:] = np.log(1e-2), np.log(1e6)
        return low, high

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Combines fits that count every record seen as a new one with a grid of R_D* and R_N*."""
        sums = _SUM.starts(np.stack([x[0], x[2]]), target, weights, frame)[:_NUM_SUMS]
        rates = np.array(list(product(_HALF_LIVES, repeat=2)))
        return np.hstack([np.repeat(sums, len(rates), axis=0), np.tile(rates, (len(sums), 1))])


def _decayed(log_once: Values, log_all: Values, log_rate: Values) -> tuple[Values, Values, Values]:
    """Computes the logarithm of u (1 + R* (1 - exp(-R/R*))), R = all/u - 1, and its derivatives by ln u and ln R*."""
    rate = np.exp(log_rate)
    ratio = np.exp(np.clip(log_all - log_once, 0.0, 50.0))  # a search may pass through optima far outside the data
    left = np.exp(-(ratio - 1) / rate)
    total = 1 - rate * np.expm1(-(ratio - 1) / rate)
    by_once = 1 - left * ratio / total
    by_rate = (-rate * np.expm1(-(ratio - 1) / rate) - (ratio - 1) * left) / total
    return log_once + np.log(total), by_once, by_rate
