"""The grid multiplier, a factor between two cells that is read off the trained runs without a law."""

from dataclasses import dataclass

import numpy as np

from ecg_hf.scaling.fitting.intervals import Estimate
from ecg_hf.scaling.fitting.points import Points


@dataclass(frozen=True)
class GridMultiplier:
    """The factors by which the second cell needs more of an input than the first, one per run of the second cell.

    Args:
        axis: Letter of the input.
        steps: For every run whose loss the first cell reaches between its smallest and its largest input: the input of
            the run, the smallest input of the first cell that reaches the loss, and the ratio of the two.
        at_least: Ratios to the smallest input of the first cell, which has a lower loss already; the true ratio is
            larger.
        at_most: Ratios to the largest input of the first cell, which does not reach the loss; the true ratio is
            smaller.
        num_unpaired: Number of runs for which the first cell has no runs with the same remaining inputs.
    """

    axis: str
    steps: tuple[tuple[float, float, float], ...] = ()
    at_least: tuple[float, ...] = ()
    at_most: tuple[float, ...] = ()
    num_unpaired: int = 0

    @property
    def median(self) -> Estimate:
        """Median of the ratios of `steps`, without an interval; its resolution is that of the trained grid."""
        value = float(np.median([step[2] for step in self.steps])) if self.steps else np.nan
        note = f"{len(self.steps)} runs matched, resolution of the trained grid{self.bounds}"
        return Estimate(f"grid multiplier of {self.axis}", value, note=note)

    @property
    def bounds(self) -> str:
        """Text on the runs that only bound the ratio or have no partner; empty if there are none."""
        found = ""
        for text, ratios in (("at least", self.at_least), ("at most", self.at_most)):
            if ratios:
                span = f"{min(ratios):.3g}" + (f" to {max(ratios):.3g}" if max(ratios) > min(ratios) else "")
                found += f"; {len(ratios)} more runs give {text} {span}"
        return found + (f"; {self.num_unpaired} have no partner" if self.num_unpaired else "")


def grid_multiplier(a: Points, b: Points, axis: str = "D") -> GridMultiplier:
    """Reads a multiplier off the trained grid without a law, from runs whose remaining inputs are equal.

    A run only bounds the ratio if even the smallest run of the first cell has a lower loss, or its largest run does not
    reach the loss. Such runs are returned separately, because they would pull the median towards the ends of the grid.

    Args:
        a: Points of the first cell.
        b: Points of the second cell, with the same loss.
        axis: Letter of the input.

    Returns:
        The ratios and the bounds.
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
