"""Columns of memory-mapped tables, read row by row without a copy."""

from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray


class Column:
    """A column of bytes or of lists of numbers.

    It travels to other processes as the names of its files, never as their content.

    Args:
        table: Whose rows have not been selected, so that they lie where the file has them.
        name: Of the column.
    """

    def __init__(self, table: datasets.Dataset, name: str):
        self.table, self.name = table, name
        self._parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._starts: NDArray[np.int64] = np.zeros(0, np.int64)

    def __getitem__(self, row: int) -> NDArray[Any]:
        if not self._parts:
            self._open()
        part = int(self._starts.searchsorted(row, "right")) - 1
        offsets, values = self._parts[part]
        place = row - int(self._starts[part])
        return values[offsets[place] : offsets[place + 1]]

    def _open(self) -> None:
        chunks = [chunk for chunk in self.table.data.column(self.name).chunks if len(chunk)]
        self._starts = np.cumsum([0, *map(len, chunks[:-1])])
        self._parts = [_views(chunk) for chunk in chunks]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parts": [], "_starts": None}


def _views(chunk: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gives the offsets (N + 1,) and the values of a chunk as views of its memory."""
    if hasattr(chunk, "values"):  # a list
        return chunk.offsets.to_numpy(), chunk.values.to_numpy()
    _, offsets, data = chunk.buffers()
    width = np.int64 if str(chunk.type).startswith("large") else np.int32
    view = np.frombuffer(offsets, width)[chunk.offset : chunk.offset + len(chunk) + 1]
    return view, np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
