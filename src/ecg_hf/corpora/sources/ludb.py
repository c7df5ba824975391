"""The corpus LUDB 1.0.1: 200 twelve-lead ECGs of 200 people, whose gains contradict Einthoven's law."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.demographics import parse_age
from ecg_hf.corpora.examples import example_samples, write_table
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry, parse_table
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.wfdb_files import read_files
from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.wfdb import decode
from ecg_hf.signals.record import LEADS, Record

NUM_FOLDS = 10
COMMON_GAIN = 1000.0  # ADC units per mV
COLUMNS = {
    "Rhythms": "rhythm",
    "Electric axis of the heart": "axis",
    "Conduction abnormalities": "conduction",
    "Extrasystolies": "extrasystole",
    "Hypertrophies": "hypertrophy",
    "Cardiac pacing": "pacing",
    "Ischemia": "ischemia",
    "Non-specific repolarization abnormalities": "repolarization",
    "Other states": "other",
}
SEXES = {"F": "female", "M": "male"}

_PLACES = ("anterior wall", "apical", "inferior wall", "lateral wall", "posterior wall", "septal")


def _placed(finding: str) -> tuple[str, ...]:
    return tuple(f"{finding}: {place}" for place in _PLACES)


class LUDB(EcgCorpus):
    """The Lobachevsky University ECG Database of PhysioNet: ECGs of 10 s at 500 Hz, each of a different person.

    The samples do not agree with the headers. As whole numbers, the samples obey Einthoven's and Goldberger's laws to
    the unit in all 170 records that were examined, which is only possible if all limb leads share one gain and have no
    offset. The headers, however, give each lead its own gain (238 to 10,592 ADC units per mV) and its own offset, with
    which no lead exceeds 0.97 "mV". With these gains, I - II + III, which should be 0, is off by 54 % of the limb
    leads' amplitude in the median record.

    The config "header", the default, applies the headers, as every other reader does: amplitudes can then be compared
    neither between leads nor between records. The config "common_gain" takes the samples as uV in all leads: the limb
    leads are then consistent, and amplitudes are distributed like those of PTB-XL, but no source states that unit. So
    the unit of both configs is "uncertain mV".

    Records are assigned to ten folds, stratified by label: eight for training, one for validation, one for testing.
    Each label set is a column of `ludb.csv`, with the names written there. The annotations of waves are not read.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name=name) for name in ("header", "common_gain")]
    DEFAULT_CONFIG_NAME = "header"

    licence = "ODC-By-1.0"
    licence_url = "https://opendatacommons.org/licenses/by/1-0/"
    access = "open"
    homepage = "https://physionet.org/content/ludb/1.0.1/"
    citation = (
        "Kalyakulina, Yusipov, Moskalenko, Nikolskiy, Kosonogov, Osipov, Zolotykh, Ivanchenko: LUDB, a new open-access "
        "validation tool for electrocardiogram delineation algorithms. IEEE Access 8, 186181 (2020), "
        "doi:10.1109/ACCESS.2020.3029211; PhysioNet 2021, doi:10.13026/eegm-h675; with Goldberger et al.: PhysioBank, "
        "PhysioToolkit, and PhysioNet. Circulation 101(23), e215 (2000)"
    )
    description = (
        "12-lead ECGs of 10 s from Nizhny Novgorod, with diagnoses. The gains in the headers contradict Einthoven's "
        "law: amplitudes cannot be compared between leads or records unless all leads are given one gain."
    )
    data_version = "1.0.1"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {
        "rhythm": (
            "Aberrant conduction",
            "Atrial fibrillation",
            "Atrial flutter, typical",
            "Irregular sinus rhythm",
            "Sinus arrhythmia",
            "Sinus bradycardia",
            "Sinus rhythm",
            "Sinus tachycardia",
            "Wandering atrial pacemaker",
        ),
        "axis": tuple(
            f"Electric axis of the heart: {axis}"
            for axis in ("horizontal", "left axis deviation", "normal", "right axis deviation", "vertical")
        ),
        "conduction": (
            "Complete left bundle branch block",
            "Complete right bundle branch block",
            "I degree av block",
            "Iii degree av-block",
            "Incomplete left bundle branch block",
            "Incomplete right bundle branch block",
            "Left anterior hemiblock",
            "Non-specific intravintricular conduction delay",
            "Sinoatrial blockade, undefined",
        ),
        "extrasystole": (
            *(
                f"Atrial extrasystole, type: {kind}"
                for kind in ("allorhythmic pattern", "bigemini", "quadrigemini", "single pac")
            ),
            *(
                f"Atrial extrasystole: {origin}"
                for origin in ("left atrial", "low atrial", "sa-nodal extrasystole", "undefined")
            ),
            *(
                f"Ventricular extrasystole, localisation: {place}"
                for place in (
                    "ivs, middle part",
                    "lv, undefined",
                    "lvot, lvs",
                    "rvot, anterior wall",
                    "rvot, antero-septal part",
                )
            ),
            "Ventricular extrasystole, morphology: polymorphic",
            *(f"Ventricular extrasystole, type: {kind}" for kind in ("couplet", "intercalary pvc", "single pvc")),
        ),
        "hypertrophy": (
            "Left atrial hypertrophy",
            "Left atrial overload",
            "Left ventricular hypertrophy",
            "Left ventricular overload",
            "Right atrial hypertrophy",
            "Right atrial overload",
            "Right ventricular hypertrophy",
        ),
        "pacing": (
            "Bipolar ventricular pacing",
            "Biventricular pacing",
            "P-synchrony",
            "Pacemaker presence, undefined",
            "Unipolar atrial pacing",
            "Unipolar ventricular pacing",
        ),
        "ischemia": (
            *_placed("Ischemia"),
            *_placed("Scar formation"),
            *(name for name in _placed("Stemi") if "posterior" not in name),
            *_placed("Undefined ischemia/scar/supp.nstemi"),
        ),
        "repolarization": _placed("Non-specific repolarization abnormalities"),
        "other": ("Early repolarization syndrome",),
    }
    unit = "uncertain mV"
    num_records: ClassVar[int | None] = 200
    num_patients: ClassVar[int | None] = 200
    marker = "ludb.csv"

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records of `ludb.csv`, with splits from ten stratified folds.

        Raises:
            EcgFormatError: If the table cannot be read or one of its fields is invalid.
        """
        rows = list(parse_table(root.read(self.marker), self.marker, ("ID", "Sex", "Age", *COLUMNS)))
        entries = [parse_entry(row) for row in rows]
        names = [[label[:2] for label in entry.labels] for entry in entries]
        folds = stratified_folds(names, [entry.record_id for entry in entries], NUM_FOLDS).tolist()
        splits = [split_of_fold(fold, NUM_FOLDS) for fold in folds]
        return [replace(entry, split=split) for entry, split in zip(entries, splits, strict=True)]

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the paths of the header and the signal file of a record."""
        return f"{entry.path}.hea", f"{entry.path}.dat"

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, which must be 10 s of the twelve leads at 500 Hz."""
        header, files = read_files(root, self.record_files(entry), entry.record_id)
        record = decode(header, files, layout=Layout(LEADS, 500, num_samples=5000))
        if self.config.name == "header":
            return record
        return replace(record, gain=np.full(len(LEADS), COMMON_GAIN), baseline=np.zeros(len(LEADS), np.int32))

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, with gains that contradict its samples."""
        rows = [_example_row(number) for number in range(1, num_records + 1)]
        write_table(folder / cls.marker, ("ID", "Sex", "Age", *COLUMNS), rows)
        names = [f"data/{row['ID']}" for row in rows]
        (folder / "RECORDS").write_text("\n".join(names), encoding="ascii")
        (folder / "data").mkdir()
        for number, name in enumerate(names, 1):
            _write_example_record(folder / name, number)


def parse_entry(row: Mapping[str, str]) -> Entry:
    """Converts a row of `ludb.csv`, whose fields hold one diagnosis per line, to an entry with an empty split.

    Raises:
        EcgFormatError: If a field is invalid.
    """
    number, age, sex = (row[column].strip() for column in ("ID", "Age", "Sex"))
    names = [(kind, name.strip()) for column, kind in COLUMNS.items() for name in row[column].split("\n")]
    labels = [(kind, name, 1.0) for kind, name in names if name]
    unknown = [name for kind, name, _ in labels if name not in LUDB.label_sets[kind]]
    if not re.fullmatch("[1-9][0-9]{0,2}", number) or sex not in SEXES or unknown:
        raise EcgFormatError(
            f"row {number[:20]!r} of ludb.csv: expected a number, a sex of {sorted(SEXES)} and known diagnoses, "
            f"got {sex[:20]!r} and {unknown[:5]}; download version 1.0.1"
        )
    years, over_89 = (None, True) if age == ">89" else parse_age(age or "none", f"row {number} of ludb.csv")
    return Entry(
        record_id=number,
        split="",
        patient_id=number,
        path=f"data/{number}",
        age=years,
        age_over_89=over_89,
        sex=SEXES[sex],
        device="Schiller Cardiovit AT-101",
        labels=tuple(dict.fromkeys(labels)),
    )


def _example_row(number: int) -> dict[str, Any]:
    row = {column: LUDB.label_sets[kind][number % len(LUDB.label_sets[kind])] for column, kind in COLUMNS.items()}
    row["Hypertrophies"] = "\n".join(LUDB.label_sets["hypertrophy"][: number % 4])
    row["Electric axis of the heart"] *= number % 5 > 0
    return row | {"ID": number, "Sex": "FM"[number % 2] + "\n", "Age": ("51", ">89", "11")[number % 3] + "\n"}


def _write_example_record(path: Path, number: int) -> None:
    samples = example_samples(number)
    lines = [f"{number} 12 500 {samples.shape[1]}"]
    for place, (lead, row) in enumerate(zip(LEADS, samples, strict=True)):
        gain, offset = int(np.abs(row).max() * (1.1 + 0.05 * place)), place - 6
        first_and_sum = f"{row[0]} {row.sum(dtype=np.int16)}"
        lines.append(f"{number}.dat 16 {gain}({offset})/mV 0 0 {first_and_sum} 0 {lead.lower()}")
    comments = ["#<age>: 51", "#<sex>: F", "#<diagnoses>:", "#Rhythm: Sinus bradycardia."]
    path.with_suffix(".hea").write_text("\n".join([*lines, *comments]) + "\n", encoding="ascii")
    path.with_suffix(".dat").write_bytes(samples.T.astype("<i2").tobytes())
