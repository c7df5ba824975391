"""The corpus CPSC-Extra: 3,453 twelve-lead ECGs that the China Physiological Signal Challenge 2018 did not use."""

from typing import ClassVar

from ecg_hf.corpora.demographics import label_sets_of
from ecg_hf.corpora.sources.challenge.cohort import Challenge
from ecg_hf.corpora.sources.challenge.snomed import CPSC_EXTRA


class CPSCExtra(Challenge):
    """The cohort CPSC-Extra of the Challenge 2021; its patients are not identified."""

    description = "12-lead ECGs of 8 to 98 s from Chinese hospitals, with 72 SNOMED CT diagnoses."
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = label_sets_of(CPSC_EXTRA)
    num_records: ClassVar[int | None] = 3453
    cohorts = ("cpsc_2018_extra",)
    names = CPSC_EXTRA
