"""Decoder of comma-separated tables of samples: one row per time step, one column per lead."""

from collections.abc import Sequence

import numpy as np

from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.record import Record, lead_names
from ecg_hf.signals.units import gain_per_millivolt


def decode(
    data: bytes,
    record_id: str,
    sampling_rate: float,
    unit: str,
    leads: Sequence[str] | None = None,
    *,
    layout: Layout | None = None,
) -> Record:
    """Decodes a table, whose unit and sampling rate the caller must know.

    Args:
        data: Content of the file; NaN in the table marks a missing sample.
        record_id: Name of the record.
        sampling_rate: Sampling rate, in Hz.
        unit: Unit of the numbers, such as "uV".
        leads: Names of the columns of a table without a header row; None if the first row of the table names them.
        layout: Layout that the corpus promises for the record; without its number of samples, a truncated table is not
            noticed.

    Returns:
        The record in steps of 1 uV, or in larger steps if its values would exceed 16 bits.

    Raises:
        EcgFormatError: If the file is not such a table, or has an unexpected header row, or lacks an expected one.
        EcgLeadError: If a lead is unknown or repeated, or the leads differ from `layout`.
        EcgUnitsError: If the unit is not a voltage, or gain or baseline differ from `layout`.
        EcgIntegrityError: If sampling rate or number of samples differ from `layout`.

    Source:
        RFC 4180, section 2, without quoted fields.
    """
    try:
        lines = data.decode("ascii").removesuffix("\n").split("\n")
        if leads is None:
            leads, lines = lead_names(_header(lines[0])), lines[1:]
        if not all(line.strip() for line in lines) or not lines:
            raise ValueError("an empty line or no lines")
        values = np.loadtxt(lines, np.float64, comments=None, delimiter=",", ndmin=2)
        if values.shape[1] != len(leads):
            raise ValueError(f"{values.shape[1]} columns")
    except ValueError as error:
        expected = "of numbers" if leads is None else f"of numbers for {', '.join(leads)}"
        raise EcgFormatError(
            f"{record_id}: expected a comma-separated table {expected}, got {error}; fetch the file again"
        ) from None
    per_millivolt = gain_per_millivolt("1", unit)
    record = Record.from_millivolts(record_id, values.T / per_millivolt, lead_names(leads), sampling_rate)
    if layout is not None:
        layout.check(record)
    return record


def _header(line: str) -> list[str]:
    names = [name.strip() for name in line.split(",")]
    if not all(name[:1].isalpha() for name in names):
        raise ValueError(f"{line[:40]!r} where the names of the leads should be")
    return names
