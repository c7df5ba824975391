"""The corpus SPH: 25,770 ECGs of 24,666 patients of Shandong Provincial Hospital, with AHA statements."""

import io
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.demographics import parse_age
from ecg_hf.corpora.examples import example_samples, write_table
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry, parse_table
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.hdf5 import Form, Hdf5File, decode
from ecg_hf.signals.record import LEADS, Record

NUM_RECORDS = 25_770
NUM_FOLDS = 10
SAMPLING_RATE = 500  # Hz
COLUMNS = ("ECG_ID", "AHA_Code", "Patient_ID", "Age", "Sex", "N", "Date")
CODE_COLUMNS = ("Category", "Code", "Description")
SEXES = {"M": "male", "F": "female"}
AGES = (20, 40, 60, 80)  # years; bounds of the age bins by which folds are stratified
FORM = Form("ecg", ("lead", "sample"), LEADS, SAMPLING_RATE, "mV")
ARCHIVE = "records.tar.gz"

# The expected content of code.csv: category, code and description of each statement, then of each modifier.
_TABLE = """
A 1 Normal ECG|C 21 Sinus tachycardia|C 22 Sinus bradycardia|C 23 Sinus arrhythmia|D 30 Atrial premature complex(es)
D 31 Atrial premature complexes, nonconducted|D 36 Junctional premature complex(es)|D 37 Junctional escape complex(es)
E 50 Atrial fibrillation|E 51 Atrial flutter|E 54 Junctional tachycardia|F 60 Ventricular premature complex(es)
H 80 Short PR interval|H 81 AV conduction ratio N:D|H 82 Prolonged PR interval
H 83 Second-degree AV block, Mobitz type I (Wenckebach)|H 84 Second-degree AV block, Mobitz type II|H 85 2:1 AV block
H 86 AV block, varying conduction|H 87 AV block, advanced (high-grade)|H 88 AV block, complete (third-degree)
I 101 Left anterior fascicular block|I 102 Left posterior fascicular block|I 104 Left bundle-branch block
I 105 Incomplete right bundle-branch block|I 106 Right bundle-branch block|I 108 Ventricular preexcitation
J 120 Right-axis deviation|J 121 Left-axis deviation|J 125 Low voltage|K 140 Left atrial enlargement
K 142 Left ventricular hypertrophy|K 143 Right ventricular hypertrophy|L 145 ST deviation
L 146 ST deviation with T-wave change|L 147 T-wave abnormality|L 148 Prolonged QT interval|L 152 TU fusion
L 153 ST-T change due to ventricular hypertrophy|L 155 Early repolarization|M 160 Anterior MI|M 161 Inferior MI
M 165 Anteroseptal MI|M 166 Extensive anterior MI
Modifier 308 Occasional|Modifier 310 Frequent|Modifier 330 Acute|Modifier 331 Recent|Modifier 332 Old
Modifier 340 Couplets|Modifier 341 In a bigeminal pattern|Modifier 342 In a trigeminal pattern
Modifier 346 With a rapid ventricular response|Modifier 347 With a slow ventricular response|Modifier 349 With aberrancy
Modifier 350 Polymorphic|Modifier 362 Depression|Modifier 363 Elevation|Modifier 367 Inversion
"""
_CODES = {
    code: (category, description)
    for category, code, description in (line.split(" ", 2) for line in re.split(r"[|\n]", _TABLE.strip()))
}
STATEMENTS = {code: about[1] for code, about in _CODES.items() if about[0] != "Modifier"}
MODIFIERS = {code: about[1] for code, about in _CODES.items() if about[0] == "Modifier"}

# The statements with modifiers, and those without, that occur in metadata.csv.
COMBINED = (
    "30+308 30+310 30+340 30+341 30+349 50+346 50+347 60+308 60+310 60+340 60+341 60+342 60+350 145+362 145+363 "
    "147+367 160+330 160+332 161+330 161+331 161+332 165+330 165+331 165+332 166+332"
).split()
BARE = [code for code in STATEMENTS if code != "166"]

_CODE = re.compile(r"[0-9]+(\+[0-9]+)*(;[0-9]+(\+[0-9]+)*)*")


def name_of(code: str) -> str:
    """Writes a statement with its modifiers in words: "60+310" is "Ventricular premature complex(es) + Frequent"."""
    primary, *modifiers = code.split("+")
    return " + ".join([STATEMENTS[primary], *(MODIFIERS[modifier] for modifier in modifiers)])


class SPH(EcgCorpus):
    """The corpus SPH, published on figshare: ECGs of 10 to 60 s at 500 Hz with AHA/ACC/HRS statements.

    A record is an HDF5 file. Its samples are stored as float16, which has a precision of 11 bits, and are rounded to
    within half a microvolt. Patients are assigned to ten folds, stratified as in study A by statements with modifiers,
    sex and age: eight for training, one for validation, one for testing. The day of the recording is left out.

    Label sets: "statement", the primary statements alone, and "statement_with_modifiers", each with its modifiers.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name="default")]

    licence = "CC-BY-4.0"
    licence_url = "https://creativecommons.org/licenses/by/4.0/"
    access = "open"
    homepage = "https://doi.org/10.6084/m9.figshare.c.5779802.v1"
    citation = (
        "Liu, Chen, Chen, Zhang, Li, Bian, Shu, Wang: A large-scale multi-label 12-lead electrocardiogram database "
        "with standardized diagnostic statements. Scientific Data 9, 272 (2022), doi:10.1038/s41597-022-01403-5"
    )
    description = "12-lead ECGs of 10 to 60 s, 2019-2020, with AHA/ACC/HRS statements and modifiers."
    data_version = "1.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {
        "statement": tuple(STATEMENTS.values()),
        "statement_with_modifiers": tuple(map(name_of, [*BARE, *COMBINED])),
    }
    marker = "metadata.csv"
    num_records: ClassVar[int | None] = NUM_RECORDS
    num_patients: ClassVar[int | None] = 24_666

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records of `metadata.csv` and checks that `code.csv` is as expected.

        Raises:
            EcgAccessError: If the records are still in their archive.
            EcgFormatError: If a table cannot be read or one of its fields is invalid.
            EcgIntegrityError: If a table is not the official one.
        """
        check_codes(root.read("code.csv"))
        rows = list(parse_table(root.read(self.marker), self.marker, COLUMNS))
        if len(rows) > NUM_RECORDS:
            raise EcgIntegrityError(
                f"{self.marker} has {len(rows)} records, expected at most {NUM_RECORDS}; download it again"
            )
        groups = [row["Patient_ID"] for row in rows]
        folds = stratified_folds([strata(row) for row in rows], groups, NUM_FOLDS)
        splits = [split_of_fold(fold, NUM_FOLDS) for fold in folds.tolist()]
        entries = [parse_entry(row, split) for row, split in zip(rows, splits, strict=True)]
        if entries and not root.exists(self.record_files(entries[0])[0]) and root.exists(ARCHIVE):
            raise EcgAccessError(
                f"the records of {root} are still in {ARCHIVE}; unpack it with tar -xf (despite its name, it is not "
                "compressed)"
            )
        return entries

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the path of the file of a record; in `entry.path`, a colon and the number of samples follow it."""
        return (entry.path.partition(":")[0],)

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, which must have the twelve leads and the number of samples in the table."""
        path, _, num_samples = entry.path.partition(":")
        file = Hdf5File(io.BytesIO(root.read(path)), f"{root}/{path}")
        try:
            return decode(
                file, entry.record_id, FORM, layout=Layout(LEADS, SAMPLING_RATE, num_samples=int(num_samples))
            )
        finally:
            file.close()

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, with records of different lengths."""
        import h5py  # type: ignore[import-untyped, unused-ignore]

        write_table(folder / "code.csv", CODE_COLUMNS, _code_rows())
        write_table(folder / cls.marker, COLUMNS, [_example_row(number) for number in range(num_records)])
        (folder / "records").mkdir()
        for number in range(num_records):
            signal = np.tile(example_samples(number), 2)[:, : _example_row(number)["N"]] / 1000
            with h5py.File(folder / f"records/A{number + 1:05d}.h5", "w") as file:
                file.create_dataset("ecg", data=signal.astype(np.float16), compression="gzip")


def parse_entry(row: Mapping[str, str], split: str) -> Entry:
    """Converts a row of `metadata.csv` to an entry of the given split.

    Raises:
        EcgFormatError: If a field is invalid.
    """
    name = f"record {row['ECG_ID']!r} of metadata.csv"
    wanted = {"ECG_ID": r"A[0-9]{5}", "Patient_ID": r"S[0-9]{5}", "N": r"[1-9][0-9]{0,5}", "Sex": "[MF]"}
    if odd := {key: row[key] for key, pattern in wanted.items() if not re.fullmatch(pattern, row[key])}:
        raise EcgFormatError(f"{name}: expected fields such as A00001, S00001, 5000, M, got {odd}; download it again")
    age, age_over_89 = parse_age(row["Age"], name)
    codes = parse_codes(row["AHA_Code"])
    pairs = [("statement", STATEMENTS[code.partition("+")[0]]) for code in codes]
    pairs += [("statement_with_modifiers", name_of(code)) for code in codes]
    return Entry(
        record_id=row["ECG_ID"],
        split=split,
        patient_id=row["Patient_ID"],
        path=f"records/{row['ECG_ID']}.h5:{row['N']}",
        age=age,
        age_over_89=age_over_89,
        sex=SEXES[row["Sex"]],
        labels=tuple((label_set, label, 1.0) for label_set, label in dict.fromkeys(pairs)),
    )


@lru_cache(maxsize=1 << 12)
def parse_codes(text: str) -> tuple[str, ...]:
    """Splits a field of statements with modifiers; ";" separates statements, and "+" stands before each modifier.

    Args:
        text: Codes of the statements of a record, such as "60+310;147".

    Returns:
        The codes of each statement and its modifiers as written, repetitions kept.

    Raises:
        EcgFormatError: If the text has another form, or a code or a combination of codes is unknown.

    Source:
        Liu et al. 2022, table 3.
    """
    codes = tuple(text.split(";"))
    known = _CODE.fullmatch(text) is not None and all(
        primary in STATEMENTS and set(modifiers) <= MODIFIERS.keys()
        for primary, *modifiers in (code.split("+") for code in codes)
    )
    if not known or not {*codes} <= {*BARE, *COMBINED}:
        raise EcgFormatError(f"expected statements of SPH such as '60+310;147', got {text[:80]!r}; download it again")
    return codes


def strata(row: Mapping[str, str]) -> Sequence[str]:
    """Lists the labels by which folds are stratified: statements with modifiers, repetitions kept, sex and age bin."""
    age = float(row["Age"]) if re.fullmatch("[0-9]{1,3}", row["Age"]) else -1.0
    return [*parse_codes(row["AHA_Code"]), f"sex {row['Sex']}", f"age {sum(age >= bound for bound in AGES)}"]


def check_codes(data: bytes) -> None:
    """Checks that the content of `code.csv` agrees with the table in this module.

    Raises:
        EcgFormatError: If the content is not a table with the columns of that file.
        EcgIntegrityError: If the two disagree about a code.
    """
    rows = parse_table(data, "code.csv", CODE_COLUMNS)
    found = {row["Code"]: (row["Category"], row["Description"].strip()) for row in rows}
    for code in sorted(_CODES.keys() | found.keys()):
        if found.get(code) != _CODES.get(code):
            raise EcgIntegrityError(
                f"code.csv says {found.get(code)} of {code!r}, expected {_CODES.get(code)}; download it again"
            )


def _code_rows() -> list[dict[str, str]]:
    return [
        dict(zip(CODE_COLUMNS, (category, code, description), strict=True))
        for code, (category, description) in _CODES.items()
    ]


def _example_row(number: int) -> dict[str, Any]:
    codes = ("1", "22;23", "60+310;147", "145+362;145+363", "50+346;50+346")[number % 5]
    return {
        "ECG_ID": f"A{number + 1:05d}",
        "AHA_Code": codes,
        "Patient_ID": f"S{number // 2 + 1:05d}",
        "Age": 18 + 77 * number % 78,
        "Sex": "MF"[number // 2 % 2],
        "N": (5000, 6000, 7500)[number % 3],
        "Date": "2020-03-04",
    }
