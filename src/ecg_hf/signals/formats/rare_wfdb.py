"""Decoder of WFDB records in rarer formats, such as FLAC, with wfdb-python and checks of checksums and units."""

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
    """Decodes a single-segment record with wfdb-python (extra `io`), which itself checks neither checksums nor units.

    Args:
        record_name: Name of the record; the name of its header is `record_name.hea`.
        files: Content of the header and of every file that it names, by name.
        layout: Layout that the corpus promises for the record; None if it promises none.

    Returns:
        The record.

    Raises:
        ImportError: If wfdb-python is not installed.
        EcgAccessError: If the name of a file is a path.
        EcgFormatError: If wfdb-python cannot read the record, or the record has several segments or several samples
            per frame.
        EcgIntegrityError: If first values or checksums differ from the header, or sampling rate or number of samples
            differ from `layout`.
        EcgUnitsError: If a unit is not a voltage or a gain not above zero, or gain or baseline differ from `layout`.
        EcgLeadError: If a lead is unknown or repeated, or the leads differ from `layout`.

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
        except Exception as error:  # errors of wfdb's parser are of many types
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
