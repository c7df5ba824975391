"""The corpus Chapman-Shaoxing as published on figshare: 10,646 twelve-lead ECGs of as many patients."""

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.demographics import parse_age, parse_sex
from ecg_hf.corpora.examples import example_samples
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.challenge.cohort import deal_splits
from ecg_hf.corpora.sources.challenge.snomed import ACRONYMS
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.csv import decode
from ecg_hf.signals.record import LEADS, Record

NUM_RECORDS = 10_646
MAX_BYTES = 1 << 28  # bytes of the unpacked workbook; the official one has 6 MB
NUM_FOLDS = 10
RATE = 500
COLUMNS = (
    "FileName Rhythm Beat PatientAge Gender VentricularRate AtrialRate QRSDuration QTInterval QTCorrected RAxis TAxis "
    "QRSCount QOnset QOffset TOffset"
).split()
NO_BEAT = "NONE"
IRREGULAR = "SA"  # sinus irregularity, a rhythm whose recordings PhysioNet's releases leave out
RHYTHMS = tuple("AF AFIB AT AVNRT AVRT SA SAAWR SB SR ST SVT".split())
BEATS = tuple(
    "1AVB 2AVB 2AVB1 2AVB2 3AVB ABI ALS APB AQW ARS AVB CCR CR ERV FQRS IDC IVB JEB JPS JPT LBBB LBBBB LFBBB LRRI LVH "
    "LVHV LVQRSAL LVQRSCL LVQRSLL MI MIBW MIFW MILW MISW PRIE PWC QTIE RAH RAHV RBBB RVH STDD STE STTC STTU TWC TWO UW "
    "VB VEB VET VFW VPB VPE WAVN WPW".split()
)
FOLDERS = {"raw": "ECGData", "denoised": "ECGDataDenoised"}


class Chapman(EcgCorpus):
    """Chapman-Shaoxing as published on figshare, with its own acronyms; "denoised" holds the same recordings, filtered.

    Row N of the complete table is recording N of PhysioNet's releases, from JS00001 on, and has the same fold as there:
    folds are stratified by the SNOMED codes of those releases. The 399 recordings of sinus irregularity, which those
    releases leave out, are stratified on their own. Heart rates, intervals and axes of the table are not read.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name=name) for name in FOLDERS]
    DEFAULT_CONFIG_NAME = "raw"

    licence = "CC-BY-4.0"  # the stricter one, since some of its sources state CC0
    licence_url = "https://creativecommons.org/licenses/by/4.0/"
    access = "open"
    homepage = "https://figshare.com/collections/ChapmanECG/4560497/2"
    citation = (
        "Zheng, Zhang, Danioko, Yao, Guo, Rakovski: A 12-lead electrocardiogram database for arrhythmia research "
        "covering more than 10,000 patients. Scientific Data 7, 48 (2020), doi:10.1038/s41597-020-0386-x"
    )
    description = "12-lead ECGs of 10 s from Shaoxing People's Hospital, with 11 rhythms and 56 other findings."
    data_version = "2.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {
        "beat": BEATS,
        "rhythm": RHYTHMS,
        "all": tuple(sorted({*BEATS, *RHYTHMS})),
    }
    num_records: ClassVar[int | None] = NUM_RECORDS
    num_patients: ClassVar[int | None] = NUM_RECORDS
    marker = "Diagnostics.xlsx"

    def canonical_id(self, entry: Entry) -> str:
        """Returns the name of the recording in PhysioNet's release or, if the table is incomplete, the name here."""
        own = entry.patient_id == entry.record_id
        return super().canonical_id(entry) if own else f"ecg_arrhythmia:{entry.patient_id}"

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the rows of `Diagnostics.xlsx`.

        Raises:
            EcgFormatError: If the workbook cannot be read or one of its fields has an unknown value.
            EcgIntegrityError: If the workbook has more rows than the official one.
        """
        rows = list(read_workbook(root.read(self.marker), self.marker, COLUMNS[:5]))
        if len(rows) > NUM_RECORDS:
            raise EcgIntegrityError(
                f"{self.marker} has {len(rows)} rows, expected at most {NUM_RECORDS}; download it again"
            )
        complete = len(rows) == NUM_RECORDS
        patients = [f"JS{number:05d}" if complete else row["FileName"] for number, row in enumerate(rows, 1)]
        labels = [parse_labels(row) for row in rows]
        splits = _splits(dict(zip(patients, labels, strict=True)))
        entries = []
        for row, patient, names in zip(rows, patients, labels, strict=True):
            age, age_over_89 = parse_age(row["PatientAge"], row["FileName"])
            entry = Entry(
                record_id=row["FileName"],
                split=splits[patient],
                patient_id=patient,
                path=f"{FOLDERS[self.config.name]}/{row['FileName']}.csv",
                age=age,
                age_over_89=age_over_89,
                sex=parse_sex(row["Gender"], row["FileName"]),
                labels=names,
            )
            entries.append(entry)
        return entries

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, 10 s of twelve leads in uV; only raw files begin with a row of names."""
        leads = None if self.config.name == "raw" else LEADS
        layout = Layout(LEADS, RATE, num_samples=10 * RATE)
        return decode(root.read(entry.path), entry.record_id, RATE, "uV", leads, layout=layout)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, raw and denoised."""
        rows: list[Sequence[object]] = []
        for number in range(num_records):
            name = f"MUSE_20180113_{171327 + number}_{1000 * number:05d}"
            beats = " ".join(BEATS[(7 * number + step) % len(BEATS)] for step in range(number % 4)) or NO_BEAT
            age, sex = str(20 + 3 * number % 78), ("MALE", "FEMALE")[number % 2]
            rows.append((name, RHYTHMS[number % 11], beats, age, sex, *range(11)))
            lines = [",".join(map(str, row)) + "\n" for row in example_samples(number).T.tolist()]
            for kind, text in (("raw", ",".join(LEADS) + "\n"), ("denoised", "")):
                path = folder / FOLDERS[kind] / f"{name}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text + "".join(lines), encoding="ascii")
        write_workbook(folder / cls.marker, [COLUMNS, *rows])


def parse_labels(row: Mapping[str, str]) -> tuple[tuple[str, str, float], ...]:
    """Reads the labels of a row: its beats, separated by blanks, or "NONE", and its rhythm.

    Args:
        row: Fields of the row by column.

    Returns:
        Label set, name and value of each label, in the sets "beat", "rhythm" and "all".

    Raises:
        EcgFormatError: If a beat or the rhythm is unknown.
    """
    beats = [] if row["Beat"].strip() == NO_BEAT else row["Beat"].split()
    rhythm = row["Rhythm"].strip()
    if unknown := [name for name in beats if name not in BEATS] + [rhythm] * (rhythm not in RHYTHMS):
        raise EcgFormatError(
            f"{row['FileName']}: expected beats and rhythms of the official table, got {unknown}; download it again"
        )
    beats = list(dict.fromkeys(beats))
    pairs = [*(("beat", beat) for beat in beats), ("rhythm", rhythm), *(("all", name) for name in (*beats, rhythm))]
    return tuple((label_set, name, 1.0) for label_set, name in pairs)


def _splits(labels: Mapping[str, Sequence[tuple[str, str, float]]]) -> dict[str, str]:
    """Returns the split of each patient, as in PhysioNet's releases, whose codes follow from the acronyms."""
    names = {patient: [name for kind, name, _ in found if kind == "all"] for patient, found in labels.items()}
    codes = {
        patient: tuple({ACRONYMS[name] for name in found if name in ACRONYMS})
        for patient, found in names.items()
        if IRREGULAR not in found
    }
    rest = sorted(names.keys() - codes.keys())
    folds = stratified_folds([names[patient] for patient in rest], rest, NUM_FOLDS)
    others = {patient: split_of_fold(fold, NUM_FOLDS) for patient, fold in zip(rest, folds.tolist(), strict=True)}
    return deal_splits(codes, "chapman_shaoxing") | others


def read_workbook(data: bytes, name: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Reads the named columns of the first sheet of a workbook, row by row, without evaluating formulas.

    Args:
        data: Content of the file.
        name: Name of the file, for messages.
        columns: Names of the columns to read.

    Yields:
        The fields of each row by column.

    Raises:
        ImportError: If openpyxl is not installed.
        EcgFormatError: If the file is not a workbook, or one of the columns is missing or has an empty field.
    """
    try:
        from openpyxl import load_workbook  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError(f"reading {name} needs openpyxl; install it with pip install 'ecg_hf[io]'") from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes when unpacked, over {MAX_BYTES}")
        rows = load_workbook(io.BytesIO(data), read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
        table = [["" if value is None else str(value).strip() for value in row] for row in rows]
    except Exception as error:  # openpyxl lets through any exception of its parsers
        raise EcgFormatError(
            f"{name}: expected a workbook, got {type(error).__name__}: {error}; download it again"
        ) from error
    header = table[0] if table else []
    if odd := [column for column in columns if header.count(column) != 1]:
        raise EcgFormatError(f"{name} should have each of the columns {odd} once, got {header}; download it again")
    for number, row in enumerate(table[1:], 2):
        fields = {column: row[header.index(column)] for column in columns}
        if not all(fields.values()):
            raise EcgFormatError(f"{name}, row {number}: expected every field filled, got {fields}; download it again")
        yield fields


def write_workbook(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Writes a workbook with one sheet."""
    from openpyxl import Workbook

    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(path)
