"""The corpus CPSC2018: the 6,877 public ECGs of the China Physiological Signal Challenge 2018, in two releases."""

from pathlib import Path
from typing import ClassVar

from scipy.io import savemat

from ecg_hf.corpora.base import CorpusConfig
from ecg_hf.corpora.demographics import label_sets_of, labels_of, parse_age, parse_codes, parse_sex
from ecg_hf.corpora.examples import example_samples, write_table
from ecg_hf.corpora.index import Entry, parse_table
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.roots.open import open_root
from ecg_hf.corpora.sources.challenge.cohort import Challenge, cohort_of, deal_splits
from ecg_hf.corpora.sources.challenge.record_tree import find_records
from ecg_hf.corpora.sources.challenge.snomed import CPSC, FIRST_RELEASE
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.matlab import read_struct
from ecg_hf.signals.record import LEADS, Record

ORIGINAL = "original"
REFERENCE = "REFERENCE.csv"
COLUMNS = ("Recording", "First_label", "Second_label", "Third_label")
NUMBERS = {str(number): code for number, code in enumerate(FIRST_RELEASE.values(), 1)}
SAMPLING_RATE = 500
HEAD = 1 << 12  # bytes at the start of a file, which hold sex and age


class CPSC2018(Challenge):
    """The public recordings of CPSC2018, whose patients are not identified.

    The config "challenge" reads the cohort of the Challenge 2021, "original" reads the files of the organisers, whose
    samples are not rounded to 1 uV. Both have the same recordings with the same names, labels and folds. The licence is
    that of the Challenge's release; the organisers state none.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name="challenge"), CorpusConfig(name=ORIGINAL)]
    DEFAULT_CONFIG_NAME = "challenge"

    citation = (
        "Liu, Liu, Zhao, Zhang, Wu, Xu, Liu, Ma, Wei, He, Li, Ng: An Open Access Database for Evaluating the "
        "Algorithms of Electrocardiogram Rhythm and Morphology Abnormality Detection. Journal of Medical Imaging and "
        f"Health Informatics 8(7), 1368-1373 (2018); {Challenge.citation}"
    )
    description = "12-lead ECGs of 6 to 144 s from 11 hospitals, with nine diagnoses."
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = label_sets_of(CPSC)
    num_records: ClassVar[int | None] = 6877
    cohorts = ("cpsc_2018",)
    names = CPSC

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records by their headers or, in the organisers' release, by `REFERENCE.csv` and the signal files.

        Raises:
            EcgFormatError: If a header, a signal file or the table has a field with an unknown value.
            EcgIntegrityError: If a record occurs twice.
        """
        if self.config.name != ORIGINAL:
            return super().read_index(root)
        codes = parse_reference(root.read(REFERENCE))
        paths: dict[str, str] = {}
        for path in find_records(root, ".mat", ())[0]:
            name = path.rpartition("/")[2]
            if name in paths:
                raise EcgIntegrityError(f"{root} holds {name} as {paths[name]} and {path}; set data_dir to one of them")
            paths[name] = path
        splits = deal_splits(codes, "cpsc_2018")
        entries = []
        for name in sorted(codes):
            path = paths.get(name, name)
            sex, age = _person(root, path) if name in paths else ("", "")
            age_known, age_over_89 = parse_age(age, name)
            entry = Entry(
                record_id=name,
                split=splits[name],
                path=path,
                age=age_known,
                age_over_89=age_over_89,
                sex=parse_sex(sex, name),
                labels=labels_of(codes[name], CPSC),
            )
            entries.append(entry)
        return entries

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Lists the paths of a record's files, relative to the root."""
        return (f"{entry.path}.mat",) if self.config.name == ORIGINAL else super().record_files(entry)

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, in mV with the twelve leads in standard order."""
        if self.config.name != ORIGINAL:
            return super().read_record(root, entry)
        (path,) = self.record_files(entry)
        signal = read_struct(root.read(path), path, "ECG", ("sex", "age", "data"))["data"]
        if isinstance(signal, str) or signal.shape[0] != len(LEADS) or not signal.size:
            raise EcgFormatError(f"{path}: expected data of 12 leads in rows, got {signal!r:.80}; download it again")
        return Record.from_millivolts(entry.record_id, signal, LEADS, SAMPLING_RATE)

    @classmethod
    def write_original_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the layout of the organisers' release."""
        rows = []
        for number in range(num_records):
            name = f"A{number + 1:04d}"
            path = folder / f"TrainingSet{1 + number % 3}" / f"{name}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            about = {
                "sex": "Male" if number % 2 else "Female",
                "age": float("nan") if number % 5 == 2 else 20.0 + number,
            }
            struct = about | {"data": example_samples(number)[:, : 3000 + 500 * (number % 5)] / 1000}
            savemat(path, {"ECG": struct}, do_compression=number % 4 != 0)
            labels = {"First_label": 1 + number % 9, "Second_label": 1 + (number + 4) % 9 if number % 3 == 0 else ""}
            rows.append({"Recording": name, **labels})
        write_table(folder / REFERENCE, COLUMNS, rows)

    def _open(self) -> CorpusRoot:
        if self.config.name != ORIGINAL or self.config.data_dir is None:
            return super()._open()
        return open_root(self.config.data_dir, REFERENCE)


def parse_reference(data: bytes) -> dict[str, tuple[str, ...]]:
    """Reads the SNOMED codes of each recording from `REFERENCE.csv`, which numbers the diagnoses from 1, normal, to 9.

    Args:
        data: Content of the table.

    Returns:
        The codes of each recording by its name.

    Raises:
        EcgFormatError: If the data are not such a table.
        EcgIntegrityError: If a recording occurs twice.
    """
    codes: dict[str, tuple[str, ...]] = {}
    for row in parse_table(data, REFERENCE, COLUMNS):
        name = row["Recording"]
        if cohort_of(name) != "cpsc_2018" or not row["First_label"]:
            raise EcgFormatError(f"{REFERENCE}: expected names such as A0001 and a label, got {row}; download it again")
        if name in codes:
            raise EcgIntegrityError(f"{REFERENCE}: expected {name} once, got it twice; download it again")
        numbers = ",".join(row[column] for column in COLUMNS[1:])
        codes[name] = parse_codes(numbers, name, NUMBERS.values(), NUMBERS)
    return codes


def _person(root: CorpusRoot, path: str) -> tuple[str, str]:
    """Returns sex and age as the file states them, at its start, so that only the start of a local file is read."""
    if isinstance(root, FolderRoot):
        with root.open(f"{path}.mat") as file:
            data = file.read(HEAD)
    else:
        data = root.read(f"{path}.mat")
    about = read_struct(data, f"{path}.mat", "ECG", ("sex", "age"))
    sex, age = about["sex"], about["age"]
    if not isinstance(sex, str) or isinstance(age, str) or age.size > 1:
        raise EcgFormatError(f"{path}.mat: expected a text as sex and a number as age, got {about}; download it again")
    return sex, f"{age.item():g}" if age.size else ""
