"""Readers of HEEDB's tables in all its releases, row by row, since the largest has ten million rows and 3 GB."""

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.errors import EcgAccessError, EcgFormatError

SETS = ("12sl", "12sl_acquisition", "12sl_overread")
SEXES = {"male": "male", "female": "female", "m": "male", "f": "female"}
DAYS = 365.25  # a year
MAX_AGE = 120  # years; an age above it, or below 0, is an error of a shifted date

_PATH = re.compile(r"((?:[A-Za-z0-9_-]+/)*)([A-Za-z0-9_-]+)")
_PATIENT = re.compile(r"0*([0-9]{1,15}?)(?:\.0*)?")
_CODES = re.compile(r"[0-9]{1,6}(?:, ?[0-9]{1,6})*")
_NUMBER = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]*)?")

logger = logging.getLogger(__name__)

Labels = tuple[tuple[str, str, float], ...]


class Statements(NamedTuple):
    """The layout of a table of 12SL codes.

    Args:
        path: Path of the table, below the root.
        columns: Names of the column of the record's file, then of the columns of codes.
        label_sets: Label set of each column of codes.
        delimiter: Separator of the fields.
    """

    path: str
    columns: tuple[str, ...]
    label_sets: tuple[str, ...]
    delimiter: str = ","


class Source(NamedTuple):
    """The layout of one hospital's part of a release: its paths and the names of its columns.

    Args:
        hospital: Name of the hospital, "mgh" or "emory".
        metadata: Path of the table of records, below the root.
        columns: Names of the columns of file, patient, sex and age.
        years_per_age: Factor from an age in the table to years.
        records: Path of the folder of the records, below the root.
        suffix: Suffix of a signal file.
        depth: Number of folder levels below `records` that name a partition.
        statements: Tables of codes of this release, all of which are read; then those of the release before, read
            instead if the first table is missing.
        duplicates: Path of the table of records to leave out; empty if there is none.
    """

    hospital: str
    metadata: str
    columns: tuple[str, str, str, str]
    years_per_age: float
    records: str
    suffix: str
    depth: int
    statements: tuple[tuple[Statements, ...], ...]
    duplicates: str = ""


def _current(hospital: str, folder: str, sex: str, suffix: str, depth: int) -> Source:
    place = f"{folder}/12SL_diagnoses"
    latest = (
        Statements(f"{place}/diagnoses_v24.csv", ("FileName", "codes"), SETS[:1]),
        Statements(f"{place}/diagnoses_acquisition.csv", ("FileName", "codes_software", "codes_physician"), SETS[1:]),
    )
    before = (Statements(f"{place}/diagnoses.csv", ("FileName", "codes"), SETS[:1]),)
    columns = ("FileName", "BDSPPatientID", sex, "AgeAtAcquisition")
    table = f"{folder}/metadata/metadata.csv"
    return Source(hospital, table, columns, 1 / DAYS, f"{folder}/WFDB", suffix, depth, (latest, before))


CURRENT = (_current("mgh", "I0001", "SexDSC", ".mat", 2), _current("emory", "I0006", "Sex", ".dat", 1))
OLD = Source(
    "mgh",
    "Metadata/demographics_ECG.csv",
    ("FileName", "BDSPPatientID", "SexDSC", "Age"),
    1.0,
    "ECG/WFDB",
    ".mat",
    2,
    ((Statements("Metadata/ECG_Interpretations.psv", ("file_source", "diagnostic_codes"), SETS[:1], "|"),),),
    "Metadata/duplicated.csv",
)


class Person(NamedTuple):
    """A record in the table of records: its name, folder below the root, patient, age in years and sex."""

    name: str
    folder: str
    patient: str
    age: float | None
    age_over_89: bool
    sex: str | None


def read_columns(root: CorpusRoot, path: str, columns: Sequence[str], delimiter: str = ",") -> Iterator[Sequence[str]]:
    """Reads some columns, found by name, of a table with a header, row by row.

    Args:
        root: Root of the corpus.
        path: Path of the table, which is in UTF-8, with or without a byte order mark, with either end of line.
        columns: Names of the columns to read.
        delimiter: Separator of the fields.

    Raises:
        EcgFormatError: If the file is not such a table, lacks a column, has one twice, or a row is cut off.
    """
    with root.open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if odd := [column for column in columns if header.count(column) != 1]:
                raise EcgFormatError(
                    f"{path} should have each of the columns {odd} once, got {header[:40]}; download it again, or set "
                    "data_dir to a release that is known here: 2.0 to 5.0"
                )
            places = [header.index(column) for column in columns]
            for row in reader:
                if len(row) != len(header):
                    raise EcgFormatError(
                        f"{path}, line {reader.line_num}: expected {len(header)} fields, got {len(row)}; "
                        "download it again"
                    )
                yield [row[place] for place in places]
        except (UnicodeDecodeError, csv.Error) as error:
            raise EcgFormatError(f"{path} is not a table in UTF-8 ({error}); download it again") from None


def read_persons(root: CorpusRoot, source: Source, partitions: Collection[str] | None) -> tuple[list[Person], set[str]]:
    """Reads the table of records; those without a known patient are left out, counted and logged.

    Args:
        root: Root of the corpus.
        source: Layout of the part to read.
        partitions: Names of the partitions to keep; all if None.

    Returns:
        The records that are kept, in the table's order, and the names of all partitions in the table.

    Raises:
        EcgFormatError: If the table cannot be read or one of its fields is invalid.
    """
    persons, found = [], set()
    odd: Counter[str] = Counter()
    for file, patient, sex, age in read_columns(root, source.metadata, source.columns):
        folder, name = split_path(file)
        partition = partition_of(folder, source.depth)
        found.add(partition)
        if partitions is not None and partition not in partitions:
            continue
        number = _PATIENT.fullmatch(patient.strip())
        if not number or not number[1].strip("0"):
            if patient.strip().lower() not in ("", "nan"):
                raise EcgFormatError(f"{source.metadata}, {name}: {patient[:40]!r} is no patient; download it again")
            odd["no patient, left out"] += 1
            continue
        try:
            years, over_89, problem = parse_age(age, source.years_per_age)
        except EcgFormatError as error:
            raise EcgFormatError(f"{source.metadata}, {name}: {error}") from None
        known = SEXES.get(sex.strip().lower())
        odd.update([f"sex {sex.strip()[:40]!r}, taken for unknown"] if known is None else [])
        odd.update([problem] if problem else [])
        persons.append(Person(name, _folder(source.records, folder), _same(number[1]), years, over_89, known))
    for problem, count in sorted(odd.items()):
        logger.warning("%s: %d records with %s", source.metadata, count, problem)
    return persons, found


def read_labels(root: CorpusRoot, source: Source, said: dict[str, Labels]) -> None:
    """Adds the labels that the tables of codes hold for records.

    Args:
        root: Root of the corpus.
        source: Layout of the part to read.
        said: Labels by name of the record, with a key for each wanted record; changed.

    Raises:
        EcgAccessError: If there is no table of codes.
        EcgFormatError: If a table cannot be read or one of its fields is invalid.
    """
    tables = next((group for group in source.statements if root.exists(group[0].path)), None)
    if tables is None:
        raise EcgAccessError(
            f"{root} lacks {source.statements[0][0].path}; download it, or read the signals alone with labels=False"
        )
    for table in tables:
        others = 0
        for file, *codes in read_columns(root, table.path, table.columns, table.delimiter):
            name = split_path(file)[1]
            if name not in said:
                others += 1
                continue
            try:
                for label_set, text in zip(table.label_sets, codes, strict=True):
                    said[name] += parse_codes(text, label_set)
            except EcgFormatError as error:
                raise EcgFormatError(f"{table.path}, {name}: {error}") from None
        logger.info("%s: skipped %d rows of records that are not read", table.path, others)


@lru_cache(maxsize=1 << 16)
def parse_codes(text: str, label_set: str) -> Labels:
    """Parses a list, maybe empty, of 12SL codes such as "22, 1680,1699" into labels, each code once.

    Raises:
        EcgFormatError: If the text is not such a list.
    """
    text = text.strip()
    if text.lower() in ("", "nan"):
        return ()
    if not _CODES.fullmatch(text):
        raise EcgFormatError(f"expected 12SL codes such as '22, 1680', got {text[:80]!r}; download the table again")
    return tuple(_label(label_set, str(int(code))) for code in dict.fromkeys(text.split(",")))


@lru_cache(maxsize=1 << 16)
def parse_age(text: str, years_per_age: float) -> tuple[float | None, bool, str]:
    """Parses an age.

    Returns:
        The age in years, None if unknown or over 89; whether it is over 89; and the problem with it, "" if none.

    Raises:
        EcgFormatError: If the text is not a number.
    """
    text = text.strip()
    if text.lower() in ("", "nan"):
        return None, False, ""
    if not _NUMBER.fullmatch(text):
        raise EcgFormatError(f"expected an age, got {text[:40]!r}; download the table again")
    age = float(text) * years_per_age
    if not 0 <= age <= MAX_AGE:
        return None, False, "an impossible age, taken for unknown"
    return (float(np.float32(age)), False, "") if age <= 89 else (None, True, "")  # float32, as in a row


def split_path(text: str) -> tuple[str, str]:
    r"""Splits the path of a record's file, which each table writes in its own way, into folder and name.

    Args:
        text: Path such as "/S0001/1988/04/de_1", "./S0001/1988/04/de_1.hea\n" or "WFDB/2010/MUSE_1".

    Returns:
        The folder below that of all records, with "/" at its end, and the name without suffix.

    Raises:
        EcgFormatError: If the text is not a plain path.
    """
    path = text.strip().removeprefix(".").removeprefix("/").removeprefix("WFDB/").removesuffix(".hea")
    match = _PATH.fullmatch(path)
    if match is None:
        raise EcgFormatError(f"expected the path of a record, got {text[:120]!r}; download the table again")
    return match[1], match[2]


@lru_cache(maxsize=1 << 12)
def partition_of(folder: str, depth: int) -> str:
    """Returns the name of a folder's partition as in study A: "S0001-1987", or "2010" at Emory."""
    return "-".join(folder.split("/")[:depth])


@lru_cache(maxsize=1 << 12)
def _folder(records: str, folder: str) -> str:
    return f"{records}/{folder}".rstrip("/")


@lru_cache(maxsize=1 << 12)
def _same(patient: str) -> str:
    return patient  # cached, so that neighbouring rows share one object


@lru_cache(maxsize=1 << 14)
def _label(label_set: str, code: str) -> tuple[str, str, float]:
    return label_set, code, 1.0
