"""Columns of bytes in memory-mapped tables, read row by row without a copy."""

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray


class Column:
    """A column of bytes in a memory-mapped table.

    A pickled column holds the names of the table's files, never their content.

    Args:
        table: Table without a selection of rows, so that its rows lie in the order of its files.
        name: Name of the column.
    """

    def __init__(self, table: datasets.Dataset, name: str):
        self.table, self.name = table, name
        self._parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._starts: list[int] = []

    def __getitem__(self, row: int) -> NDArray[Any]:
        if not self._parts:
            self._open()
        part = bisect_right(self._starts, row) - 1
        offsets, values = self._parts[part]
        place = row - self._starts[part]
        return values[offsets[place] : offsets[place + 1]]

    def _open(self) -> None:
        chunks = [chunk for chunk in self.table.data.column(self.name).chunks if len(chunk)]
        self._starts = [0, *accumulate(map(len, chunks[:-1]))]
        self._parts = [_views(chunk) for chunk in chunks]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parts": [], "_starts": []}


def _views(chunk: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the offsets, shape (N + 1,), and the bytes of a chunk of N rows, as views of its memory."""
    _, offsets, data = chunk.buffers()
    width = np.int64 if str(chunk.type).startswith("large") else np.int32
    view = np.frombuffer(offsets, width)[chunk.offset : chunk.offset + len(chunk) + 1]
    return view, np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
