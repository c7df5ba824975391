"""The runs of a grid, in blocks: products, or a design that says more of a law for the same compute."""

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
        objective: Key of its objectives.
        size: Key of its sizes.
        fraction: Share of the training patients.
        seed: Of the run.
    """

    family: str
    objective: str
    size: str
    fraction: float
    seed: int

    @property
    def run_id(self) -> str:
        """Names the run and its folder."""
        return f"{self.family}-{self.objective}-{self.size}-share{self.fraction:g}-seed{self.seed}"


@dataclass(frozen=True)
class Block:
    """Runs that are the product of what a block names, or a design over it.

    Args:
        families: All of the grid's if empty.
        objectives: All of the grid's if empty.
        sizes: All of the grid's if empty.
        fractions: Shares of the training patients, the largest first.
        seeds: Of the runs.
        design: "every": all sizes with all shares; "wide": all sizes at the first share, all shares at three sizes
            and three corners, 30 runs of nine sizes and seven shares.
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
        """Lists the runs, in a grid that has these families, objectives and sizes."""
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
