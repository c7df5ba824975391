"""The corpus CODE-15 %: 345,779 twelve-lead ECGs of 233,770 patients in Minas Gerais, with six findings."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.demographics import parse_age
from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.file_cache import OpenFiles
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry, parse_table
from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError
from ecg_hf.corpora.sources.code.tracings import (
    DATASET,
    NUM_SAMPLES,
    EmptyTracingError,
    example_tracing,
    open_tracings,
    read_tracing,
    write_arrays,
)
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.record import LEADS, Record

NUM_RECORDS = 345_779
NUM_FOLDS = 10
FILLER = 0  # number of the empty last tracing of a part, which is not an exam
FINDINGS = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")
COLUMNS = (
    "exam_id",
    "age",
    "is_male",
    "nn_predicted_age",
    *FINDINGS,
    "patient_id",
    "death",
    "timey",
    "normal_ecg",
    "trace_file",
)
FOUND = {name: ("finding", name, 1.0) for name in FINDINGS}
FLAGS = {"True": True, "False": False}

_PART = re.compile(r"exams_part([0-9]{1,4})\.hdf5")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,11}")  # a single spelling per number, so that no patient has two ids
_DECIMAL = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?")

logger = logging.getLogger(__name__)


class Part:
    """One of the corpus' HDF5 files, with its tracings and the row of each exam.

    Args:
        file: Open file.
        name: Name of the file, for messages.

    Raises:
        EcgFormatError: If the file is not a part of CODE-15.
        EcgIntegrityError: If the file holds an exam twice.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.tracings = open_tracings(file, name)
        ids = self.tracings.read("exam_id")
        shape = self.tracings.shape(DATASET)
        if ids.dtype.kind not in "iu" or ids.shape != shape[:1]:
            raise EcgFormatError(
                f"{name}: expected an exam_id for each tracing of {shape}, got {ids.dtype} of {ids.shape}; "
                "download it again"
            )
        self._order = np.argsort(ids, kind="stable")
        self._sorted: NDArray[Any] = ids[self._order]
        self.exams = self._sorted[self._sorted != FILLER]
        if repeated := self.exams[1:][self.exams[1:] == self.exams[:-1]].tolist():
            raise EcgIntegrityError(f"{name}: expected every exam once, got {repeated[:5]} twice; download it again")

    def row(self, exam: int) -> int | None:
        """Returns the row of an exam; None if the part does not hold it."""
        place = int(np.searchsorted(self._sorted, exam))
        there = exam != FILLER and place < len(self._sorted) and int(self._sorted[place]) == exam
        return int(self._order[place]) if there else None

    def close(self) -> None:
        """Closes the file."""
        self.tracings.close()


class Code15(EcgCorpus):
    """CODE-15 % in ten stratified folds with disjoint patients: eight for train, one for validation, one for test.

    Exams are listed in the order in which the parts store them, not in that of `exams.csv`, so that a pass over the
    corpus reads each file once. Study A pretrains on 98 of 100 folds; here the test split is never trained on. The
    stored numbers are 1.6 to 2 times the millivolts of other sources for no published reason, so `unit` is uncertain.

    Label sets: "finding" and "normal" hold the labels that are true; "follow_up" holds whether the patient died (1 or
    0) and the years of follow-up, where known; "prediction" holds the age that a network predicted from the ECG.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name="default")]

    licence = "CC-BY-4.0"
    licence_url = "https://creativecommons.org/licenses/by/4.0/"
    access = "open"
    homepage = "https://zenodo.org/records/4916206"
    citation = (
        "Ribeiro, Paixao, Lima, Horta Ribeiro, Pinto Filho, Gomes, Oliveira, Meira Jr, Schoen, Ribeiro: CODE-15%: "
        "a large scale annotated dataset of 12-lead ECGs (version 1.0.0). Zenodo 2021, doi:10.5281/zenodo.4916206; "
        "Lima, Ribeiro, Paixao et al.: Deep neural network-estimated electrocardiographic age as a mortality "
        "predictor. Nature Communications 12, 5117 (2021)"
    )
    description = "12-lead ECGs of 7 to 10 s from primary care in Brazil, 2010-2016, with six findings and mortality."
    data_version = "1.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {
        "finding": FINDINGS,
        "normal": ("normal_ecg",),
        "follow_up": ("death", "timey"),
        "prediction": ("nn_predicted_age",),
    }
    marker = "exams.csv"
    unit = "uncertain mV"
    num_records: ClassVar[int | None] = NUM_RECORDS
    num_patients: ClassVar[int | None] = 233_770

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._parts = OpenFiles(Part)
        super().__init__(*args, **kwargs)

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the exams of `exams.csv` in the order in which the existing parts store them.

        Raises:
            EcgFormatError: If the table or a part cannot be read, or a field has an invalid value.
            EcgIntegrityError: If there are more exams than were published.
            MissingFileError: If a part lacks exams of the table, unless `allow_missing` is true.
        """
        table = parse_table(root.read(self.marker), self.marker, COLUMNS)
        entries = [parse_entry(row) for row in table]  # row by row: all rows together take half a gigabyte
        if len(entries) > NUM_RECORDS:
            raise EcgIntegrityError(
                f"{self.marker} has {len(entries)} exams, expected at most {NUM_RECORDS}; download it again"
            )
        findings = [[name for kind, name, _ in entry.labels if kind in ("finding", "normal")] for entry in entries]
        patients = [entry.patient_id or "" for entry in entries]
        folds = stratified_folds(findings, patients, NUM_FOLDS).tolist()
        entries = [
            replace(entry, split=split_of_fold(fold, NUM_FOLDS)) for entry, fold in zip(entries, folds, strict=True)
        ]
        return self._in_stored_order(root, entries)

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one exam, without its padding.

        Raises:
            EmptyTracingError: If all samples are zero, as in 670 exams.
            MissingFileError: If the part does not hold the exam.
        """
        part = self._parts.get(root, entry.path)
        row = part.row(int(entry.record_id))
        if row is None:
            raise MissingFileError(f"{root}/{entry.path} lacks exam {entry.record_id}; download it again")
        return read_tracing(part.tracings, row, entry.record_id, LEADS)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus: two parts in reverse order, each with a filler, and one empty exam."""
        rows = [_example_row(number) for number in range(num_records)]
        empty = _example_row(num_records) | {"trace_file": "exams_part0.hdf5", "patient_id": 5000}
        write_table(folder / cls.marker, COLUMNS, [*rows, empty])
        for name in sorted({row["trace_file"] for row in [*rows, empty]}):
            numbers = [number for number in reversed(range(num_records)) if rows[number]["trace_file"] == name]
            tracings = [example_tracing(number, (4096, 2934, 4000)[number % 3]) for number in numbers]
            for tracing in tracings[:1]:
                tracing[2000:2100] = 0  # zeros within the signal, which are not padding
            ids = [int(rows[number]["exam_id"]) for number in numbers]
            more = [int(empty["exam_id"])] if empty["trace_file"] == name else []
            tracings += [np.zeros((NUM_SAMPLES, 12), np.float32)] * len([*more, FILLER])
            write_arrays(folder / name, {"exam_id": np.array([*ids, *more, FILLER]), DATASET: np.stack(tracings)})

    def _in_stored_order(self, root: CorpusRoot, entries: Sequence[Entry]) -> list[Entry]:
        by_part: dict[str, list[Entry]] = {}
        for entry in entries:
            by_part.setdefault(entry.path, []).append(entry)
        kept: list[Entry] = []
        lost: list[str] = []
        for path in sorted(by_part, key=_part_number):
            if not root.exists(path):
                kept += by_part[path]  # the builder counts and reports these exams
                continue
            part = self._parts.get(root, path)
            rows = {entry.record_id: part.row(int(entry.record_id)) for entry in by_part[path]}
            here = [(row, entry) for entry in by_part[path] if (row := rows[entry.record_id]) is not None]
            kept += [entry for _, entry in sorted(here, key=lambda pair: pair[0])]
            lost += [name for name, row in rows.items() if row is None]
            if more := len(part.exams) - len(here):
                logger.warning("%s/%s holds %d exams that %s does not list", root, path, more, self.marker)
        if lost and not self.config.allow_missing:
            raise MissingFileError(
                f"{len(lost)} exams of {root} are not in their parts, such as {lost[:5]}; complete the download, or "
                "leave such exams out with allow_missing=True"
            )
        if lost:
            logger.warning("left out %d exams that are not in their parts: %s", len(lost), ", ".join(lost))
        return kept

    def _generate_examples(self, split: str, spans: list[tuple[int, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
        empty = []
        for place in (place for start, stop in spans for place in range(start, stop)):
            try:
                yield from super()._generate_examples(split, [(place, place + 1)])
            except EmptyTracingError as error:
                empty.append(str(error))
                logger.warning("left out %s", error)
        if empty:
            logger.warning("left out %d exams of %s that are all zero", len(empty), split)


def parse_entry(row: Mapping[str, str]) -> Entry:
    """Builds an index entry, still without a split, from the fields of a row of `exams.csv`.

    Raises:
        EcgFormatError: If a field has an invalid value.
    """
    name = f"exam {row['exam_id']!r} of exams.csv"
    age, age_over_89 = parse_age(row["age"], name)
    numbers = [row[column] for column in ("exam_id", "patient_id")]
    if not all(map(_NUMBER.fullmatch, numbers)) or int(numbers[0]) == FILLER or not _PART.fullmatch(row["trace_file"]):
        raise EcgFormatError(
            f"{name}: expected whole numbers of exam and patient and a part, got {numbers} in {row['trace_file']!r}; "
            "download it again"
        )
    return Entry(
        record_id=str(int(numbers[0])),
        split="",
        patient_id=str(int(numbers[1])),
        path=row["trace_file"],
        age=age,
        age_over_89=age_over_89,
        sex="male" if _flag(row, "is_male") else "female",
        labels=parse_labels(row),
    )


def parse_labels(row: Mapping[str, str]) -> tuple[tuple[str, str, float], ...]:
    """Returns label set, name and value of each label in a row of `exams.csv`, without those of empty fields.

    Raises:
        EcgFormatError: If a field has an invalid value.
    """
    labels = [FOUND[name] for name in FINDINGS if _flag(row, name)]
    labels += [("normal", "normal_ecg", 1.0)] if _flag(row, "normal_ecg") else []
    labels += [("follow_up", "death", float(_flag(row, "death")))] if row["death"] else []
    for kind, name in (("follow_up", "timey"), ("prediction", "nn_predicted_age")):
        if row[name] and not _DECIMAL.fullmatch(row[name]):
            raise _meaningless(row, name)
        labels += [(kind, name, float(np.float32(row[name])))] if row[name] else []  # rounded as in a row
    return tuple(labels)


def _flag(row: Mapping[str, str], name: str) -> bool:
    if row[name] not in FLAGS:
        raise _meaningless(row, name)
    return FLAGS[row[name]]


def _meaningless(row: Mapping[str, str], name: str) -> EcgFormatError:
    return EcgFormatError(
        f"exam {row['exam_id']!r} of exams.csv: {row[name]!r} has no meaning as {name}; download it again"
    )


def _part_number(path: str) -> int:
    match = _PART.fullmatch(path)
    assert match is not None
    return int(match[1])


def _example_row(number: int) -> dict[str, Any]:
    found = [name for place, name in enumerate(FINDINGS) if number % (place + 2) == 1]
    return {
        "exam_id": 1_000_000 - 37 * number,
        "age": (46, 93, 54)[number % 3],
        "is_male": number % 2 == 0,
        "nn_predicted_age": 40.5 + number,
        "patient_id": 5000 + number // 3,
        "death": ("", True, False)[number % 3],
        "timey": ("", 1.25, 7.257528)[number % 3],
        "normal_ecg": not found,
        "trace_file": f"exams_part{number % 2}.hdf5",
    } | {name: name in found for name in FINDINGS}
