"""What a forward pass costs at sizes between those that were measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ecg_hf.errors import EcgFormatError
from ecg_hf.scaling.laws.base import Values
from ecg_hf.scaling.table.row import PASSES
from ecg_hf.scaling.table.run_table import RunTable


@dataclass(frozen=True, eq=False)
class FlopsModel:
    """Cost of a forward pass of one record as a function of N: lines between measured points, in logarithms.

    Args:
        sizes: N, rising.
        flops: Of a forward pass at each.
    """

    sizes: Values
    flops: Values

    @classmethod
    def of(cls, table: RunTable) -> "FlopsModel":
        """Reads the measured costs of a cell.

        Raises:
            EcgFormatError: If fewer than two sizes have `flops_fwd`, or one size has several.
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
        """Gives the operations of a forward pass at N; beyond the measured sizes the last line goes on."""
        return np.asarray(np.exp(self.log(np.log(np.asarray(size, dtype=np.float64)))))

    def log(self, at: Values) -> Values:
        """Gives the logarithm of the operations at the logarithm of N, which may be infinite."""
        x, y = np.log(self.sizes), np.log(self.flops)
        place = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
        slope = (y[place + 1] - y[place]) / (x[place + 1] - x[place])
        return np.asarray(y[place] + slope * (at - x[place]))

    def training(self, size: ArrayLike, examples: ArrayLike) -> Values:
        """Gives the operations of training a size on a number of records, repetitions counted."""
        return np.asarray(PASSES * self(size) * np.asarray(examples))
