"""What a scaling law is: a loss as a function of a few inputs and parameters, with its gradient."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

LARGEST_EXPONENT = 3.0
SMALLEST_EXPONENT = 1e-3
# A term's share of the loss, as a logarithm, that no data of ours could tell from none or from all.
SMALLEST_SHARE, LARGEST_SHARE = -25.0, 12.0


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the working coordinates have their origin: logarithms are centred, losses in units of their mean.

    Centring takes the correlation from amplitude and exponent; the unit makes a fit the same in nats and in bits.

    Args:
        centre: Mean logarithm of each input, shape (K,).
        scale: Geometric mean of the losses.
        smallest: Smallest loss in units of `scale`; E stays below.
        chance: L0 in units of `scale`, for the law that needs it.
    """

    centre: Values
    scale: float
    smallest: float
    chance: float = np.inf

    @classmethod
    def plain(cls, num_inputs: int) -> "Frame":
        """Gives the frame in which working coordinates are bare logarithms and losses."""
        return cls(np.zeros(num_inputs), 1.0, np.inf)


class Law(ABC):
    """A form of scaling law.

    Parameters have letters in public. Inside, each is one working coordinate of a vector theta: amplitudes as
    logarithms, exponents as they are, levels of loss in units of the frame. Many vectors are handled at once: theta
    has shape (R, P), inputs x are centred logarithms of shape (K, n) or (K, R, n), and what comes out has one row per
    vector.

    Attributes:
        name: By which it is asked for.
        formula: As in the literature.
        inputs: Letters of the inputs, in order; a law of one input takes any.
        parameters: Letters, in the order of theta.
        levels: Parameters that are levels of loss.
        exponents: Parameters bounded as exponents.
        given: Parameters that the data cannot give and the caller must.
        num_starts: Searches that find the best valley.
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
        """Gives the logarithm of the loss, shape (R, n), and its gradient by theta, shape (R, P, n)."""

    def frame(self, inputs: Values, loss: Values, chance: float = np.inf) -> Frame:
        """Places the origin in the middle of data.

        Args:
            inputs: Not logarithms, shape (K, n).
            loss: Shape (n,).
            chance: L0 in the unit of the losses, if the law needs it.
        """
        scale = float(np.exp(np.mean(np.log(loss))))
        return Frame(self.centre(np.log(inputs)), scale, float(loss.min() / scale), chance / scale)

    def centre(self, logs: Values) -> Values:
        """Gives the origin of each input's logarithm, shape (K,)."""
        return np.asarray(logs.mean(axis=1))

    @abstractmethod
    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Gives what the frame takes from the logarithm of each amplitude: ln A = theta + offset."""

    @abstractmethod
    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Gives the lower and upper bound of theta for data, shape (P,) each."""

    @abstractmethod
    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Finds places to begin a search, shape (R, P), the most promising first.

        Args:
            x: Centred logarithms of the inputs, shape (K, n).
            target: Logarithm of the losses in units of the frame, shape (n,).
            weights: Of the points, shape (n,).
            frame: Of the data.
        """

    def encode(self, params: Mapping[str, ArrayLike], frame: Frame) -> Values:
        """Turns parameters, each of shape (R,) or a number, into working coordinates, shape (R, P)."""
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
        """Turns working coordinates, shape (R, P), into parameters by letter, shape (R,) each."""
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
        """Gives the unit of a level in working coordinates."""
        return frame.scale

    def log_amplitude(self, name: str, params: Mapping[str, Values]) -> Values:
        """Gives the coordinate of an amplitude before the frame moves it."""
        return np.log(params[name])

    def amplitude(self, name: str, coordinate: Values, params: Mapping[str, Values]) -> Values:
        """Undoes `log_amplitude`."""
        return np.exp(coordinate)

    def log_predict(self, params: Mapping[str, ArrayLike], *inputs: ArrayLike) -> Values:
        """Gives the logarithm of the loss that a law predicts.

        Args:
            params: By letter, numbers.
            inputs: In the order of `inputs`, not logarithms, shape (n,) each.
        """
        x = np.log(np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(each, np.float64)) for each in inputs))))
        frame = Frame.plain(len(self.inputs))
        return np.asarray(self.evaluate(self.encode(params, frame), x)[0][0])

    def predict(self, params: Mapping[str, ArrayLike], *inputs: ArrayLike) -> Values:
        """Gives the loss that a law predicts; arguments are those of `log_predict`."""
        return np.exp(self.log_predict(params, *inputs))

    def default_bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Gives the bounds that each kind of parameter has in every law; arguments are those of `bounds`."""
        # without a centre, an amplitude has to make up for the exponent times the mean logarithm
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
