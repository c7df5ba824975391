"""The cohorts of the 2020 and 2021 Challenges, and the base class of the corpora that consist of these cohorts."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.corpora.demographics import labels_of, parse_age, parse_codes, parse_comments, parse_sex
from ecg_hf.corpora.examples import example_samples
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError
from ecg_hf.corpora.sources.challenge.record_tree import (
    STYLES,
    find_records,
    open_any_root,
    write_lists,
    write_matlab_record,
)
from ecg_hf.corpora.sources.challenge.snomed import FIRST_RELEASE
from ecg_hf.corpora.wfdb_files import read_files
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.wfdb import decode
from ecg_hf.signals.record import LEADS, MISSING, Record

NUM_FOLDS = 10
ALIASES = {"S23074": "JS23074"}  # wrong file name of a header in the Challenge

# Unreadable in some release: they are left out of the stratification, so that the folds of all other records agree in
# all releases, and are in the train split wherever they can be read.
ODD = frozenset({"JS01052", "JS13118", "JS23074"})

logger = logging.getLogger(__name__)


class Cohort(NamedTuple):
    """The recordings of one source.

    Args:
        prefix: Letters with which the names of the recordings begin.
        numbers: Numbers that follow the prefix; not every number is used.
        num_digits: Number of digits in which a number is written.
        num_records: Number of recordings.
        sampling_rate: Sampling rate in Hz.
        owner: Corpus that stands in the canonical ids of the recordings.
        own_patients: Whether every recording is known to be of a different patient.
    """

    prefix: str
    numbers: range
    num_digits: int
    num_records: int
    sampling_rate: int
    owner: str
    own_patients: bool = False

    def name(self, number: int) -> str:
        """Returns the name of the recording with the given number."""
        return f"{self.prefix}{number:0{self.num_digits}d}"

    def holds(self, name: str) -> bool:
        """Returns whether a name belongs to this cohort."""
        digits = name[len(self.prefix) :]
        if not (name.isascii() and digits.isdecimal() and len(digits) == self.num_digits):
            return False
        return int(digits) in self.numbers and name.startswith(self.prefix)


COHORTS = {
    "chapman_shaoxing": Cohort("JS", range(1, 10_647), 5, 10_247, 500, "ecg_arrhythmia", own_patients=True),
    "cpsc_2018": Cohort("A", range(1, 6878), 4, 6877, 500, "cpsc2018"),
    "cpsc_2018_extra": Cohort("Q", range(1, 3582), 4, 3453, 500, "cpsc_extra"),
    "georgia": Cohort("E", range(1, 10_345), 5, 10_344, 500, "georgia"),
    "ningbo": Cohort("JS", range(10_647, 45_552), 5, 34_905, 500, "ecg_arrhythmia"),
    "ptb": Cohort("S", range(1, 550), 4, 516, 1000, "challenge2021"),
    "ptb-xl": Cohort("HR", range(1, 21_838), 5, 21_837, 500, "ptbxl"),
    "st_petersburg_incart": Cohort("I", range(1, 76), 4, 74, 257, "challenge2021"),
}


class Challenge(EcgCorpus):
    """Base class of the corpora that consist of cohorts of the Challenge, WFDB records with labels in their headers.

    A subclass lists its cohorts in `cohorts` and the name of each SNOMED code in `names`. A recording's fold follows
    from the names and codes of all recordings of its cohort and from nothing else, so it is the same in every corpus
    that holds the whole cohort. Records that are known to be broken, `known_bad`, are left out, counted and logged.
    """

    licence = "CC-BY-4.0"
    licence_url = "https://creativecommons.org/licenses/by/4.0/"
    access = "open"
    homepage = "https://physionet.org/content/challenge-2021/1.0.3/"
    citation = (
        "Reyna, Sadr, Perez Alday, Gu, Shah, Robichaux, Rad, Elola, Seyedi, Ansari, Ghanbari, Li, Sharma, Clifford: "
        "Will Two Do? Varying Dimensions in Electrocardiography: The PhysioNet/Computing in Cardiology Challenge 2021 "
        "(version 1.0.3). PhysioNet 2022, doi:10.13026/34va-7q14; with Goldberger et al.: PhysioBank, PhysioToolkit, "
        "and PhysioNet. Circulation 101(23), e215 (2000)"
    )
    data_version = "1.0.3"
    patient_level = False
    cohorts: ClassVar[tuple[str, ...]]
    names: ClassVar[Mapping[str, str]]
    known_bad: ClassVar[Mapping[str, str]] = {
        "JS13118": "its signal file is not the one of the release's SHA-256 list",
        "JS23074": "its header is named S23074 and lacks a line",
    }

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the cohorts of this config."""
        return self.cohorts

    def canonical_id(self, entry: Entry) -> str:
        """Returns the name that a recording has in every corpus that holds it, see the function `canonical_id`."""
        return canonical_id(entry.record_id)

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records by their headers, which may be anywhere below the root.

        Raises:
            MissingFileError: If a file or folder in a RECORDS file is missing, unless `allow_missing` is true.
            EcgFormatError: If a header lacks age, sex or diagnosis, or one of them has an unknown value.
            EcgIntegrityError: If a record occurs twice.
        """
        headers = self._read_headers(root)
        entries = []
        for cohort in self.chosen:
            found = {name: about for name, about in headers.items() if cohort_of(name) == cohort}
            comments = {name: parse_comments(data, name) for name, (_, data) in found.items()}
            words = FIRST_RELEASE if cohort == "cpsc_2018" else {}
            codes = {name: parse_codes(texts["dx"], name, self.names, words) for name, texts in comments.items()}
            splits = deal_splits(codes, cohort)
            for name, texts in comments.items():
                age, age_over_89 = parse_age(texts["age"], name)
                entry = Entry(
                    record_id=name,
                    split=splits[name],
                    patient_id=name if COHORTS[cohort].own_patients else None,
                    path=found[name][0],
                    age=age,
                    age_over_89=age_over_89,
                    sex=parse_sex(texts["sex"], name),
                    labels=labels_of(codes[name], self.names),
                )
                entries.append(entry)
        return entries

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Lists the paths of a record's header and signal file, relative to the root."""
        return f"{entry.path}.hea", f"{entry.path}.mat"

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, which must have the twelve leads at 1000 ADC units per mV.

        The first releases state other gains, up to 2,000,000 ADC units per mV for the same samples, and are refused.
        """
        header, files = read_files(root, self.record_files(entry), entry.record_id)
        rate = COHORTS[cohort_of(entry.record_id)].sampling_rate
        return decode(header, files, layout=Layout(LEADS, rate, gain=1000.0, baseline=0))

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, with the headers and pitfalls of all releases."""
        for number in range(num_records):
            place, which = divmod(number, len(cls.cohorts))
            about = COHORTS[cls.cohorts[which]]
            name = about.name(about.numbers[place])
            write_example_record(folder / cls.example_folder(name) / name, number, sorted(cls.names))
        for name in (name for name in cls.known_bad if cohort_of(name) in cls.cohorts):
            path = folder / cls.example_folder(name) / name
            write_example_record(path, 0, sorted(cls.names))
            header = path.with_suffix(".hea")
            header.write_text(header.read_text(encoding="ascii").replace("\n", " ", 1), encoding="ascii")
        write_lists(folder)

    @classmethod
    def example_folder(cls, name: str) -> str:
        """Returns the folder of a record in the example, relative to its top."""
        return f"training/{cohort_of(name)}/g{1 + int(name[-4:]) // 10}"

    def _open(self) -> CorpusRoot:
        place = self.config.data_dir
        if self.marker or place is None:
            return super()._open()
        return open_any_root(place)  # the Challenge has no marker file, and its folders are often rearranged

    def _read_headers(self, root: CorpusRoot) -> dict[str, tuple[str, bytes]]:
        """Returns path and header of each record of the chosen cohorts, sorted by name."""
        paths, lost = find_records(root, ".hea", COHORTS.keys() - set(self.chosen))
        lost = [path for path in lost if path.endswith("/") or self._wants(path)]
        headers: dict[str, tuple[str, bytes]] = {}
        for path in filter(self._wants, paths):
            name = path.rpartition("/")[2]
            if name in headers:
                raise EcgIntegrityError(
                    f"{root} holds record {name} as {headers[name][0]} and as {path}; set data_dir to one of them"
                )
            try:
                headers[name] = path, root.read(f"{path}.hea")
            except MissingFileError:
                lost.append(path)
        if lost and not self.config.allow_missing:
            raise MissingFileError(
                f"{root} lacks {len(lost)} of the headers and folders that its RECORDS files name, such as "
                f"{lost[:5]}; complete the download, or leave them out with allow_missing=True"
            )
        if lost:
            logger.warning("left out %d headers and folders that are not there: %s", len(lost), ", ".join(lost))
        bad = [name for name in map(record_name, paths) if name in self.known_bad and cohort_of(name) in self.chosen]
        if bad:
            reasons = "; ".join(f"{name}, as {self.known_bad[name]}" for name in bad)
            logger.warning("left out %d records of %s that are known to be broken: %s", len(bad), root, reasons)
        return dict(sorted(headers.items()))

    def _wants(self, path: str) -> bool:
        name = record_name(path)
        return cohort_of(name) in self.chosen and name not in self.known_bad


def record_name(path: str) -> str:
    """Returns the name of the record at a path without suffix."""
    name = path.rpartition("/")[2]
    return ALIASES.get(name, name)


def cohort_of(name: str) -> str:
    """Returns the cohort to which the name of a recording belongs.

    Raises:
        EcgFormatError: If the name belongs to no cohort.
    """
    for cohort, about in COHORTS.items():
        if about.holds(name):
            return cohort
    raise EcgFormatError(
        f"expected the name of a recording of the Challenge, such as A0001 or JS00001, got {name[:80]!r}; set data_dir "
        "to a folder that holds nothing else"
    )


def canonical_id(name: str) -> str:
    """Returns the name that a recording has in every corpus that holds it, such as "ptbxl:123" for HR00123."""
    cohort = COHORTS[cohort_of(name)]
    return f"{cohort.owner}:{int(name[2:]) if cohort.owner == 'ptbxl' else name}"


def deal_splits(codes: Mapping[str, Collection[str]], cohort: str) -> dict[str, str]:
    """Assigns the recordings of a cohort to ten stratified folds: eight for train, one for validation, one for test.

    Args:
        codes: SNOMED codes of each recording by its name.
        cohort: Name of the cohort.

    Returns:
        The split of each recording by its name.
    """
    about = COHORTS[cohort]
    names = sorted(codes.keys() - ODD)
    expected = about.num_records - sum(about.holds(name) for name in ODD)
    if len(names) < expected:
        logger.warning(
            "only %d of %d records of %s are here, so their folds may differ from those of all",
            len(names),
            expected,
            cohort,
        )
    folds = stratified_folds([codes[name] for name in names], names, NUM_FOLDS)
    splits = {name: split_of_fold(fold, NUM_FOLDS) for name, fold in zip(names, folds.tolist(), strict=True)}
    return dict.fromkeys(codes.keys() & ODD, "train") | splits


def write_example_record(path: Path, number: int, codes: list[str]) -> None:
    """Writes a synthetic record with one of the pitfalls of real records."""
    samples = example_samples(number)
    cohort = cohort_of(path.name)
    if cohort.startswith("cpsc"):
        samples = np.tile(samples, 2)[:, : 3000 + 500 * (number % 13)]
    samples[0, 10] = MISSING if number % 7 == 3 else samples[0, 10]
    few = [codes[(number * step) % len(codes)] for step in (1, 3, 5)[: number % 3 + 1]]
    dx = ",".join([*few, *few[:1]] if number % 5 == 4 else few) + "," * (number % 11 == 5)
    age = ("NaN", "-1", "93", "56", "7")[number % 5]
    sex = ("Male", "Female", "Unknown")[number % 3]
    comments = (f"Age: {age}", f"Sex: {sex}", f"Dx: {dx}", "Rx: Unknown", "Hx: Unknown", "Sx: Unknown")
    rate = COHORTS[cohort].sampling_rate
    write_matlab_record(path, samples, rate, comments, STYLES[number % len(STYLES)])
