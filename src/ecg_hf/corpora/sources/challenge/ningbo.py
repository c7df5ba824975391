"""Ningbo: 34,905 twelve-lead ECGs of the 2021 Challenge, from the First Hospital of Ningbo."""

from typing import ClassVar

from ecg_hf.corpora.demographics import label_sets_of
from ecg_hf.corpora.sources.challenge.cohort import Challenge
from ecg_hf.corpora.sources.challenge.snomed import NINGBO


class Ningbo(Challenge):
    """The Ningbo cohort, under the names of its own sheet; who the patients are is not said.

    Its recordings JS10647 to JS45551 are also those of `ecg_arrhythmia`.
    """

    description = "12-lead ECGs of 10 s from Ningbo First Hospital, with 82 SNOMED CT diagnoses."
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = label_sets_of(NINGBO)
    num_records: ClassVar[int | None] = 34_905
    cohorts = ("ningbo",)
    names = NINGBO
