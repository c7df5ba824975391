"""Parsers of the tables around MIMIC-IV-ECG: diagnoses, later events and measurements of its records."""

import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ecg_hf.corpora.sources.mimic.tables import UNKNOWN, meaning, meaningless, number, whole
from ecg_hf.errors import EcgFormatError

Label = tuple[str, str, float]

DETERIORATION = ("severe_hypoxemia", "ecmo", "vasopressors", "inotropes", "mechanical_ventilation", "cardiac_arrest")
MORTALITY = tuple(f"mortality_{time}" for time in ("1d", "7d", "28d", "90d", "180d", "365d", "stay"))
ICU = ("icu_24h", "icu_stay")
EVENTS = {name: "deterioration" for name in DETERIORATION}
EVENTS |= {name: "mortality" for name in MORTALITY} | {name: "icu" for name in ICU}
BIOMETRICS = ("Height (Inches)", "Weight (Lbs)", "BMI (kg/m2)")
VITAL_SIGNS = ("dbp", "heartrate", "o2sat", "resprate", "sbp", "temperature")
LAB_VALUES = (
    "PT",
    "Albumin",
    "Anion Gap",
    "Bicarbonate",
    "Bilirubin, Total",
    "Calcium, Total",
    "Creatinine",
    "Ferritin",
    "Urea Nitrogen",
    "Hematocrit",
    "Hemoglobin",
    "Lymphocytes",
    "MCHC",
    "RDW",
    "Red Blood Cells",
    "RDW-SD",
    "Creatine Kinase (CK)",
    "NTproBNP",
)
MEASURED = dict.fromkeys(BIOMETRICS, "biometrics") | dict.fromkeys(VITAL_SIGNS, "vital_signs")
MEASURED |= dict.fromkeys(LAB_VALUES, "lab_values")
CODED = ("ed_diag_ed", "ed_diag_hosp", "hosp_diag_hosp")
SETTING = ("ecg_taken_in_ed", "ecg_taken_in_hosp", "first_ecg_of_stay")
FEATURES = ("RR", "QRS", "QT", "QTc", "P_axis", "QRS_axis", "T_axis")
TIMES = ("rr_interval", "qrs_onset", "qrs_end", "t_end")
AXES = ("p_axis", "qrs_axis", "t_axis")
REPORTS = tuple(f"report_{number}" for number in range(18))
MAX_TIME, MAX_AXIS = 5000, 360  # ms and degrees; 29999, 32767, -32768 and 65535 stand for "not measurable"
OVER_89 = 91  # the anchor age that MIMIC-IV writes for everybody over 89
DIGITS = 5  # characters of a code that are kept, as in study A
NUM_FOLDS = 20

PERSON_COLUMNS = ("study_id", "subject_id", "gender", "age", "anchor_age", "strat_fold")
STAY_COLUMNS = ("ecg_no_within_stay", "ecg_taken_in_ed", "ecg_taken_in_hosp")
DIAGNOSIS_COLUMNS = (*PERSON_COLUMNS, *STAY_COLUMNS, *CODED, "all_diag_all")
EVENT_COLUMNS = (
    "general_study_id",
    "general_subject_id",
    "general_strat_fold",
    *(f"deterioration_{x}" for x in EVENTS),
)
MEASURED_COLUMNS = ("study_id", *MEASURED)
MACHINE_COLUMNS = ("study_id", "subject_id", "cart_id", *REPORTS, *TIMES, *AXES)

_FLAGS = {"True": True, "False": False}
_SEXES = {"M": "male", "F": "female", "missing": None}
_CODES = re.compile(r"\[(?:'[^'\\]{1,12}'(?:, '[^'\\]{1,12}')*)?\]")
_ICD_10 = re.compile(r"[A-Z][0-9][0-9A-Z]{1,5}")


class Person(NamedTuple):
    """The facts in the table of diagnoses about a record.

    Args:
        subject: Number of the patient.
        age: Age in years; None if unknown or hidden.
        age_over_89: Whether the patient is known to be over 89.
        sex: Sex, "female" or "male"; None if unknown.
        labels: Labels of diagnoses, of where the ECG was taken, and of age and sex.
    """

    subject: int
    age: float | None
    age_over_89: bool
    sex: str | None
    labels: tuple[Label, ...]


class Machine(NamedTuple):
    """The facts about a record that the electrocardiograph wrote.

    Args:
        subject: Number of the patient.
        cart: Id of the machine.
        report: Lines of the machine's report.
        labels: Labels of the machine's measurements.
    """

    subject: int
    cart: str
    report: str
    labels: tuple[Label, ...]


class Events(NamedTuple):
    """The facts in MDS-ED about a record.

    Args:
        subject: Number of the patient.
        labels: Labels of events, with value 1 if the event occurred and 0 if not.
    """

    subject: int
    labels: tuple[Label, ...]


def parse_person(row: Mapping[str, str]) -> tuple[int, int, Person]:
    """Parses a row of `records_w_diag_icd10.csv`.

    An age is hidden if it is over 89, or if it was counted from an anchor age over 89, whatever its value.

    Returns:
        Study, fold and the facts about the record.

    Raises:
        EcgFormatError: If a field is invalid.
    """
    sex = meaning(row, "gender", _SEXES)
    age, anchor = (whole(row, key) if row[key] not in UNKNOWN else None for key in ("age", "anchor_age"))
    if age is not None and not 0 <= age <= 120:
        raise meaningless(row, "age")
    over = age is not None and age > 89
    known = None if age is None or over or (anchor or 0) >= OVER_89 else float(age)
    labels = [*_coded(*(row[column] for column in ("all_diag_all", *CODED))), *_setting(row)]
    labels += [label("age", "age", known)] if known is not None else []
    labels += [label("sex", "male", float(sex == "male"))] if sex else []
    return (
        whole(row, "study_id"),
        parse_fold(row, "strat_fold"),
        Person(whole(row, "subject_id"), known, over, sex, tuple(labels)),
    )


def parse_measured(row: Mapping[str, str]) -> tuple[int, tuple[Label, ...]]:
    """Parses a row of `measurements.csv`, which `dataset_scripts/mimic_measurements.py` writes.

    Returns:
        Study and labels of the values measured near it.

    Raises:
        EcgFormatError: If a field is invalid.
    """
    values = ((name, number(row, name)) for name in MEASURED)
    labels = (label(MEASURED[name], name, float(np.float32(x))) for name, x in values if x is not None)
    return whole(row, "study_id"), tuple(labels)


def parse_events(row: Mapping[str, str]) -> tuple[int, int, Events]:
    """Parses a row of `mds_ed.csv`; -999 and an empty field stand for "unknown", which gets no label.

    Returns:
        Study, fold and the facts about the record.

    Raises:
        EcgFormatError: If a field is invalid.
    """
    labels = []
    for name, label_set in EVENTS.items():
        value = number(row, f"deterioration_{name}")
        if value not in (None, 0.0, 1.0):
            raise meaningless(row, f"deterioration_{name}")
        labels += [] if value is None else [label(label_set, name, value)]
    study, subject = (whole(row, f"general_{key}_id") for key in ("study", "subject"))
    return study, parse_fold(row, "general_strat_fold"), Events(subject, tuple(labels))


def parse_machine(row: Mapping[str, str]) -> tuple[int, Machine]:
    """Parses a row of `machine_measurements.csv`.

    Returns:
        Study and the facts about the record.

    Raises:
        EcgFormatError: If a field is invalid.

    Source:
        arXiv:2605.12241 for the seven features; Bazett 1920: QTc is QT over the square root of RR in seconds.
    """
    rr, onset, end, t_end = (_within(number(row, key), 0, MAX_TIME) for key in TIMES)
    qrs, qt = _duration(onset, end), _duration(onset, t_end)
    qtc = qt / (rr / 1000) ** 0.5 if qt is not None and rr else None
    axes = (_within(number(row, key), -MAX_AXIS, MAX_AXIS) for key in AXES)
    values = zip(FEATURES, (rr, qrs, qt, qtc, *axes), strict=True)
    labels = tuple(label("ecg_features", name, float(np.float32(x))) for name, x in values if x is not None)
    report = "\n".join(text for key in REPORTS if (text := row[key].strip()))
    return whole(row, "study_id"), Machine(whole(row, "subject_id"), row["cart_id"], sys.intern(report), labels)


@lru_cache(maxsize=1 << 20)
def label(label_set: str, name: str, value: float) -> Label:
    """Builds a label; equal labels are one object, since millions of them are held in memory."""
    return label_set, name, value


def parse_codes(text: str) -> tuple[str, ...]:
    """Parses a list of codes, such as "['I10', 'E785']", each once.

    Raises:
        EcgFormatError: If the text is not such a list.
    """
    if not _CODES.fullmatch(text):
        raise EcgFormatError(f"expected a list of codes such as ['I10', 'E785'], got {text[:80]!r}; download it again")
    return tuple(dict.fromkeys(code.strip() for code in text.split("'")[1::2]))


def with_ancestors(codes: tuple[str, ...]) -> tuple[str, ...]:
    """Shortens ICD-10 codes as study A does, adds the more general codes with which they begin, and sorts all.

    Source:
        arXiv:2605.12241: five characters, without the placeholder X at the end, and all prefixes from three on.
    """
    short = {code[:DIGITS].rstrip("X") for code in codes}
    return tuple(sorted({code[:length] for code in short for length in range(3, len(code) + 1)}))


def is_icd_10(code: str) -> bool:
    """Returns whether a code is written as in ICD-10, but without a dot."""
    return bool(_ICD_10.fullmatch(code))


def parse_fold(row: Mapping[str, str], column: str) -> int:
    """Parses a field as a fold, from 0 to 19.

    Raises:
        EcgFormatError: If the field is not such a number.
    """
    fold = whole(row, column)
    if not 0 <= fold < NUM_FOLDS:
        raise meaningless(row, column)
    return fold


@lru_cache(maxsize=1 << 10)  # records of one stay have the same lists and are near each other
def _coded(every: str, *lists: str) -> tuple[Label, ...]:
    diagnoses = (label("diagnosis", code, 1.0) for code in with_ancestors(parse_codes(every)))
    codes = ((column, parse_codes(text)) for column, text in zip(CODED, lists, strict=True))
    return (*diagnoses, *(label(column, code, 1.0) for column, own in codes for code in own))


def _setting(row: Mapping[str, str]) -> Iterator[Label]:
    first = whole(row, "ecg_no_within_stay") == 0  # -1 where there was no stay
    flags = (meaning(row, SETTING[0], _FLAGS), meaning(row, SETTING[1], _FLAGS), first)
    return (label("setting", name, 1.0) for name, flag in zip(SETTING, flags, strict=True) if flag)


def _within(value: float | None, low: float, high: float) -> float | None:
    return value if value is not None and low <= value <= high else None


def _duration(start: float | None, stop: float | None) -> float | None:
    return stop - start if start is not None and stop is not None and stop > start else None
