"""Reader of .npy files, written by `numpy.save`: single rows of a floating-point array."""

import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgFormatError

MAX_BYTES = 1 << 28  # largest size of a row


class NpyFile:
    """An array of floating-point numbers in a .npy file, read row by row.

    Args:
        file: The open file, which must be seekable and is closed together with this object.
        name: Name of the file, for error messages.

    Attributes:
        shape: Shape of the array.
        dtype: Type of its numbers.
        row_bytes: Number of bytes of one row.

    Raises:
        EcgFormatError: If the file is not a .npy file or is truncated, or if its array is not of floating-point numbers
            in C order or has rows above `MAX_BYTES`.

    Source:
        NumPy Enhancement Proposal 1, A Simple File Format for NumPy Arrays, versions 1.0 and 2.0.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._raw, self.name = file, name
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            self.shape, fortran, self.dtype = read(file)
            self._start = file.tell()
            size = file.seek(0, os.SEEK_END) - self._start
        except (ValueError, KeyError, EOFError, OSError) as error:
            self.close()
            raise self._other(f"{type(error).__name__}: {error}") from None
        self.row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))
        # an array of objects would be a pickle, which can run any code
        plain = self.dtype.kind == "f" and not fortran and self.shape and 0 < self.row_bytes <= MAX_BYTES
        if not plain or size != self.shape[0] * self.row_bytes:
            self.close()
            raise self._other(f"{size} bytes of {self.dtype} of {self.shape}, Fortran order {fortran}")

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._raw.close()

    def row(self, index: int) -> NDArray[Any]:
        """Reads one row.

        Args:
            index: Index of the row on the first axis, from 0.

        Returns:
            The row, of shape `shape[1:]`.

        Raises:
            EcgFormatError: If the row does not exist, or the file ends before the row does.
        """
        if not 0 <= index < self.shape[0]:
            raise EcgFormatError(f"{self.name} should have a row {index}, got {self.shape}; download it again")
        self._raw.seek(self._start + index * self.row_bytes)
        data = self._raw.read(self.row_bytes)
        if len(data) != self.row_bytes:
            raise self._other(f"{len(data)} bytes for row {index}")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def _other(self, reason: str) -> EcgFormatError:
        return EcgFormatError(
            f"{self.name}: expected a whole .npy file of floating-point numbers, row by row, got {reason[:200]}; "
            "download it again"
        )
