"""The corpus Georgia: 10,344 twelve-lead ECGs of the 2020 and 2021 Challenges, from the southeastern United States."""

from typing import ClassVar

from ecg_hf.corpora.demographics import label_sets_of
from ecg_hf.corpora.sources.challenge.cohort import Challenge
from ecg_hf.corpora.sources.challenge.snomed import GEORGIA


class Georgia(Challenge):
    """The cohort Georgia of the Challenge 2021, whose patients are not identified.

    Diagnoses are named as in the cohort's own sheet of the Challenge's "Label mappings 2021.xlsx".
    """

    description = "12-lead ECGs of 5 to 10 s from Emory University, Atlanta, with up to 123 SNOMED CT diagnoses."
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = label_sets_of(GEORGIA)
    num_records: ClassVar[int | None] = 10_344
    cohorts = ("georgia",)
    names = GEORGIA
