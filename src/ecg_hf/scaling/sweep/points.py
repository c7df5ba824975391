"""Points, each of which is a run of a grid, and blocks, which list points as a product or by a cheaper design."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ecg_hf.scaling.comparison.design import plan


@dataclass(frozen=True)
class Point:
    """A run of a grid.

    Args:
        family: Key of the grid's families.
        objective: Key of the grid's objectives.
        size: Key of the grid's sizes.
        fraction: Fraction of the training patients.
        seed: Seed of the run.
    """

    family: str
    objective: str
    size: str
    fraction: float
    seed: int

    @property
    def run_id(self) -> str:
        """Name of the run and of its folder."""
        return f"{self.family}-{self.objective}-{self.size}-share{self.fraction:g}-seed{self.seed}"


@dataclass(frozen=True)
class Block:
    """A set of runs: all combinations of the values, or those that a design picks.

    Args:
        families: Keys of the grid's families; all of them if empty.
        objectives: Keys of the grid's objectives; all of them if empty.
        sizes: Keys of the grid's sizes; all of them if empty.
        fractions: Fractions of the training patients, the largest first.
        seeds: Seeds of the runs; each combination is trained once per seed.
        design: "every" combines all sizes with all fractions. "wide" takes all sizes at the first fraction, all
            fractions at three sizes, and three corners: 30 runs for nine sizes and seven fractions. It determines a
            law better than a product that takes the same compute.

    Raises:
        ValueError: If the design is unknown, or the fractions are not in descending order.
    """

    families: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    fractions: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0,)
    design: str = "every"

    def __post_init__(self) -> None:
        if self.design not in ("every", "wide"):
            raise ValueError(f"design must be every or wide, got {self.design!r}")
        if list(self.fractions) != sorted(self.fractions, reverse=True):
            raise ValueError(f"fractions must begin with the largest, got {list(self.fractions)}; put them in order")

    def points(self, families: Sequence[str], objectives: Sequence[str], sizes: Sequence[str]) -> Iterator[Point]:
        """Yields the runs of the block.

        Args:
            families: Families of the grid, used if the block lists none.
            objectives: Objectives of the grid, used if the block lists none.
            sizes: Sizes of the grid in ascending order, used if the block lists none.
        """
        cells = product(self.families or families, self.objectives or objectives)
        places = self._places(self.sizes or sizes)
        for (family, objective), (size, fraction), seed in product(cells, places, self.seeds):
            yield Point(family, objective, size, fraction, seed)

    def _places(self, sizes: Sequence[str]) -> list[tuple[str, float]]:
        if self.design == "every":
            return list(product(sizes, self.fractions))
        numbered = [(size, float(number + 1), 1.0) for number, size in enumerate(sizes)]
        planned = plan(math.inf, "the grid", sizes=numbered, num_levels=len(self.fractions))
        places = {(run.size, self.fractions[run.level]) for run in planned.runs}
        return [place for place in product(sizes, self.fractions) if place in places]
