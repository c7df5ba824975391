"""Reader of MATLAB 5 files that hold one structure of texts and numbers, such as the recordings of CPSC2018."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgFormatError

MAX_BYTES = 1 << 28  # of the unpacked content of a file; the longest recording of CPSC2018 has 7 MB

Field = str | NDArray[np.float64]

_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_TEXTS = {2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
_STRUCT, _CHAR, _NUMERIC = 2, 4, range(6, 16)


def read_struct(data: bytes, name: str, variable: str, fields: Sequence[str]) -> dict[str, Field]:
    """Reads fields of the single structure in a MATLAB 5 file; files with any other content are refused.

    If `fields` lists all fields of the structure, the file is read to its end and its checksum must agree. If `fields`
    lists only the first ones, the beginning of the file suffices.

    Args:
        data: Content of the file, or of a beginning that contains the requested fields.
        name: Name of the file, for error messages.
        variable: Name of the structure.
        fields: Names of the fields to read, in stored order from the first field on.

    Returns:
        The value of each field: a text, or a matrix of numbers as float64.

    Raises:
        EcgFormatError: If the file is not such a MATLAB 5 file, is truncated or damaged, or the structure has another
            name or other fields.

    Source:
        MathWorks, MAT-File Format, chapter 1, "Level 5 MAT-Files".
    """
    try:
        content, whole = _content(data)
        reader = _Reader(content)
        found = _fields(reader, variable, fields)
        if len(fields) == reader.num_fields and (reader.position != len(content) or not whole):
            raise ValueError("bytes after the structure, or a file without its end")
    except (ValueError, struct.error, zlib.error, UnicodeDecodeError, OverflowError) as error:
        raise EcgFormatError(
            f"{name}: expected a MATLAB 5 file with the structure {variable} of {list(fields)}, got {error}; "
            "fetch the file again"
        ) from None
    return found


class _Reader:
    """A reader of the elements of a file's content, one after the other; every element is validated."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position, self.num_fields = content, 0, 0

    def tag(self) -> tuple[int, int]:
        """Reads the type and the number of bytes of the next element, and stops before its data."""
        kind, size = struct.unpack_from("<2I", self.content, self.position)
        if kind >> 16:  # a short element stores both in four bytes
            self.position += 4
            return kind & 0xFFFF, kind >> 16
        self.position += 8
        return kind, size

    def element(self) -> tuple[int, bytes]:
        """Reads the type and the data of the next element, and its padding to a multiple of eight bytes."""
        kind, size = self.tag()
        if size > len(self.content) - self.position:
            raise ValueError(f"{len(self.content) - self.position} bytes for an element of {size}")
        data = self.content[self.position : self.position + size]
        self.position = -(-(self.position + size) // 8) * 8
        return kind, data

    def matrix(self) -> tuple[int, tuple[int, ...], str]:
        """Reads class, shape and name of the next matrix, and stops before its content."""
        kind, _ = self.tag()
        (flags_kind, flags), (shape_kind, shape), (_, name) = (self.element() for _ in range(3))
        if (kind, flags_kind, shape_kind, len(flags), len(shape)) != (_MATRIX, 6, 5, 8, 8) or flags[1]:
            raise ValueError(f"an element of type {kind} where a plain matrix of two dimensions should be")
        return flags[0], struct.unpack("<2i", shape), name.decode("ascii")


def _content(data: bytes) -> tuple[bytes, bool]:
    """Returns the content of a file's only element, and whether the file is complete."""
    if data[:10] != b"MATLAB 5.0" or data[124:_HEADER] != b"\x00\x01IM":
        raise ValueError(f"a file that begins with {data[:20]!r}")
    kind, size = struct.unpack_from("<2I", data, _HEADER)
    body = data[_HEADER + 8 :]
    if kind != _COMPRESSED:
        return data[_HEADER:], len(body) == size
    inflater = zlib.decompressobj()
    content = inflater.decompress(body, MAX_BYTES)
    return content, inflater.eof and len(body) == size and not inflater.unused_data


def _fields(reader: _Reader, variable: str, fields: Sequence[str]) -> dict[str, Field]:
    kind, shape, name = reader.matrix()
    (_, width), (_, names) = reader.element(), reader.element()
    step = int.from_bytes(width, "little")
    stored = [names[start : start + step].rstrip(b"\0").decode("ascii") for start in range(0, len(names), max(step, 1))]
    if (kind, shape, name) != (_STRUCT, (1, 1), variable) or stored[: len(fields)] != list(fields):
        raise ValueError(f"class {kind} of shape {shape} named {name!r} with the fields {stored}")
    reader.num_fields = len(stored)
    return {field: _value(reader) for field in fields}


def _value(reader: _Reader) -> Field:
    kind, shape, _ = reader.matrix()
    stored_as, data = reader.element()
    size = shape[0] * shape[1] if min(shape) >= 0 else -1
    if kind == _CHAR and stored_as in _TEXTS and shape[0] <= 1:
        text = data.decode(_TEXTS[stored_as])
        if len(text) == size:
            return text
    elif kind in _NUMERIC and stored_as in _NUMBERS:
        values = np.frombuffer(data, _NUMBERS[stored_as]) if data else np.empty(0)
        if len(values) == size:
            return values.reshape(shape, order="F").astype(np.float64)
    raise ValueError(f"class {kind} of shape {shape} stored as type {stored_as} in {len(data)} bytes")
