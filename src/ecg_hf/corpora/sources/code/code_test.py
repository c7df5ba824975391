"""The corpus CODE-test: 827 twelve-lead ECGs of as many patients, annotated by physicians, students and a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.demographics import parse_age
from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.file_cache import OpenFiles
from ecg_hf.corpora.index import Entry, parse_table
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.code.tracings import DATASET, example_tracing, open_tracings, read_tracing, write_arrays
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.record import LEADS, Record

NUM_RECORDS = 827
FINDINGS = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")  # in CODE-15, ST comes before AF
STORED_LEADS = ("I", "II", "III", "aVL", "aVF", "aVR", "V1", "V2", "V3", "V4", "V5", "V6")  # in CODE-15: aVR, aVL, aVF
RATERS = (
    "gold_standard",
    "cardiologist1",
    "cardiologist2",
    "cardiology_residents",
    "emergency_residents",
    "medical_students",
    "dnn",
)
TRACINGS = "ecg_tracings.hdf5"
ATTRIBUTES = "attributes.csv"
SEXES = {"M": "male", "F": "female"}


class CodeTest(EcgCorpus):
    """CODE-test, with all exams in the test split; CODE-15 holds none of these exams.

    An exam is known only by its place, which is the same in all files: record "0" is the first. Each rater is a label
    set with the findings of this rater; two residents or two students, each of whom saw half of the exams, count as one
    rater. The unit of the amplitude is as uncertain as in CODE-15, because the documentation contradicts itself.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name="default")]

    licence = "CC-BY-4.0"
    licence_url = "https://creativecommons.org/licenses/by/4.0/"
    access = "open"
    homepage = "https://zenodo.org/records/3765780"
    citation = (
        "Ribeiro, Ribeiro, Paixao, Oliveira, Gomes, Canazart, Ferreira, Andersson, Macfarlane, Meira Jr., Schoen, "
        "Ribeiro: Automatic diagnosis of the 12-lead ECG using a deep neural network. Nature Communications 11, 1760 "
        "(2020), doi:10.1038/s41467-020-15432-4; data doi:10.5281/zenodo.3765780"
    )
    description = "12-lead ECGs of 7 to 10 s from primary care in Brazil, with six findings by seven raters each."
    data_version = "1.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(RATERS, FINDINGS)
    marker = "annotations/gold_standard.csv"
    unit = "uncertain mV"
    num_records: ClassVar[int | None] = NUM_RECORDS
    num_patients: ClassVar[int | None] = NUM_RECORDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._tracings = OpenFiles(open_tracings)
        super().__init__(*args, **kwargs)

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the exams by their place in the tables, all of which must have one row per tracing.

        Raises:
            EcgFormatError: If a table or the file of tracings cannot be read, or a field has an invalid value.
            EcgIntegrityError: If the tables and tracings differ in length, or are more than were published.
        """
        people = list(parse_table(root.read(ATTRIBUTES), ATTRIBUTES, ("age", "sex")))
        found = {rater: read_annotations(root.read(rater_path(rater)), rater_path(rater)) for rater in RATERS}
        counts = {ATTRIBUTES: len(people)} | {rater_path(rater): len(rows) for rater, rows in found.items()}
        if root.exists(TRACINGS):
            counts[TRACINGS] = self._tracings.get(root, TRACINGS).shape(DATASET)[0]
        if len(set(counts.values())) > 1 or len(people) > NUM_RECORDS:
            raise EcgIntegrityError(
                f"expected one number of exams in all files of {root}, at most {NUM_RECORDS}, got {counts}; an "
                "exam is known only by its place in each file, so download all files again"
            )
        entries = []
        for place, person in enumerate(people):
            name = f"row {place} of {ATTRIBUTES}"
            if person["sex"] not in SEXES:
                raise EcgFormatError(f"{name}: expected the sex M or F, got {person['sex']!r}; download it again")
            age, age_over_89 = parse_age(person["age"], name)
            entry = Entry(
                record_id=str(place),
                split="test",
                patient_id=str(place),
                path=TRACINGS,
                age=age,
                age_over_89=age_over_89,
                sex=SEXES[person["sex"]],
                labels=tuple((rater, finding, 1.0) for rater, rows in found.items() for finding in rows[place]),
            )
            entries.append(entry)
        return entries

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one exam, without its padding."""
        file = self._tracings.get(root, TRACINGS)
        return read_tracing(file, int(entry.record_id), entry.record_id, STORED_LEADS)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout and order of leads."""
        people = [{"age": (34, 97, 70)[number % 3], "sex": "MF"[number % 2]} for number in range(num_records)]
        write_table(folder / ATTRIBUTES, ("age", "sex"), people)
        for shift, rater in enumerate(RATERS):
            rows: list[dict[str, int]] = [
                {"": number} | {name: int((number + shift) % (5 + place) == 0) for place, name in enumerate(FINDINGS)}
                for number in range(num_records)
            ]
            columns = ("", *FINDINGS) if rater == "dnn" else FINDINGS
            write_table(folder / rater_path(rater), columns, ({key: row[key] for key in columns} for row in rows))
        order = [LEADS.index(lead) for lead in STORED_LEADS]
        tracings = [example_tracing(number, (4000, 2800)[number % 2])[:, order] for number in range(num_records)]
        write_arrays(folder / TRACINGS, {DATASET: np.stack(tracings)})


def rater_path(rater: str) -> str:
    """Returns the path of a rater's table, relative to the root."""
    return f"annotations/{rater}.csv"


def read_annotations(data: bytes, name: str) -> list[Sequence[str]]:
    """Reads the findings of a rater in each exam.

    The network's table numbers its rows in a column without a name; these numbers are checked.

    Args:
        data: Content of the table.
        name: Name of the table, for messages.

    Returns:
        The findings in each exam, in the order of the rows.

    Raises:
        EcgFormatError: If the data are not such a table, or a field is neither 0 nor 1.
        EcgIntegrityError: If the rows are numbered and a number differs from its place.
    """
    numbered = data.removeprefix(b"\xef\xbb\xbf").startswith(b",")
    found: list[Sequence[str]] = []
    for place, row in enumerate(parse_table(data, name, ("", *FINDINGS) if numbered else FINDINGS)):
        if odd := {key: row[key] for key in FINDINGS if row[key] not in ("0", "1")}:
            raise EcgFormatError(f"{name}, row {place}: expected 0 or 1, got {odd}; download it again")
        if numbered and row[""] != str(place):
            raise EcgIntegrityError(f"{name} has row {row['']!r} in place {place}; download it again")
        found.append(tuple(key for key in FINDINGS if row[key] == "1"))
    return found
