"""The PhysioNet/CinC Challenge 2021: 88,253 ECGs of eight cohorts, with SNOMED CT codes."""

from typing import ClassVar

from ecg_hf.corpora.base import CorpusConfig
from ecg_hf.corpora.demographics import label_sets_of
from ecg_hf.corpora.sources.challenge.cohort import COHORTS, Challenge
from ecg_hf.corpora.sources.challenge.snomed import CHALLENGE

ALL = "all"


class Challenge2021(Challenge):
    """All cohorts or one of them, with the diagnoses under the Challenge's own abbreviations.

    The folds of "ptb-xl" are not those of PTB-XL, whose table is not here: do not train on this and test on that, nor
    the other way round. The same holds of "ptb" and the PTB database, "st_petersburg_incart" and INCART, whose names
    here are new. "cpsc_2018", "georgia" and "ningbo" have the folds of the corpora of their own; "chapman_shaoxing" and
    "ningbo" those of `ecg_arrhythmia`.
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
        """How many records there are of the cohorts of this config; patients are not known."""
        return sum(COHORTS[cohort].num_records for cohort in self.chosen), None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The cohorts of this config."""
        return self.cohorts if self.config.name == ALL else (self.config.name,)
