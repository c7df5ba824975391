"""Reader and writer of the tracings of CODE-15 and CODE-test, 4,096 samples at 400 Hz with zeros on both sides."""

import logging
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.examples import example_samples
from ecg_hf.errors import EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.formats.hdf5 import Hdf5File
from ecg_hf.signals.record import LEADS, LIMB_LEADS, Record

SAMPLING_RATE = 400
NUM_SAMPLES = 4096
DATASET = "tracings"
FAR_BETTER = 4  # factor by which another order of leads must fit better to be taken for the true one
WASTE = 8  # bytes decompressed per byte read, above which a warning is logged

logger = logging.getLogger(__name__)


class EmptyTracingError(EcgIntegrityError):
    """The error for a tracing whose samples are all zero."""


def open_tracings(file: BinaryIO, name: str) -> Hdf5File:
    """Opens an HDF5 file of tracings.

    Args:
        file: Open file.
        name: Name of the file, for messages.

    Raises:
        EcgFormatError: If the file is not an HDF5 file or its tracings have a different shape.
    """
    opened = Hdf5File(file, name)
    shape = opened.shape(DATASET)
    if len(shape) != 3 or shape[1:] != (NUM_SAMPLES, 12):
        raise EcgFormatError(f"{name}: expected tracings of (N, {NUM_SAMPLES}, 12), got {shape}; download it again")
    if (waste := opened.unpacked_per_row(DATASET)) > WASTE:
        logger.warning(
            "%s decompresses %.0f times the bytes that are read; rewrite it with h5repack -l %s:CHUNK=1x%dx12",
            name,
            waste,
            DATASET,
            NUM_SAMPLES,
        )
    return opened


def read_tracing(file: Hdf5File, row: int, record_id: str, leads: Sequence[str]) -> Record:
    """Reads a tracing without the zeros at its start and end; zeros within the signal are kept.

    Args:
        file: File opened by `open_tracings`.
        row: Row of the tracing in the file.
        record_id: Name of the record.
        leads: Names of the leads, in stored order.

    Raises:
        EmptyTracingError: If all samples are zero.
        EcgFormatError: If the tracing cannot be read.
        EcgLeadError: If the limb leads are stored in a different order.
    """
    signal = without_padding(file.read(DATASET, row))
    if not len(signal):
        raise EmptyTracingError(f"{record_id}: all {NUM_SAMPLES} samples of all leads are zero; leave it out")
    best = _order_of_limb_leads(signal[::4], leads)
    if best != tuple(leads[:6]):
        raise EcgLeadError(
            f"{record_id}: expected the leads {tuple(leads[:6])} first, got a signal whose sums fit {best}; "
            "download the file of this corpus, not that of its twin"
        )
    return Record.from_millivolts(record_id, signal.T, leads, SAMPLING_RATE)


def without_padding(signal: NDArray[Any]) -> NDArray[Any]:
    """Cuts off the samples at the start and at the end that are zero in all leads.

    Args:
        signal: Stored samples, shape (T, L).

    Returns:
        The samples in between, shape (T', L), where T' is 0 if all samples are zero.
    """
    places = np.flatnonzero((signal != 0).any(axis=1))
    return signal[places[0] : places[-1] + 1] if len(places) else signal[:0]


def _order_of_limb_leads(signal: NDArray[Any], leads: Sequence[str]) -> tuple[str, ...]:
    """Returns the order of the limb leads: as stated, unless the sums of leads fit another order far better."""
    first = tuple(leads[:6])
    derived = LIMB_LEADS @ np.nan_to_num(signal[:, :2].T)
    misfit = {}
    for order in (first, *(first[:3] + last for last in permutations(first[3:]) if last != first[3:])):
        places = [LEADS.index(lead) for lead in order]
        misfit[order] = float(np.abs(np.nan_to_num(signal[:, :6].T) - derived[places]).sum())
    best = min(misfit, key=misfit.__getitem__)
    return best if FAR_BETTER * misfit[best] < misfit[first] else first


def example_tracing(number: int, num_samples: int = NUM_SAMPLES) -> NDArray[np.float32]:
    """Simulates a tracing in mV, padded with zeros on both sides, shape (4096, 12), as float32."""
    places = np.linspace(0, min(4999.0, 1.25 * num_samples), num_samples)  # the simulated leads have 500 Hz
    signal = np.stack([np.interp(places, np.arange(5000), lead) for lead in example_samples(number) / 1000], axis=1)
    before = (NUM_SAMPLES - num_samples) // 2
    return np.pad(signal, ((before, NUM_SAMPLES - num_samples - before), (0, 0))).astype(np.float32)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays to an HDF5 file, the tracings compressed in chunks of one record."""
    import h5py  # type: ignore[import-untyped, unused-ignore]

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            about = {"chunks": (1, NUM_SAMPLES, 12), "compression": "gzip"} if name == DATASET else {}
            file.create_dataset(name, data=array, **about)
