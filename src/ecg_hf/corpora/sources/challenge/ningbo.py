"""The corpus Ningbo: 34,905 twelve-lead ECGs of the 2021 Challenge, from the First Hospital of Ningbo."""

from typing import ClassVar

from ecg_hf.corpora.demographics import label_sets_of
from ecg_hf.corpora.sources.challenge.cohort import Challenge
from ecg_hf.corpora.sources.challenge.snomed import NINGBO


class Ningbo(Challenge):
    """The cohort Ningbo of the Challenge 2021, whose patients are not identified.

    Diagnoses are named as in the cohort's own sheet of the Challenge's "Label mappings 2021.xlsx". The corpus
    `ecg_arrhythmia` holds the same recordings, JS10647 to JS45551.
    """

    description = "12-lead ECGs of 10 s from Ningbo First Hospital, with 82 SNOMED CT diagnoses."
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = label_sets_of(NINGBO)
    num_records: ClassVar[int | None] = 34_905
    cohorts = ("ningbo",)
    names = NINGBO
