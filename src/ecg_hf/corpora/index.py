"""The entries of a corpus' index, the check that an index is valid, and the parser of the tables it is read from."""

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
    """One entry of a corpus' index: what is known of a record without reading its signal.

    Args:
        record_id: Name of the record, unique in the corpus.
        split: "train", "validation" or "test".
        patient_id: Id of the patient; None if the corpus does not state it.
        path: Path from which the corpus derives the record's files, relative to the root.
        age: Age in years; None if unknown, or withheld because it is over 89.
        age_over_89: Whether the patient is known to be over 89.
        sex: "female", "male" or None.
        device: Device that recorded the ECG.
        report: Report of a physician or a program.
        labels: Label set, name and value of each label of the record.
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
    """Builds the row of a record, with its standard leads in standard order; other leads are left out.

    Args:
        record: Decoded record.
        entry: Entry of the record in the index.

    Raises:
        EcgLeadError: If the record has none of the standard leads.
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
        # rounded to float32 as Arrow files store them, so that streaming yields the same rows
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
    """Reads the named columns of a comma-separated table with a header, row by row.

    Args:
        data: Content of the file, in UTF-8, with or without a byte order mark, with any line ending.
        name: Name of the file, for messages.
        columns: Names of the columns to read.

    Yields:
        The fields of each row by column.

    Raises:
        EcgFormatError: If the data are not such a table, a column is missing or occurs twice, or a row has too few or
            too many fields.
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
    """Checks that an index is valid for its corpus.

    Args:
        entries: All entries of the index.
        label_sets: Names of the labels in each label set of the corpus.
        patient_level: Whether splits must be disjoint by patient.

    Raises:
        EcgIntegrityError: If the index is empty, lists a record twice, or has an unknown split or label; or if
            `patient_level` is true and a patient is unknown or in two splits.
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
