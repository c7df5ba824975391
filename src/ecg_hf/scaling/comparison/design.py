"""The design of a study: the runs of a cell to train, spread over N and D, for a budget of compute."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecg_hf.scaling.table.row import PASSES

# Name, N and GFLOP of a forward pass on 12 leads x 4096 samples, without head. This grid is ours, not that of
# arXiv:2605.17276.
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
        size: Name of the model size.
        n_params: Number of parameters, N.
        n_unique: Number of different training records, D.
        level: Number of times the records were halved.
        flops: Cost of training the run, in FLOP.
    """

    size: str
    n_params: float
    n_unique: int
    level: int
    flops: float


@dataclass(frozen=True)
class Plan:
    """A plan: the runs of one cell.

    Args:
        family: Family of backbones.
        runs: Runs to train, the cheapest first.
        flops: Cost of all runs together, in FLOP.
        dropped: Names of the sizes that the budget does not pay for, the smallest first.
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
    """Chooses the runs of a cell: every size on all records, every amount of data at three sizes, and three corners.

    Nine sizes and seven amounts of data make 30 runs. An "L" (all sizes on all records, all amounts at one size) costs
    three quarters as much but determines the exponents far less well. If the budget is too small, the largest sizes
    are dropped.

    Args:
        budget_flops: Budget of the cell, in FLOP.
        family: Family of backbones, a key of `FAMILIES`; any name if `sizes` are given.
        num_records: Number of all training records.
        epochs: Passes of each run over its records.
        sizes: Name, N and FLOP of a forward pass of each size, rising in N; None takes those of the family.
        num_levels: Number of amounts of data, each half of the one before.

    Returns:
        The plan.

    Raises:
        ValueError: If the family is unknown, there are fewer than four sizes, or the budget does not pay for four.

    Example:
        >>> from ecg_hf.scaling import plan
        >>> print(plan(1e18, "resnet"))
        resnet: 28 runs of 7 sizes and 7 amounts of data, 5.91e+17 FLOP; not affordable: 63m, 200m
    """
    if sizes is None:
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, or come with sizes, got {family!r}")
        sizes = [(name, size, 1e9 * flops) for name, size, flops in FAMILIES[family]]
    if len(sizes) < FEWEST_SIZES:
        raise ValueError(
            f"a law of N needs {FEWEST_SIZES} sizes, got {len(sizes)} ({', '.join(name for name, _, _ in sizes)}); "
            "give more sizes, or list the runs yourself"
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
    """Returns the position of the size and the level of every run."""
    last, lowest = num_sizes - 1, num_levels - 1
    inner = np.unique(np.round(np.array([1, 4, 7]) / 8 * last).astype(int))
    found = {(size, 0) for size in range(num_sizes)} | {
        (int(size), level) for size in inner for level in range(num_levels)
    }
    return found | {(0, lowest), (last, lowest), (last, lowest // 2)}
