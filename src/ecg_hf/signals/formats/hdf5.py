"""HDF5 files: a whole array, or one row of it without the others."""

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
MAX_BYTES = 1 << 28  # of what one reading unpacks; an hour of twelve leads at 1 kHz in float32 has 173 MB
CACHE_BYTES = 1 << 24  # of unpacked chunks that an open file keeps


class Hdf5File:
    """An HDF5 file, read in parts; nothing is read that it only points to, inside or outside of itself.

    Args:
        file: The file, which can be sought in and is closed together with this object.
        name: Its name, for messages.

    Raises:
        ImportError: If h5py is not installed.
        EcgFormatError: If it is no HDF5 file, or is cut off.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        # not __del__, which an interpreter that ends calls when h5py is half gone
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
        """Closes the file; doing so twice is no mistake."""
        self._end()

    def shape(self, dataset: str) -> tuple[int, ...]:
        """Gives the shape of an array without reading it."""
        return tuple(self._dataset(dataset).shape)

    def unpacked_per_row(self, dataset: str) -> float:
        """Says how many bytes have to be unpacked to read one row, for each byte of the row; 1 is the best."""
        array = self._dataset(dataset)
        chunks = [-(-size // step) * step for size, step in zip(array.shape, array.chunks or (), strict=False)]
        return float(array.chunks[0] * np.prod(chunks[1:]) / max(np.prod(array.shape[1:]), 1)) if chunks else 1.0

    def read(self, dataset: str, row: int | None = None) -> NDArray[Any]:
        """Reads an array, or one row of it.

        Args:
            dataset: Its path in the file, such as "tracings".
            row: Place on the first axis, from 0; all if None.

        Raises:
            EcgFormatError: If there is no such array or row, it is not of numbers, is too large, or is damaged.
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
        # a link, a virtual array or external storage could give the content of any file of this machine for a signal
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
    """How an array stores records; it says none of this itself.

    Args:
        dataset: Path of the array in the file.
        axes: What its axes are, in order: "record" first, if there is a row of it for each record, "lead", "sample".
        leads: Names, in stored order.
        sampling_rate: In Hz.
        unit: Of the numbers over `gain`, such as "uV".
        gain: Steps of the stored numbers per `unit`, a decimal number.
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
    """Reads a record whose leads, rate and unit are known from elsewhere.

    A missing sample is NaN in an array of floating-point numbers, and the smallest number that there is in one of
    whole numbers.

    Args:
        file: The file.
        record_id: Name of the record.
        form: How the array stores it.
        row: Place of the record on the axis "record".
        layout: What the corpus promises of the record; None if it promises nothing.

    Returns:
        The record: int16 and int32 as stored, other numbers in steps of 1 uV or as many as the largest needs.

    Raises:
        EcgFormatError: If the array is not there, is damaged, or its shape is not of these axes and leads.
        EcgUnitsError: If the unit is not a voltage or the gain not above zero, or the layout's differ.
        EcgLeadError: If a lead is unknown, or not the layout's.
        EcgIntegrityError: If rate or length are not the layout's.

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
