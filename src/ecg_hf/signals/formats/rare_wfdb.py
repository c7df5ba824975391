"""WFDB records in the rarer formats, such as FLAC, read by wfdb-python and then checked as strictly as our own."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.base import Layout, check_file_name
from ecg_hf.signals.record import Record, lead_names
from ecg_hf.signals.units import gain_per_millivolt


def decode(record_name: str, files: Mapping[str, bytes], *, layout: Layout | None = None) -> Record:
    """Reads a single-segment record through wfdb-python (extra `io`), which alone checks neither sums nor units.

    Args:
        record_name: Name of the record; its header is `record_name.hea`.
        files: Content of the header and of every file that it names.
        layout: What the corpus promises of the record; None if it promises nothing.

    Returns:
        The record, its samples lead by lead.

    Raises:
        ImportError: If wfdb-python is not installed.
        EcgAccessError: If a file's name is a path.
        EcgFormatError: If wfdb-python cannot read the record, or it has several segments or frames of several samples.
        EcgIntegrityError: If first values or checksums are not the header's, or `layout` disagrees.
        EcgUnitsError: If a unit is not a voltage or a gain not above zero.

    Source:
        WFDB Applications Guide, signal(5) and header(5).
    """
    try:
        import wfdb
    except ImportError as error:
        raise ImportError("reading rarer WFDB formats needs wfdb; install it with pip install 'ecg_hf[io]'") from error
    for name in (record_name, *files):
        check_file_name(name)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        path = str(Path(folder) / record_name)
        try:
            digital, physical = (wfdb.rdrecord(path, physical=kind) for kind in (False, True))
        except Exception as error:  # wfdb raises whatever its parsing runs into
            raise EcgFormatError(
                f"{record_name}: expected a record that wfdb-python reads, got {type(error).__name__}: {error}; "
                "check the files"
            ) from error
    _check(record_name, digital)
    samples = digital.d_signal.T.astype(np.int32)
    samples[np.isnan(physical.p_signal.T)] = np.iinfo(np.int32).min
    gains = [gain_per_millivolt(str(gain), unit) for gain, unit in zip(digital.adc_gain, digital.units, strict=True)]
    record = Record(
        record_id=record_name,
        samples=samples,
        gain=np.array(gains, np.float64),
        baseline=np.array(digital.baseline, np.int32),
        leads=lead_names(digital.sig_name),
        sampling_rate=float(digital.fs),
        comments=tuple(digital.comments),
    )
    if layout is not None:
        layout.check(record)
    return record


def _check(name: str, record: Any) -> None:
    if getattr(record, "d_signal", None) is None or any(count != 1 for count in record.samps_per_frame):
        raise EcgFormatError(f"{name}: expected one segment with one sample per frame; convert it with wfdb's tools")
    sums = record.d_signal.sum(axis=0, dtype=np.int64) % 65536
    promised = [np.nan if value is None else value % 65536 for value in record.checksum]
    if sums.tolist() != promised:
        raise EcgIntegrityError(
            f"{name}: expected the checksums {promised}, got {sums.tolist()}; fetch the files again"
        )
    if record.d_signal[0].tolist() != list(record.init_value):
        raise EcgIntegrityError(
            f"{name}: expected the first values {record.init_value}, got {record.d_signal[0].tolist()}; fetch it again"
        )
