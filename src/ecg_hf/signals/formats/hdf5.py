"""Reader of HDF5 files, which reads whole arrays or single rows, and decoder of the records in their arrays."""

import weakref
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.record import Record, lead_names
from ecg_hf.signals.units import gain_per_millivolt

AXES = ("record", "lead", "sample")
MAX_BYTES = 1 << 28  # unpacked bytes of one read; an hour of twelve leads at 1 kHz in float32 has 173 MB
CACHE_BYTES = 1 << 24  # unpacked chunks that an open file caches


class Hdf5File:
    """An open HDF5 file, of which arrays or rows are read; links to other places in or outside the file are refused.

    Args:
        file: The open file, which must be seekable and is closed together with this object.
        name: Name of the file, for error messages.

    Raises:
        ImportError: If h5py is not installed.
        EcgFormatError: If the file is not an HDF5 file, or is truncated.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        # not __del__: at exit the interpreter may call it after parts of h5py are gone
        self._end: Any = weakref.finalize(self, file.close)
        try:
            import h5py  # type: ignore[import-untyped, unused-ignore]
        except ImportError as error:
            self.close()
            raise ImportError(f"reading {name} needs h5py; install it with pip install 'ecg_hf[io]'") from error
        try:
            self._file = h5py.File(file, "r", rdcc_nbytes=CACHE_BYTES)
        except (OSError, ValueError, RuntimeError) as error:
            self.close()
            raise self._damaged(str(error)) from None
        self._end.detach()
        self._end = weakref.finalize(self, _close, self._file, file)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._end()

    def shape(self, dataset: str) -> tuple[int, ...]:
        """Returns the shape of an array without reading the array."""
        return tuple(self._dataset(dataset).shape)

    def unpacked_per_row(self, dataset: str) -> float:
        """Computes the number of bytes that are unpacked per byte of a row that is read; 1 is the best value."""
        array = self._dataset(dataset)
        chunks = [-(-size // step) * step for size, step in zip(array.shape, array.chunks or (), strict=False)]
        return float(array.chunks[0] * np.prod(chunks[1:]) / max(np.prod(array.shape[1:]), 1)) if chunks else 1.0

    def read(self, dataset: str, row: int | None = None) -> NDArray[Any]:
        """Reads an array, or one row of an array.

        Args:
            dataset: Path of the array in the file, such as "tracings".
            row: Index of the row on the first axis, from 0; None for the whole array.

        Returns:
            The array or row, in its stored type.

        Raises:
            EcgFormatError: If the array or row does not exist, is not numeric, takes more than `MAX_BYTES` to read, or
                is damaged.
        """
        array = self._dataset(dataset)
        if row is not None and not (array.ndim and 0 <= row < array.shape[0]):
            raise EcgFormatError(
                f"{self.name} should have a row {row} in {dataset}, got {array.shape}; check the index"
            )
        shape = array.shape if row is None else array.shape[1:]
        size = max(np.prod(shape, dtype=object), np.prod(array.chunks or (0,), dtype=object)) * array.dtype.itemsize
        if size > MAX_BYTES:
            raise EcgFormatError(
                f"{self.name}: reading {dataset} of {array.shape} in chunks of {array.chunks} takes {size} bytes, "
                f"expected at most {MAX_BYTES}; rewrite it in chunks of one record"
            )
        try:
            values: NDArray[Any] = array[()] if row is None else array[row]
        except (OSError, ValueError, RuntimeError) as error:
            raise self._damaged(f"{dataset}: {error}") from None
        return values

    def _dataset(self, path: str) -> Any:
        import h5py

        node: Any = self._file
        for name in path.split("/"):
            known = isinstance(node, h5py.Group) and name.strip(".")  # "." would be the group itself
            link = node.get(name, getlink=True) if known else None
            if not isinstance(link, h5py.HardLink):
                here = sorted(node)[:20] if isinstance(node, h5py.Group) else node
                raise EcgFormatError(f"{self.name} should hold the array {path!r} itself, got {here}; name another one")
            node = node[name]
        # a link, a virtual array or external storage could pass the content of any file of the machine off as a signal
        plain = isinstance(node, h5py.Dataset) and not node.is_virtual and not node.external and node.shape is not None
        if not plain or node.dtype.kind not in "fiu":
            raise EcgFormatError(
                f"{self.name} should hold numbers of its own in {path!r}, got {node}; copy them into a plain array"
            )
        return node

    def _damaged(self, reason: str) -> EcgFormatError:
        return EcgFormatError(f"{self.name} is no HDF5 file that can be read ({reason[:200]}); download it again")


def _close(*files: Any) -> None:
    for file in files:
        file.close()


@dataclass(frozen=True)
class Form:
    """Description of how an HDF5 array stores records, which the file itself does not state.

    Args:
        dataset: Path of the array in the file.
        axes: Names of the axes in stored order: "lead" and "sample", after "record" if the array holds many records.
        leads: Names of the leads, in stored order.
        sampling_rate: Sampling rate, in Hz.
        unit: Unit of the stored numbers after division by `gain`, such as "uV".
        gain: Stored numbers per `unit`, as a decimal number.
    """

    dataset: str
    axes: tuple[str, ...]
    leads: tuple[str, ...]
    sampling_rate: float
    unit: str
    gain: str = "1"


def decode(
    file: Hdf5File, record_id: str, form: Form, *, row: int | None = None, layout: Layout | None = None
) -> Record:
    """Decodes a record from an array.

    A missing sample is marked by NaN in an array of floating-point numbers, and by the smallest value of the type in an
    array of int16 or int32.

    Args:
        file: The open file.
        record_id: Name of the record.
        form: Description of how the array stores records.
        row: Index of the record on the axis "record"; None if the array has no such axis.
        layout: Layout that the corpus promises for the record; None if it promises none.

    Returns:
        The record: int16 and int32 samples as stored, other numbers in steps of 1 uV, or in larger steps if they would
        exceed 16 bits.

    Raises:
        EcgFormatError: If the array does not exist, is damaged, or its shape does not match the axes and leads.
        EcgUnitsError: If the unit is not a voltage or the gain not above zero, or gain or baseline differ from
            `layout`.
        EcgLeadError: If a lead is unknown or repeated, or the leads differ from `layout`.
        EcgIntegrityError: If sampling rate or number of samples differ from `layout`.

    Source:
        The HDF Group, HDF5 File Format Specification 3.0, as read by h5py.
    """
    leads = lead_names(form.leads)
    own = [axis for axis in form.axes if axis != "record"]
    values = file.read(form.dataset, row)
    if values.ndim != 2 or values.shape[own.index("lead")] != len(leads):
        raise EcgFormatError(
            f"{record_id}: expected {len(leads)} leads on the axes {own}, got {values.shape} in {file.name}; "
            "state leads and axes as they are stored"
        )
    values = np.ascontiguousarray(values.T if own[0] == "sample" else values)
    gain = gain_per_millivolt(form.gain, form.unit)
    if values.dtype.kind == "i" and values.dtype.itemsize in (2, 4):
        samples: Any = values.astype(f"=i{values.dtype.itemsize}", copy=False)
        gains, baseline = np.full(len(leads), gain), np.zeros(len(leads), np.int32)
        record = Record(record_id, samples, gains, baseline, leads, form.sampling_rate)
    else:
        record = Record.from_millivolts(record_id, values.astype(np.float64) / gain, leads, form.sampling_rate)
    if layout is not None:
        layout.check(record)
    return record
