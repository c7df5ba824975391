"""The corpus ecg-arrhythmia 1.0.0 of PhysioNet: 45,152 twelve-lead ECGs from Shaoxing and Ningbo."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ecg_hf.corpora.demographics import label_sets_of
from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.sources.challenge.cohort import Challenge
from ecg_hf.corpora.sources.challenge.snomed import CHALLENGE


class ECGArrhythmia(Challenge):
    """The ECGs of Chapman University, Shaoxing People's Hospital and Ningbo First Hospital.

    JS00001 to JS10646 are the Challenge's "chapman_shaoxing" and the rows of the figshare table (`chapman`), one record
    per patient; the other records are the Challenge's "ningbo", whose patients are not identified.
    """

    homepage = "https://physionet.org/content/ecg-arrhythmia/1.0.0/"
    citation = (
        "Zheng, Guo, Chu: A large scale 12-lead electrocardiogram database for arrhythmia study (version 1.0.0). "
        "PhysioNet 2022, doi:10.13026/wgex-er52; Zheng et al.: Optimal Multi-Stage Arrhythmia Classification Approach. "
        "Scientific Reports 10, 2898 (2020); with Goldberger et al.: PhysioBank, PhysioToolkit, and PhysioNet. "
        "Circulation 101(23), e215 (2000)"
    )
    description = "12-lead ECGs of 10 s from two Chinese hospitals, with 94 SNOMED CT diagnoses."
    data_version = "1.0.0"
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = label_sets_of(CHALLENGE)
    num_records: ClassVar[int | None] = 45_152
    num_patients: ClassVar[int | None] = 45_152
    marker = "ConditionNames_SNOMED-CT.csv"
    cohorts = ("chapman_shaoxing", "ningbo")
    names = CHALLENGE
    known_bad: ClassVar[Mapping[str, str]] = {
        "JS01052": "its header lacks the end of a line",
        "JS23074": "its header lacks the end of a line",
    }

    @classmethod
    def example_folder(cls, name: str) -> str:
        """Returns the folder of a record in the example, relative to its top."""
        return f"WFDBRecords/{name[2:4]}/{name[2:5]}"

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout."""
        super().write_example(folder, num_records)
        rows = [{"AcronymName": "SB", "FullName": "Sinus Bradycardia", "Snomed_CT": "426177001"}]
        write_table(folder / cls.marker, ("AcronymName", "FullName", "Snomed_CT"), rows)
