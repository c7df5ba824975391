"""The corpus of the PhysioNet/CinC Challenge 2021: 88,253 ECGs of eight cohorts, with SNOMED CT codes."""

from typing import ClassVar

from ecg_hf.corpora.base import CorpusConfig
from ecg_hf.corpora.demographics import label_sets_of
from ecg_hf.corpora.sources.challenge.cohort import COHORTS, Challenge
from ecg_hf.corpora.sources.challenge.snomed import CHALLENGE

ALL = "all"


class Challenge2021(Challenge):
    """All cohorts of the Challenge or, by config, one cohort, with the Challenge's own abbreviations as diagnoses.

    The folds of "ptb-xl" differ from those of the corpus PTB-XL, whose table this release lacks, so never train on one
    and test on the other. The same is true of "ptb" and the PTB database and of "st_petersburg_incart" and INCART,
    whose records have new names here. "cpsc_2018", "georgia" and "ningbo" have the same folds as `cpsc2018`, `georgia`
    and `ningbo`; "chapman_shaoxing" and "ningbo" have the same folds as `ecg_arrhythmia`.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name=name) for name in (ALL, *COHORTS)]
    DEFAULT_CONFIG_NAME = ALL

    description = "ECGs of 5 s to 30 min from three continents, with 133 SNOMED CT diagnoses."
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = label_sets_of(CHALLENGE)
    num_records: ClassVar[int | None] = 88_253
    cohorts = tuple(COHORTS)
    names = CHALLENGE

    @property
    def published(self) -> tuple[int | None, int | None]:
        """Published number of records in the cohorts of this config, and None for the patients, who are unknown."""
        return sum(COHORTS[cohort].num_records for cohort in self.chosen), None

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the cohorts of this config."""
        return self.cohorts if self.config.name == ALL else (self.config.name,)
