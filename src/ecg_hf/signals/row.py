"""What a corpus' index says of a record, and the row that index entry and record become."""

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from ecg_hf.signals.record import Record


def row_features() -> datasets.Features:
    """Gives the schema of all rows; `signal` is int16, little-endian, lead by lead, with `MISSING` for gaps."""
    value = datasets.Value
    label = {"set": value("string"), "name": value("string"), "value": value("float32")}
    return datasets.Features(
        record_id=value("string"),
        patient_id=value("string"),
        signal=value("binary"),
        leads=datasets.List(value("string")),
        gain=datasets.List(value("float64")),
        baseline=datasets.List(value("int32")),
        num_samples=value("int32"),
        sampling_rate=value("float32"),
        age=value("float32"),
        age_over_89=value("bool"),
        sex=value("string"),
        device=value("string"),
        report=value("string"),
        labels=datasets.List(label),
    )


def row_to_signal(row: Mapping[str, Any]) -> NDArray[np.float32]:
    """Decodes a row's signal to mV, shape (L, T), float32; a missing sample is NaN."""
    samples = np.frombuffer(row["signal"], "<i2").reshape(len(row["leads"]), int(row["num_samples"]))
    gain, baseline = np.asarray(row["gain"], np.float64), np.asarray(row["baseline"], np.int32)
    record = Record(row["record_id"], samples, gain, baseline, tuple(row["leads"]), float(row["sampling_rate"]))
    return record.signal
