"""The crossover of two cells, the input at which the laws of both predict the same loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_hf.scaling.comparison.multipliers import Source, axis_of, check_comparable, shared_inputs
from ecg_hf.scaling.fitting.intervals import CONFIDENCE, Boot
from ecg_hf.scaling.laws.base import Values

_NUM_GRID = 801
REACH = 10.0


@dataclass(frozen=True)
class Crossover:
    """A crossover: the value of an input beyond which another cell has the lower loss.

    Args:
        axis: Letter of the input.
        at: Values of the remaining inputs, by letter.
        value: Input at the last crossing within ten times the data; NaN if there is no crossing.
        low: Lower end of the interval, over the replicates that do not cross the opposite way; 0 if the end lies below
            the range that is searched.
        high: Upper end of the interval; infinite if the end lies above the range that is searched.
        inside: Whether the crossing lies within the range that both cells were trained in.
        beyond: Name of the cell with the lower loss beyond the crossing, or everywhere if there is no crossing.
        share_crossing: Fraction of the replicates that cross the way the fits do. If the fits do not cross, the
            fraction in which the cell with the higher loss overtakes. NaN without replicates.
        share_opposite: Fraction of the replicates that cross the opposite way, which contradict the claim.
        num_crossings: Number of crossings of the two fits.
    """

    axis: str
    at: Mapping[str, float]
    value: float
    low: float
    high: float
    inside: bool
    beyond: str
    share_crossing: float
    share_opposite: float
    num_crossings: int

    def __str__(self) -> str:
        share = ""
        if not np.isnan(self.share_crossing):
            claim = "the other cell overtakes in {}" if np.isnan(self.value) else "{} cross this way"
            share = claim.format(f"{100 * self.share_crossing:.0f} % of replicates")
            share += f", {100 * self.share_opposite:.0f} % the other way"
        if np.isnan(self.value):
            rest = f"; {share}" if share else ""
            return f"crossover on {self.axis}: none within 10x of data; {self.beyond} has the lower loss{rest}"
        high = "none within 10x of data" if np.isinf(self.high) else f"{self.high:.3g}"
        low = "below the data" if self.low == 0 else f"{self.low:.3g}"
        interval = f" ({100 * CONFIDENCE:.0f} % {low} to {high}; {share})" if share else ""
        where = "inside the data" if self.inside else "outside the data, an extrapolation"
        several = f"; the largest of {self.num_crossings} crossings" if self.num_crossings > 1 else ""
        return (
            f"crossover on {self.axis}: {self.value:.3g}{interval}, {where}; beyond it {self.beyond} has the lower "
            f"loss{several}"
        )


def crossover(a: Source, b: Source, axis: str = "N", at: Mapping[str, float] | None = None) -> Crossover:
    """Finds the input at which two laws of the same evaluation predict the same loss.

    The search reaches from a tenth of the smallest to ten times the largest input of the data.

    Args:
        a: Fit of the first cell, or its bootstrap for an interval.
        b: Fit of the second cell, or its bootstrap.
        axis: Letter of the input.
        at: Values of the remaining inputs, by letter; None takes the largest that both cells have.

    Returns:
        The crossover, which has the value NaN if the laws do not cross.

    Raises:
        ValueError: If the fits cannot be compared or have no such input.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import crossover, fit
        >>> n = np.geomspace(2e4, 2e7, 8)
        >>> resnet = fit({"N": n, "loss": 2 * n**-0.20}, form="pow")
        >>> transformer = fit({"N": n, "loss": 8 * n**-0.30}, form="pow")
        >>> print(crossover(resnet, transformer))
        crossover on N: 1.05e+06, inside the data; beyond it b has the lower loss
    """
    first, second = (source.fit if isinstance(source, Boot) else source for source in (a, b))
    fits = (first, second)
    check_comparable(first, second)
    place = axis_of(fits[0], axis)
    others = shared_inputs(first, second, axis, at)
    data = [fit.points.inputs[place] for fit in fits]
    least, most = min(each.min() for each in data), max(each.max() for each in data)
    grid = np.geomspace(least / REACH, most * REACH, _NUM_GRID)
    rows = [grid if letter == axis else np.full(_NUM_GRID, others[letter]) for letter in fits[0].points.letters]
    logs = []
    for source, fit in zip((a, b), fits, strict=True):
        x = np.log(np.stack(rows)) - fit.frame.centre[:, None]
        theta = np.vstack([fit.theta[None], source.theta]) if isinstance(source, Boot) else fit.theta[None]
        logs.append(fit.law.evaluate(theta, x)[0] + np.log(fit.frame.scale))
    num = min(len(each) for each in logs)
    difference = logs[1][:num] - logs[0][:num]
    crossings, counts = _last_crossing(difference, np.log(grid))
    value, ends = float(np.exp(crossings[0])), difference[:, -1] < 0
    beyond = [fit.points.cell or name for fit, name in zip(fits, "ab", strict=True)][int(ends[0])]
    low = high = share = opposite = np.nan
    if num > 1:
        # whether the second cell is the better one beyond a crossing in the claimed direction
        claimed = bool(ends[0]) if counts[0] else not ends[0]
        low, high, share, opposite = _of_replicates(crossings[1:], counts[1:] > 0, ends[1:] == claimed)
    inside = max(each.min() for each in data) <= value <= min(each.max() for each in data)
    return Crossover(axis, others, value, low, high, bool(inside), beyond, share, opposite, int(counts[0]))


def _of_replicates(
    places: Values, crosses: NDArray[np.bool_], claimed: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """Computes the interval of the crossing from the replicates.

    A replicate that does not cross is censored: its crossing lies below the range if its end of the range is as
    claimed, and above the range if not.

    Args:
        places: Logarithm of the input at the crossing of each replicate, shape (B,).
        crosses: Whether each replicate crosses, shape (B,).
        claimed: Whether the claimed cell is the better one at the upper end of the range, shape (B,).

    Returns:
        The ends of the interval, and the fractions of replicates that cross the claimed and the opposite way.
    """
    opposite = crosses & ~claimed
    share, against = float(np.mean(crosses & claimed)), float(np.mean(opposite))
    kept = np.where(crosses, places, np.where(claimed, -np.inf, np.inf))[~opposite]
    if not len(kept):
        return np.nan, np.nan, share, against
    low, high = np.exp(np.quantile(kept, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest"))
    return float(low), float(high), share, against


def _last_crossing(difference: Values, x: Values) -> tuple[Values, Values]:
    """Finds the last zero of each row on a grid, NaN if there is none, and counts the zeros."""
    changes = np.sign(difference[:, 1:]) * np.sign(difference[:, :-1]) < 0
    counts = changes.sum(axis=1)
    last = changes.shape[1] - 1 - np.argmax(changes[:, ::-1], axis=1)
    rows = np.arange(len(difference))
    left, right = difference[rows, last], difference[rows, last + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        place = x[last] + (x[last + 1] - x[last]) * left / (left - right)
    return np.where(counts > 0, place, np.nan), counts
