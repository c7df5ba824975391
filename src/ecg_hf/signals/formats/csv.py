"""Comma-separated tables of samples: a row per point in time, a column per lead."""

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
    """Reads a table whose unit, rate and, without a header row, leads are known from elsewhere: it says none of them.

    Args:
        data: The file.
        record_id: Name of the record.
        sampling_rate: In Hz.
        unit: Of the numbers, such as "uV"; NaN stands for a missing sample.
        leads: Names of the columns of a table without a header row; None if its first row names them.
        layout: What the corpus promises of the record; without a number of samples, a cut-off table goes unnoticed.

    Returns:
        The record in steps of 1 uV, or of as many as its largest value needs in 16 bits.

    Raises:
        EcgFormatError: If it is no such table, or has a header row where none should be or none where one should.
        EcgLeadError: If the header row names unknown leads, or they are not the layout's.
        EcgUnitsError: If the unit is not a voltage.
        EcgIntegrityError: If rate or length are not the layout's.

    Source:
        RFC 4180, section 2, of which quotes are not read.
    """
    try:
        lines = data.decode("ascii").removesuffix("\n").split("\n")
        if leads is None:
            leads, lines = lead_names(_header(lines[0])), lines[1:]
        if not all(line.strip() for line in lines) or not lines:
            raise ValueError("an empty line, or none")
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
