"""A multiplier read off the trained grid, without any law."""

from dataclasses import dataclass

import numpy as np

from ecg_hf.scaling.fitting.intervals import Estimate
from ecg_hf.scaling.fitting.points import Points


@dataclass(frozen=True)
class GridMultiplier:
    """Steps on the ladder of trained sizes by which the second cell needs more, for at most the same loss.

    Args:
        axis: Letter of the input.
        steps: For every run of the second cell that the first matches between two rungs: its input, the smallest of the
            first cell that reaches its loss, and their ratio.
        at_least: Ratios of runs whose loss even the smallest amount of the first cell betters; the truth is larger.
        at_most: Ratios to the largest amount of the first cell, which does not reach the loss; the truth is smaller.
        num_unpaired: Runs of the second cell whose other inputs the first was not trained at.
    """

    axis: str
    steps: tuple[tuple[float, float, float], ...] = ()
    at_least: tuple[float, ...] = ()
    at_most: tuple[float, ...] = ()
    num_unpaired: int = 0

    @property
    def median(self) -> Estimate:
        """The median ratio of the steps; one of the ladder, so without interval."""
        value = float(np.median([step[2] for step in self.steps])) if self.steps else np.nan
        note = f"{len(self.steps)} runs matched, resolution of the trained grid{self.bounds}"
        return Estimate(f"grid multiplier of {self.axis}", value, note=note)

    @property
    def bounds(self) -> str:
        """Says what the runs that only bound the ratio say of it; empty without such runs."""
        found = ""
        for text, ratios in (("at least", self.at_least), ("at most", self.at_most)):
            if ratios:
                span = f"{min(ratios):.3g}" + (f" to {max(ratios):.3g}" if max(ratios) > min(ratios) else "")
                found += f"; {len(ratios)} more say {text} {span}"
        return found + (f"; {self.num_unpaired} have no partner" if self.num_unpaired else "")


def grid_multiplier(a: Points, b: Points, axis: str = "D") -> GridMultiplier:
    """Reads a multiplier off the trained grid without any law, runs with equal other inputs matched.

    A loss that even the smallest amount of the first cell betters, or that its largest does not reach, only bounds the
    ratio; such runs are given apart, because in the median they would pull it towards the ends of the ladder.

    Args:
        a: Points of the first cell.
        b: Points of the second, of the same loss.
        axis: Letter of the input.
    """
    place = a.letters.index(axis)
    steps: list[tuple[float, float, float]] = []
    bounds: dict[str, list[float]] = {"least": [], "most": []}
    unpaired = 0
    for column, loss in zip(b.inputs.T, b.loss, strict=True):
        same = np.isclose(np.delete(a.inputs, place, 0), np.delete(column, place)[:, None], rtol=1e-9).all(axis=0)
        if not same.any():
            unpaired += 1
            continue
        rungs, losses, needed = a.inputs[place][same], a.loss[same], float(column[place])
        equal = np.isclose(losses, loss, rtol=1e-9)
        reached = rungs[(losses < loss) | equal]
        if not len(reached):
            bounds["most"].append(needed / float(rungs.max()))
        elif reached.min() == rungs.min() and not equal[rungs == rungs.min()].any():
            bounds["least"].append(needed / float(rungs.min()))
        else:
            steps.append((needed, float(reached.min()), needed / float(reached.min())))
    return GridMultiplier(axis, tuple(steps), tuple(bounds["least"]), tuple(bounds["most"]), unpaired)
