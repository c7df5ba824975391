"""Which runs to train: thirty per cell, wide in both directions, for a budget of compute."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg_hf.scaling.table.row import PASSES

# N and GFLOP of one forward pass of 12 leads x 4096 samples, encoder only: our grid, not the study's.
FAMILIES: dict[str, tuple[tuple[str, float, float], ...]] = {
    "resnet": (
        ("20k", 21.7e3, 0.020), ("63k", 60.5e3, 0.043), ("200k", 202e3, 0.132), ("632k", 632e3, 0.389),
        ("2m", 2.02e6, 1.18), ("6.3m", 6.31e6, 3.60), ("20m", 20.1e6, 8.46), ("63m", 63.1e6, 23.6),
        ("200m", 199e6, 70.2),
    ),
    "transformer": (
        ("20k", 19.3e3, 0.009), ("63k", 63.2e3, 0.024), ("200k", 199e3, 0.066), ("632k", 652e3, 0.201),
        ("2m", 2.01e6, 0.576), ("6.3m", 6.42e6, 1.77), ("20m", 19.7e6, 5.32), ("63m", 64.0e6, 17.0),
        ("200m", 202e6, 52.7),
    ),
}  # fmt: skip
NUM_LEVELS = 7
FEWEST_SIZES = 4
CODE15_RECORDS = 345_779


@dataclass(frozen=True)
class PlannedRun:
    """A run to train.

    Args:
        size: Name of the size.
        n_params: N.
        n_unique: D.
        level: How often the records were halved.
        flops: Of its training.
    """

    size: str
    n_params: float
    n_unique: int
    level: int
    flops: float


@dataclass(frozen=True)
class Plan:
    """The runs of one cell.

    Args:
        family: Whose sizes they are.
        runs: The cheapest first.
        flops: Of all of them.
        dropped: Sizes that the budget does not pay for, smallest first.
    """

    family: str
    runs: tuple[PlannedRun, ...]
    flops: float
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        sizes = len({run.size for run in self.runs})
        levels = len({run.level for run in self.runs})
        text = (
            f"{self.family}: {len(self.runs)} runs of {sizes} sizes and {levels} amounts of data, {self.flops:.3g} FLOP"
        )
        return text + (f"; not affordable: {', '.join(self.dropped)}" if self.dropped else "")


def plan(
    budget_flops: float,
    family: str,
    *,
    num_records: int = CODE15_RECORDS,
    epochs: float = 30.0,
    sizes: Sequence[tuple[str, float, float]] | None = None,
    num_levels: int = NUM_LEVELS,
) -> Plan:
    """Chooses the runs of a cell: every size at all records, every amount at three sizes, and three corners.

    With nine sizes and seven amounts these are 30 runs. An "L" (all sizes at all records, all amounts at one size)
    costs as much and says far less of the exponents. Sizes too large for the budget are left out from the top.

    Args:
        budget_flops: For the cell.
        family: A key of `FAMILIES`, or any name if `sizes` are given.
        num_records: All records there are.
        epochs: Passes over the records of each run.
        sizes: Name, N and FLOP of a forward pass of each, rising; None takes those of the family.
        num_levels: Amounts of data, each half of the one before.

    Raises:
        ValueError: If the family is unknown, there are fewer than four sizes, or the budget does not pay for four.
    """
    if sizes is None:
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, or come with sizes, got {family!r}")
        sizes = [(name, size, 1e9 * flops) for name, size, flops in FAMILIES[family]]
    if len(sizes) < FEWEST_SIZES:
        raise ValueError(
            f"a law of N needs {FEWEST_SIZES} sizes, got {len(sizes)} ({', '.join(name for name, _, _ in sizes)}); "
            "give more, or name the runs themselves"
        )
    for num in range(len(sizes), FEWEST_SIZES - 1, -1):
        runs = []
        for place, level in sorted(_places(num, num_levels)):
            name, size, flops = sizes[place]
            amount = round(num_records / 2**level)
            runs.append(PlannedRun(name, size, amount, level, PASSES * flops * epochs * amount))
        cost = sum(run.flops for run in runs)
        if cost <= budget_flops:
            ordered = tuple(sorted(runs, key=lambda run: run.flops))
            return Plan(family, ordered, cost, tuple(name for name, _, _ in sizes[num:]))
    raise ValueError(
        f"a law of N needs {FEWEST_SIZES} sizes, which cost {cost:.3g} FLOP here, got a budget of {budget_flops:.3g}; "
        "use fewer records or epochs, or smaller sizes"
    )


def _places(num_sizes: int, num_levels: int) -> set[tuple[int, int]]:
    """Numbers of size and level of every run."""
    last, lowest = num_sizes - 1, num_levels - 1
    inner = np.unique(np.round(np.array([1, 4, 7]) / 8 * last).astype(int))
    found = {(size, 0) for size in range(num_sizes)} | {
        (int(size), level) for size in inner for level in range(num_levels)
    }
    return found | {(0, lowest), (last, lowest), (last, lowest // 2)}
