"""The base class of scaling laws: a loss as a function of inputs and parameters, with its gradient."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

LARGEST_EXPONENT = 3.0
SMALLEST_EXPONENT = 1e-3
# Bounds of the logarithm of a term at the centre of the data, in units of the mean loss: a smaller term is lost in
# rounding, a larger one exceeds every loss.
SMALLEST_SHARE, LARGEST_SHARE = -25.0, 12.0


@dataclass(frozen=True, eq=False)
class Frame:
    """The origin and the unit of the working coordinates, taken from the data.

    Logarithms of inputs are centred, which removes most of the correlation between an amplitude and its exponent.
    Losses are divided by their geometric mean, so that a fit is the same in nats and in bits.

    Args:
        centre: Origin of the logarithm of each input, shape (K,); usually its mean.
        scale: Geometric mean of the losses.
        smallest: Smallest loss in units of `scale`, an upper bound of E.
        chance: Loss at chance, L0, in units of `scale`; infinite for laws that do not need it.
    """

    centre: Values
    scale: float
    smallest: float
    chance: float = np.inf

    @classmethod
    def plain(cls, num_inputs: int) -> "Frame":
        """Builds the frame without centring and scaling, in which coordinates are logarithms and losses as they are."""
        return cls(np.zeros(num_inputs), 1.0, np.inf)


class Law(ABC):
    """A form of scaling law, such as L = E + A N^-alpha.

    Users name parameters by letter. Inside, a vector theta of working coordinates holds them: amplitudes as
    logarithms, exponents unchanged, levels of loss in units of the frame. R vectors are evaluated at once: theta has
    shape (R, P), the inputs x are centred logarithms of shape (K, n) or (K, R, n), and every result has R rows.

    Attributes:
        name: Name of the law in `LAWS`.
        formula: Formula as in the literature.
        inputs: Letters of the inputs, in order. A law of one input can be fitted to any input.
        parameters: Letters of the parameters, in the order of theta.
        levels: Parameters that are levels of loss.
        exponents: Parameters with the bounds of exponents.
        given: Parameters that cannot be fitted, which the caller has to provide.
        num_starts: Default number of searches, enough to find the best optimum.
    """

    name: str
    formula: str
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    levels: tuple[str, ...] = ("E",)
    exponents: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    num_starts: int = 24

    @abstractmethod
    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Returns the logarithm of the loss, shape (R, n), and its gradient with respect to theta, shape (R, P, n)."""

    def frame(self, inputs: Values, loss: Values, chance: float = np.inf) -> Frame:
        """Builds the frame whose origin is in the middle of the data.

        Args:
            inputs: Inputs of the points, not their logarithms, shape (K, n).
            loss: Losses of the points, shape (n,).
            chance: Loss at chance, L0, in the unit of the losses, if the law needs it.

        Returns:
            The frame of these points.
        """
        scale = float(np.exp(np.mean(np.log(loss))))
        return Frame(self.centre(np.log(inputs)), scale, float(loss.min() / scale), chance / scale)

    def centre(self, logs: Values) -> Values:
        """Returns the origin of the logarithm of each input, shape (K,); the mean, unless a law overrides it."""
        return np.asarray(logs.mean(axis=1))

    @abstractmethod
    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Returns, by amplitude, the difference that the frame makes to its logarithm: ln A = theta + offset."""

    @abstractmethod
    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta for the data, shape (P,) each."""

    @abstractmethod
    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Finds starting points of the search.

        Args:
            x: Centred logarithms of the inputs, shape (K, n).
            target: Logarithms of the losses in units of the frame, shape (n,).
            weights: Weights of the points, shape (n,).
            frame: Frame of the data.

        Returns:
            Vectors theta, shape (R, P), the most promising first.
        """

    def encode(self, params: Mapping[str, ArrayLike], frame: Frame) -> Values:
        """Converts parameters, each a number or of shape (R,), to working coordinates, shape (R, P)."""
        given = {name: np.atleast_1d(np.asarray(params[name], dtype=np.float64)) for name in self.parameters}
        offsets = self.offsets(given, frame)
        columns = []
        for name in self.parameters:
            if name in self.levels:
                columns.append(given[name] / self.unit(name, frame))
            elif name in self.exponents:
                columns.append(given[name])
            else:
                columns.append(self.log_amplitude(name, given) - offsets.get(name, np.zeros(1)))
        return np.stack(np.broadcast_arrays(*columns), axis=1)

    def decode(self, theta: Values, frame: Frame) -> dict[str, Values]:
        """Converts working coordinates, shape (R, P), to parameters by letter, shape (R,) each."""
        params = {}
        for column, name in enumerate(self.parameters):
            params[name] = theta[:, column] * (self.unit(name, frame) if name in self.levels else 1.0)
        offsets = self.offsets(params, frame)
        with np.errstate(over="ignore"):
            for name in self.parameters:
                if name not in self.levels and name not in self.exponents:
                    params[name] = self.amplitude(name, params[name] + offsets.get(name, np.zeros(1)), params)
        return params

    def unit(self, name: str, frame: Frame) -> float:
        """Returns the loss that one unit of a level stands for in working coordinates."""
        return frame.scale

    def log_amplitude(self, name: str, params: Mapping[str, Values]) -> Values:
        """Returns the working coordinate of an amplitude in the plain frame, usually its logarithm."""
        return np.log(params[name])

    def amplitude(self, name: str, coordinate: Values, params: Mapping[str, Values]) -> Values:
        """Returns the amplitude of a working coordinate in the plain frame; the inverse of `log_amplitude`."""
        return np.exp(coordinate)

    def log_predict(self, params: Mapping[str, ArrayLike], *inputs: ArrayLike) -> Values:
        """Predicts the logarithm of the loss.

        Args:
            params: Parameters by letter, one number each.
            inputs: Inputs in the order of the attribute `inputs`, not their logarithms, shape (n,) each.

        Returns:
            Logarithms of the loss, shape (n,).
        """
        x = np.log(np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(each, np.float64)) for each in inputs))))
        frame = Frame.plain(len(self.inputs))
        return np.asarray(self.evaluate(self.encode(params, frame), x)[0][0])

    def predict(self, params: Mapping[str, ArrayLike], *inputs: ArrayLike) -> Values:
        """Predicts the loss, shape (n,); the arguments are those of `log_predict`."""
        return np.exp(self.log_predict(params, *inputs))

    def default_bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the bounds that follow from the kind of each parameter; the arguments are those of `bounds`."""
        # without centring, an amplitude also has to cover the exponent times the mean logarithm of the input
        reach = LARGEST_EXPONENT * max(0.0, float(np.max(x.mean(axis=-1))))
        low, high = [], []
        for name in self.parameters:
            if name == "E":
                side = (0.0, frame.smallest * (1 - 1e-9))
            elif name in self.exponents:
                side = (SMALLEST_EXPONENT, LARGEST_EXPONENT)
            else:
                side = (SMALLEST_SHARE, LARGEST_SHARE + reach)
            low.append(side[0])
            high.append(side[1])
        return np.array(low), np.array(high)
