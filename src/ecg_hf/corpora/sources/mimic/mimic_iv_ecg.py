"""The corpus MIMIC-IV-ECG: 800,035 twelve-lead ECGs of 161,352 patients in Boston, with labels of hospital tables."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.mimic.example import write_mimic
from ecg_hf.corpora.sources.mimic.labels import (
    BIOMETRICS,
    CODED,
    DETERIORATION,
    DIAGNOSIS_COLUMNS,
    EVENT_COLUMNS,
    FEATURES,
    ICU,
    LAB_VALUES,
    MACHINE_COLUMNS,
    MEASURED_COLUMNS,
    MORTALITY,
    NUM_FOLDS,
    SETTING,
    VITAL_SIGNS,
    Events,
    Label,
    Machine,
    Person,
    is_icd_10,
    parse_events,
    parse_machine,
    parse_measured,
    parse_person,
)
from ecg_hf.corpora.sources.mimic.tables import FOLDER, find_table, read_rows, whole
from ecg_hf.corpora.wfdb_files import read_files
from ecg_hf.errors import EcgIntegrityError, EcgLeadError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.wfdb import decode
from ecg_hf.signals.record import LEADS, Record

NUM_RECORDS = 800_035
COLUMNS = ("subject_id", "study_id", "file_name", "ecg_time", "path")
DIAGNOSES = "records_w_diag_icd10.csv"
TABLES = {
    DIAGNOSES: "diagnoses, setting, age and sex (physionet.org/content/mimic-iv-ecg-ext-icd-labels)",
    "mds_ed.csv": "deterioration, mortality and icu (physionet.org/content/multimodal-emergency-benchmark)",
    "machine_measurements.csv": "reports and ecg_features (part of MIMIC-IV-ECG itself, not of its demo)",
    "measurements.csv": "biometrics, lab_values and vital_signs (see dataset_scripts/mimic_measurements.py)",
}

logger = logging.getLogger(__name__)

_Facts = TypeVar("_Facts", Person, Events)
_Any = TypeVar("_Any")


class MimicIVECG(EcgCorpus):
    """MIMIC-IV-ECG 1.0 of PhysioNet, or its demo, with the label tables beside `record_list.csv` or in `labels`.

    A record is an ECG of 10 s at 500 Hz. The ECGs and the machine's measurements are open; the other labels need
    PhysioNet's training and agreement, so `access` and `licence` are those of the labels. A missing table leaves its
    label sets empty, which is logged as a warning. Of the twenty folds, 0 to 17 are for training, 18 for validation, 19
    for testing; patients in neither of the first two tables below are assigned to twenty folds of their own.

    The tables of labels and their label sets:

    - `records_w_diag_icd10.csv` of MIMIC-IV-ECG-Ext-ICD 1.0.1: the folds; "diagnosis", the ICD-10 codes at discharge
      (`all_diag_all`) as in study A, cut to five characters, with all more general codes; "ed_diag_ed", "ed_diag_hosp"
      and "hosp_diag_hosp", the codes as written; "setting", where the ECG was taken and whether it is the first of its
      stay; "age" in years, unless it is hidden because it is over 89; "sex", 1 for male.
    - `mds_ed.csv` of MDS-ED 1.0.0: "deterioration", "mortality" and "icu", 1 or 0 where known; and the folds of
      patients whom the first table does not list.
    - `machine_measurements.csv`: "ecg_features", intervals in ms and axes in degrees, where measurable.
    - `measurements.csv`, computed from MIMIC-IV and MIMIC-IV-ED by `dataset_scripts/mimic_measurements.py`:
      "biometrics", "lab_values" and "vital_signs", the values nearest to the ECG.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name="default")]

    licence = "LicenseRef-PhysioNet-Credentialed-Health-Data-1.5.0"
    licence_url = "https://physionet.org/content/mimic-iv-ecg-ext-icd-labels/view-license/1.0.1/"
    access = "credentialed"
    homepage = "https://physionet.org/content/mimic-iv-ecg/1.0/"
    citation = (
        "Gow, Pollard, Nathanson, Johnson, Moody et al.: MIMIC-IV-ECG, diagnostic electrocardiogram matched subset "
        "(version 1.0). PhysioNet 2023, doi:10.13026/4nqg-sb35; Strodthoff, Lopez Alcaraz, Haverkamp: "
        "MIMIC-IV-ECG-Ext-ICD, diagnostic labels for MIMIC-IV-ECG (version 1.0.1). PhysioNet 2024, "
        "doi:10.13026/ypt5-9d58; Lopez Alcaraz, Bouma, Strodthoff: MDS-ED, arXiv:2407.17856; with Goldberger et al.: "
        "PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101(23), e215 (2000)"
    )
    description = "12-lead ECGs of 10 s from emergency department, wards and clinics, with diagnoses of the discharge."
    data_version = "1.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {
        "diagnosis": (),  # the names of this set and the next three are known once the table is read
        **dict.fromkeys(CODED, ()),
        "setting": SETTING,
        "age": ("age",),
        "sex": ("male",),
        "deterioration": DETERIORATION,
        "mortality": MORTALITY,
        "icu": ICU,
        "ecg_features": FEATURES,
        "biometrics": BIOMETRICS,
        "lab_values": LAB_VALUES,
        "vital_signs": VITAL_SIGNS,
    }
    marker = "record_list.csv"
    num_records: ClassVar[int | None] = NUM_RECORDS
    num_patients: ClassVar[int | None] = 161_352

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._announced = False
        super().__init__(*args, **kwargs)

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records of `record_list.csv` with their labels from the other tables.

        Raises:
            EcgFormatError: If a table cannot be read or one of its fields is invalid.
            EcgIntegrityError: If tables contradict each other, or there are more records than were published.
        """
        paths = {name: find_table(root, name) for name in TABLES}
        records = [parse_record(row) for row in read_rows(root, self.marker, COLUMNS)]
        if len(records) > NUM_RECORDS:
            raise EcgIntegrityError(
                f"{self.marker} has {len(records)} records, expected at most {NUM_RECORDS}; download version 1.0"
            )
        known = {study for study, _, _ in records}
        folds: dict[int, int] = {}
        further: dict[int, int] = {}
        people = _gather(root, paths[DIAGNOSES], DIAGNOSIS_COLUMNS, _noting(parse_person, folds), known)
        events = _gather(root, paths["mds_ed.csv"], EVENT_COLUMNS, _noting(parse_events, further), known)
        machines = _gather(root, paths["machine_measurements.csv"], MACHINE_COLUMNS, parse_machine, known)
        measured = _gather(root, paths["measurements.csv"], MEASURED_COLUMNS, parse_measured, known)
        splits = _deal([subject for _, subject, _ in records], further | folds)
        entries = []
        for study, subject, path in records:
            entry = Entry(str(study), splits[subject], str(subject), path)
            facts = people.pop(study, None), events.pop(study, None), machines.pop(study, None)
            entries.append(_fill_in(entry, *facts, measured.pop(study, ())))
        self._learn(root, entries)
        self._announce(root, paths, Counter(further[x] != folds[x] for x in further.keys() & folds.keys())[True])
        return entries

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the paths of the header and the signal file of a record."""
        return f"{entry.path}.hea", f"{entry.path}.dat"

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record: 10 s of the twelve leads, in the header's order, at 200 ADC units per mV.

        Raises:
            EcgLeadError: If the record does not have the twelve leads.
            EcgIntegrityError: If the header is of another patient or another file.
        """
        paths = self.record_files(entry)
        header, files = read_files(root, paths, entry.record_id)
        if sorted(header.leads) != sorted(LEADS):
            raise EcgLeadError(f"{paths[0]}: expected the twelve leads, got {header.leads}; download it again")
        if owner := [line.rpartition(":")[2].strip() for line in header.comments if line.startswith("<subject_id>")]:
            if owner != [entry.patient_id]:
                raise EcgIntegrityError(
                    f"{paths[0]} is of patient {owner}, expected {entry.patient_id}; download it again"
                )
        layout = Layout(header.leads, 500.0, num_samples=5000, gain=200.0, baseline=0)
        return decode(header, files, layout=layout)

    def _learn(self, root: CorpusRoot, entries: Sequence[Entry]) -> None:
        """Sets the names of the label sets that depend on the tables, and logs codes that do not look like ICD-10."""
        found = {kind: Counter[str]() for kind in ("diagnosis", *CODED)}
        for entry in entries:
            for kind, name, _ in entry.labels:
                if kind in found:
                    found[kind][name] += 1
        names = {kind: tuple(sorted(counts)) for kind, counts in found.items()}
        self.label_sets = {**self.label_sets, **names}  # type: ignore[misc]  # the codes in these tables
        odd = Counter({code: count for kind in CODED for code, count in found[kind].items() if not is_icd_10(code)})
        if odd and not self._announced:
            logger.warning("%d codes of %s are not written as in ICD-10: %s", odd.total(), root, odd.most_common(20))

    def _announce(self, root: CorpusRoot, paths: Mapping[str, str | None], num_moved: int) -> None:
        """Logs, once per instance, which tables are missing and whether tables disagree about folds."""
        missing = [f"{name}: {TABLES[name]}" for name, path in paths.items() if path is None]
        if missing and not self._announced:
            logger.warning("%s and its %s/ lack tables, and so their labels: %s", root, FOLDER, "; ".join(missing))
        if num_moved and not self._announced:
            logger.warning("mds_ed.csv has %d patients in other folds than %s, which is followed", num_moved, DIAGNOSES)
        self._announced = True

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, with all tables of labels."""
        write_mimic(folder, num_records)


def parse_record(row: Mapping[str, str]) -> tuple[int, int, str]:
    """Parses a row of `record_list.csv`.

    Returns:
        Study, patient and path without suffix.

    Raises:
        EcgFormatError: If a field is invalid.
        EcgIntegrityError: If the path does not belong to study and patient.
    """
    study, subject = whole(row, "study_id"), whole(row, "subject_id")
    end = f"p{subject}/s{study}/{study}"
    if row["path"] not in (f"files/p{subject // 10_000}/{end}", f"files/{end}"):  # the demo has one level less
        raise EcgIntegrityError(
            f"study {study} of patient {subject} should be in files/p{subject // 10_000}/{end}, got {row['path']!r}; "
            "download record_list.csv again"
        )
    return study, subject, row["path"]


def _fill_in(
    entry: Entry, person: Person | None, event: Events | None, machine: Machine | None, measured: tuple[Label, ...]
) -> Entry:
    """Adds the facts in the tables of labels to the entry of a record."""
    known = [facts for facts in (person, event, machine) if facts is not None]
    if others := {str(facts.subject) for facts in known} - {entry.patient_id}:
        raise EcgIntegrityError(
            f"study {entry.record_id} is of patient {entry.patient_id} in record_list.csv and of {sorted(others)} in a "
            "table of labels; download both again"
        )
    entry = replace(entry, labels=(*(x for facts in known for x in facts.labels), *measured))
    if machine is not None:
        entry = replace(
            entry, device=sys.intern(f"cart {machine.cart}") if machine.cart else None, report=machine.report or None
        )
    if person is not None:
        entry = replace(entry, age=person.age, age_over_89=person.age_over_89, sex=person.sex)
    return entry


def _noting(
    parse: Callable[[Mapping[str, str]], tuple[int, int, _Facts]], folds: dict[int, int]
) -> Callable[[Mapping[str, str]], tuple[int, _Facts]]:
    """Wraps a parser so that it adds the fold of each patient to `folds` and raises if a patient has two."""

    def noting(row: Mapping[str, str]) -> tuple[int, _Facts]:
        """Parses a row and notes its fold."""
        study, fold, facts = parse(row)
        if folds.setdefault(facts.subject, fold) != fold:
            raise EcgIntegrityError(
                f"patient {facts.subject} is in fold {folds[facts.subject]} and, with study {study}, in {fold}; folds "
                "must be disjoint by patient, so download the current version of the table"
            )
        return study, facts

    return noting


def _gather(
    root: CorpusRoot,
    path: str | None,
    columns: Sequence[str],
    parse: Callable[[Mapping[str, str]], tuple[int, _Any]],
    known: Collection[int],
) -> dict[int, _Any]:
    """Parses the rows of known records in a table of labels, by study; returns nothing if there is no table."""
    found: dict[int, _Any] = {}
    for study, facts in map(parse, read_rows(root, path, columns)) if path else ():
        if study in found:
            raise EcgIntegrityError(f"{root}/{path} has study {study} twice; download it again")
        if study in known:
            found[study] = facts
    return found


def _deal(subjects: Sequence[int], folds: Mapping[int, int]) -> dict[int, str]:
    """Assigns every patient to a split: by the fold in a table or, without one, by a stratified fold."""
    others = [subject for subject in subjects if subject not in folds]
    assigned = stratified_folds([()] * len(others), others, NUM_FOLDS).tolist() if others else []
    return {x: split_of_fold(fold, NUM_FOLDS) for x, fold in (*folds.items(), *zip(others, assigned, strict=True))}
