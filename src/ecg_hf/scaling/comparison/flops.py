"""The cost model of a forward pass, which interpolates between the sizes that were measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ecg_hf.errors import EcgFormatError
from ecg_hf.scaling.laws.base import Values
from ecg_hf.scaling.table.row import PASSES
from ecg_hf.scaling.table.run_table import RunTable


@dataclass(frozen=True, eq=False)
class FlopsModel:
    """The cost of a forward pass on one record as a function of N, linear between measured points in the logarithms.

    Args:
        sizes: Values of N that were measured, rising.
        flops: Cost of a forward pass at each size, in FLOP.
    """

    sizes: Values
    flops: Values

    @classmethod
    def of(cls, table: RunTable) -> "FlopsModel":
        """Builds the cost model of a cell from the column `flops_fwd`.

        Args:
            table: Run table of the cell.

        Raises:
            EcgFormatError: If fewer than two sizes have a `flops_fwd`, or one size has several.
        """
        pairs = sorted({(getattr(row, table.size), row.flops_fwd) for row in table.rows if row.flops_fwd is not None})
        sizes, flops = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        if len(sizes) < 2 or len(np.unique(sizes)) < len(sizes):
            raise EcgFormatError(
                f"a cost model needs one flops_fwd for each of at least 2 sizes, got {len(sizes)} for "
                f"{len(np.unique(sizes))} sizes; fill the column flops_fwd"
            )
        return cls(sizes, flops)

    def __call__(self, size: ArrayLike) -> Values:
        """Computes the FLOP of a forward pass at N; beyond the measured sizes the nearest line is extended."""
        return np.asarray(np.exp(self.log(np.log(np.asarray(size, dtype=np.float64)))))

    def log(self, at: Values) -> Values:
        """Computes the logarithm of the FLOP at the logarithm of N, which may be infinite."""
        x, y = np.log(self.sizes), np.log(self.flops)
        place = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
        slope = (y[place + 1] - y[place]) / (x[place + 1] - x[place])
        return np.asarray(y[place] + slope * (at - x[place]))

    def training(self, size: ArrayLike, examples: ArrayLike) -> Values:
        """Computes the FLOP of training a model.

        Args:
            size: Number of parameters, N.
            examples: Number of records seen in training, repetitions included.
        """
        return np.asarray(PASSES * self(size) * np.asarray(examples))
