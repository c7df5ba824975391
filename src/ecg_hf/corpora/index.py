"""The index of a corpus: an entry for each record, the tables it is parsed from, and the rows it becomes."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_hf.errors import EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.record import LEADS, Record

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a corpus' index says of one record.

    Args:
        record_id: Its name, unique in the corpus.
        split: "train", "validation" or "test".
        patient_id: Whose it is; None if the corpus does not say.
        path: Where its files are, below the root, in the corpus' own sense.
        age: In years; None if unknown or hidden because it is over 89.
        age_over_89: Whether the patient is known to be over 89.
        sex: "female", "male" or None.
        device: What recorded it.
        report: What a physician or a program wrote about it.
        labels: Label set, name and value of each label it has.
    """

    record_id: str
    split: str
    patient_id: str | None = None
    path: str = ""
    age: float | None = None
    age_over_89: bool = False
    sex: str | None = None
    device: str | None = None
    report: str | None = None
    labels: tuple[tuple[str, str, float], ...] = ()


def encode_row(record: Record, entry: Entry) -> dict[str, Any]:
    """Turns a decoded record and its index entry into a row; of its leads, the standard ones, in standard order.

    Raises:
        EcgLeadError: If it has none of the standard leads.
    """
    leads = [lead for lead in LEADS if lead in record.leads]
    if not leads:
        raise EcgLeadError(f"expected at least one of the leads {LEADS}, got {record.leads}; name them with lead_names")
    record = record.select(leads).to_int16()
    return {
        "record_id": entry.record_id,
        "patient_id": entry.patient_id,
        "signal": record.samples.astype("<i2", copy=False).tobytes(),
        "leads": leads,
        "gain": record.gain.tolist(),
        "baseline": record.baseline.tolist(),
        "num_samples": record.samples.shape[1],
        # rounded as the files will round them, so that streaming gives the same rows
        "sampling_rate": _single(record.sampling_rate),
        "age": None if entry.age is None else _single(entry.age),
        "age_over_89": entry.age_over_89,
        "sex": entry.sex,
        "device": entry.device,
        "report": entry.report,
        "labels": [
            {"set": label_set, "name": name, "value": _single(value)} for label_set, name, value in entry.labels
        ],
    }


def _single(value: float) -> float:
    return float(np.float32(value))


def parse_table(data: bytes, name: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Reads some columns, found by name, of a comma-separated table with a header.

    Args:
        data: The file, in UTF-8, with or without a byte order mark, with either end of line.
        name: The file's name, for messages.
        columns: Which columns to read.

    Raises:
        EcgFormatError: If it is not such a table, lacks a column, has one twice, or a row is cut off.
    """
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(reader, [])
        if odd := [column for column in columns if header.count(column) != 1]:
            raise EcgFormatError(f"{name} should have each of the columns {odd} once, got {header}; download it again")
        places = [(column, header.index(column)) for column in columns]
        for row in reader:
            if len(row) != len(header):
                raise EcgFormatError(
                    f"{name}, line {reader.line_num}: expected {len(header)} fields, got {len(row)}; download it again"
                )
            yield {column: row[place] for column, place in places}
    except (UnicodeDecodeError, csv.Error) as error:
        raise EcgFormatError(f"{name} is not a table in UTF-8 ({error}); download it again") from None


def check_index(entries: Sequence[Entry], label_sets: Mapping[str, Sequence[str]], *, patient_level: bool) -> None:
    """Checks that an index keeps what its corpus promises.

    Raises:
        EcgIntegrityError: If it is empty, names a record twice, an unknown split or an unknown label, or if
            `patient_level` and a patient is unknown or in two splits.
    """
    if not entries:
        raise EcgIntegrityError("the index of the corpus is empty, expected at least one record; download it again")
    known = {(label_set, name) for label_set, names in label_sets.items() for name in names}
    records_seen: set[str] = set()
    home: dict[str, str] = {}
    for entry in entries:
        if entry.record_id in records_seen:
            raise EcgIntegrityError(f"record {entry.record_id} is in the index twice; download the index again")
        records_seen.add(entry.record_id)
        if entry.split not in SPLITS:
            raise EcgIntegrityError(f"record {entry.record_id} is in split {entry.split!r}, expected one of {SPLITS}")
        for label in entry.labels:
            if label[:2] not in known:
                raise EcgIntegrityError(f"record {entry.record_id} has the label {label[:2]}, which no label set lists")
        if not patient_level:
            continue
        if entry.patient_id is None:
            raise EcgIntegrityError(f"record {entry.record_id} has no patient, so no split can be checked for leaks")
        if home.setdefault(entry.patient_id, entry.split) != entry.split:
            raise EcgIntegrityError(
                f"patient {entry.patient_id} is in split {home[entry.patient_id]} and, with record {entry.record_id}, "
                f"in {entry.split}; splits must be disjoint by patient, so repair or download the index again"
            )
