"""The row that stores one record of a corpus: its schema, and the decoding of its signal."""

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from ecg_hf.signals.record import Record


def row_features() -> datasets.Features:
    """Returns the schema shared by the rows of all corpora.

    The field `signal` holds the ADC values as little-endian int16, lead by lead; `MISSING` marks a gap.
    """
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
    """Decodes the signal of a row.

    Args:
        row: A row of a corpus, with the fields of `row_features`.

    Returns:
        The signal in mV, shape (L, T), float32; a missing sample is NaN.

    Raises:
        EcgError: If the fields of the row do not form a valid `Record`.

    Example:
        >>> import ecg_hf
        >>> corpus = ecg_hf.load_corpus("synthetic", split="test", streaming=True, num_records=20)
        >>> row = next(iter(corpus))
        >>> ecg_hf.row_to_signal(row).shape, row["sampling_rate"]
        ((12, 5000), 500.0)
    """
    samples = np.frombuffer(row["signal"], "<i2").reshape(len(row["leads"]), int(row["num_samples"]))
    gain, baseline = np.asarray(row["gain"], np.float64), np.asarray(row["baseline"], np.int32)
    record = Record(row["record_id"], samples, gain, baseline, tuple(row["leads"]), float(row["sampling_rate"]))
    return record.signal
