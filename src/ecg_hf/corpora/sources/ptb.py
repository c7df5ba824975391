"""The corpus PTB Diagnostic ECG Database 1.0.0: 549 recordings of 12 standard and 3 Frank leads of 290 patients."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.corpora.demographics import parse_age, parse_sex
from ecg_hf.corpora.examples import example_samples
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError
from ecg_hf.corpora.wfdb_files import read_files
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.wfdb import decode
from ecg_hf.signals.record import FRANK_LEADS, LEADS, MISSING, Record

NUM_FOLDS = 5  # as in study A: three for training, one for validation, one for testing
LAYOUT = Layout((*LEADS, *FRANK_LEADS), 1000, gain=2000.0, baseline=0)
REASONS = (
    "Bundle branch block",
    "Cardiomyopathy",
    "Dysrhythmia",
    "Healthy control",
    "Heart failure (NYHA 2)",
    "Heart failure (NYHA 3)",
    "Heart failure (NYHA 4)",
    "Hypertrophy",
    "Myocardial infarction",
    "Myocarditis",
    "Palpitation",
    "Stable angina",
    "Unstable angina",
    "Valvular heart disease",
)
FIELDS = {
    "reason": "reason for admission",
    "acute_infarction": "acute infarction (localization)",
    "former_infarction": "former infarction (localization)",
    "additional": "additional diagnoses",
}
NOTHING = frozenset({"", "-", "n/a", "nein", "no", "none", "unknown"})  # texts for no finding
TYPOS = {"infero-latera": "infero-lateral", "infero-poster-lateral": "infero-postero-lateral"}

_PATH = re.compile(r"(?P<patient>patient[0-9]{3})/(?P<name>s[0-9]{4}[a-z_]{3})")

logger = logging.getLogger(__name__)


class PTB(EcgCorpus):
    """The PTB Diagnostic ECG Database of PhysioNet: recordings of 30 s to 2 min at 1000 Hz with clinical summaries.

    A record has the twelve standard leads and the three Frank leads; the Frank leads are decoded, but a dataset row
    leaves them out. The report of a record is its whole clinical summary. Patients are assigned to five folds: three
    for training, one for validation, one for testing.

    Label sets: "reason", the reason for admission, one of 14, or none where it is unknown; "acute_infarction" and
    "former_infarction", the localisation of an infarction; "additional", the additional diagnoses. The names of the
    last three sets are free text, known once the headers are read: only separators and negations are interpreted, and
    two misspellings are corrected.

    The corpus `challenge2021` holds 516 of these recordings as S0001 to S0549, which no table maps to the names here.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import ecg_hf
        >>> from ecg_hf.corpora.sources.ptb import PTB
        >>> with TemporaryDirectory() as folder:
        ...     PTB.write_example(Path(folder))
        ...     rows = list(ecg_hf.load_corpus("ptb", split="test", data_dir=folder, streaming=True))
        >>> [(row["patient_id"], row["labels"][0]["name"]) for row in rows[:2]]
        [('patient005', 'Myocardial infarction'), ('patient005', 'Myocarditis')]
        >>> ecg_hf.row_to_signal(rows[0]).shape  # 10 s at 1000 Hz
        (12, 10000)
    """

    licence = "ODC-By-1.0"
    licence_url = "https://opendatacommons.org/licenses/by/1-0/"
    access = "open"
    homepage = "https://physionet.org/content/ptbdb/1.0.0/"
    citation = (
        "Bousseljot, Kreiseler, Schnabel: Nutzung der EKG-Signaldatenbank CARDIODAT der PTB ueber das Internet. "
        "Biomedizinische Technik 40, Ergaenzungsband 1, S 317 (1995); PhysioNet 2004, doi:10.13026/C28C71; with "
        "Goldberger et al.: PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101(23), e215 (2000)"
    )
    description = "12-lead ECGs of 30 s to 2 min at 1000 Hz, two thirds with an infarction, with clinical summaries."

    data_version = "1.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {name: REASONS if name == "reason" else () for name in FIELDS}
    num_records: ClassVar[int | None] = 549
    num_patients: ClassVar[int | None] = 290
    marker = "patient001/s0010_re.hea"

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records of RECORDS, sorted by path, with the summaries in their headers.

        Raises:
            MissingFileError: If RECORDS is missing, or a header is and `allow_missing` is not set.
            EcgFormatError: If a header lacks a field of the summary, or a field is invalid.
            EcgIntegrityError: If a record is not in the folder of a patient.
        """
        headers = self._read_headers(root)
        summaries = {path: parse_summary(data, path) for path, data in headers.items()}
        labels = {path: parse_labels(summary, path) for path, (summary, _) in summaries.items()}
        found = {pair for pairs in labels.values() for pair in pairs}
        self.label_sets = {  # type: ignore[misc]  # the names in these headers
            kind: tuple(sorted({*names, *(name for other, name in found if other == kind)}))
            for kind, names in PTB.label_sets.items()
        }
        splits = deal_splits(labels)
        return [_entry(path, *summaries[path], labels[path], splits[path]) for path in headers]

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the paths of the header and the two signal files of a record; the second holds the Frank leads."""
        return f"{entry.path}.hea", f"{entry.path}.dat", f"{entry.path}.xyz"

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, which must have all 15 leads at 1000 Hz and 2000 ADC units per mV."""
        header, files = read_files(root, self.record_files(entry), entry.record_id)
        return decode(header, files, layout=LAYOUT)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, with the oddities of the official summaries."""
        paths = [cls.marker.removesuffix(".hea")]
        endings = ("_re", "lre", "are")
        paths += [f"patient{1 + n // 2:03d}/s{n:04d}{endings[n % 3]}" for n in range(1, num_records)]
        for number, path in enumerate(paths):
            samples = 2 * np.repeat(example_samples(number), 2, axis=1).astype(np.int16)
            samples[3, 100] = MISSING if number % 7 == 3 else samples[3, 100]
            _write_example_record(folder / path, samples, number)
        (folder / "RECORDS").write_text("\n".join(paths) + "\n", encoding="ascii")

    def _read_headers(self, root: CorpusRoot) -> dict[str, bytes]:
        """Reads the header of each record that RECORDS lists; returns them by path, sorted."""
        headers, lost = {}, []
        for path in sorted(set(root.read("RECORDS").decode("utf-8", "backslashreplace").split())):
            parse_path(path)
            try:
                headers[path] = root.read(f"{path}.hea")
            except MissingFileError:
                lost.append(path)
        if lost and not self.config.allow_missing:
            raise MissingFileError(
                f"{root} lacks {len(lost)} of the headers that RECORDS names, such as {lost[:5]}; complete the "
                "download, or leave them out with allow_missing=True"
            )
        if lost:
            logger.warning("left out %d records without headers: %s", len(lost), ", ".join(lost))
        return headers


def parse_summary(header: bytes, path: str) -> tuple[dict[str, str], str]:
    """Parses the clinical summary in the comments of a header.

    Args:
        header: Content of the header file.
        path: Path of the record, for messages.

    Returns:
        Age, sex and each of `FIELDS` as written, by name in lower case; and the text of the whole summary.

    Raises:
        EcgFormatError: If one of these fields is missing or occurs twice.
    """
    lines = [line.strip() for line in header.decode("utf-8", "backslashreplace").splitlines()]
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    pairs = [(key.strip().lower(), value.strip()) for key, _, value in (line.partition(":") for line in comments)]
    wanted = ("age", "sex", *FIELDS.values())
    counts = {key: sum(key == other for other, _ in pairs) for key in wanted}
    if odd := {key: count for key, count in counts.items() if count != 1}:
        raise EcgFormatError(f"{path}: expected each part of the summary once, got {odd}; download the header again")
    return {key: value for key, value in pairs if key in wanted}, "\n".join(comments)


def parse_labels(summary: dict[str, str], path: str) -> tuple[tuple[str, str], ...]:
    """Lists the labels of a summary as pairs of label set and name, each once, without denied or unknown findings.

    Args:
        summary: Fields of the summary, by name in lower case.
        path: Path of the record, for messages.

    Raises:
        EcgFormatError: If the reason for admission is not one of `REASONS`.
    """
    reason = summary[FIELDS["reason"]]
    if reason not in REASONS and reason.lower() not in NOTHING:
        raise EcgFormatError(f"{path}: expected a reason for admission of {REASONS} or n/a, got {reason[:80]!r}")
    labels = []
    for kind, key in FIELDS.items():
        parts = summary[key].split(",") if kind == "additional" else [summary[key]]
        names = [TYPOS.get(part.strip(), part.strip()) for part in parts]
        labels += [(kind, name) for name in names if name.lower() not in NOTHING]
    return tuple(dict.fromkeys(labels))


def deal_splits(labels: Mapping[str, Collection[tuple[str, str]]]) -> dict[str, str]:
    """Assigns records to splits by five stratified folds, all records of a patient to the same one.

    Args:
        labels: Pairs of label set and name of each record, by path, such as `patient001/s0010_re`. Additional
            diagnoses, which are free text, are not balanced between the folds.

    Returns:
        The split of each record, by path.

    Raises:
        EcgIntegrityError: If a path does not have that form.
    """
    if len(labels) < (PTB.num_records or 0):
        logger.warning("of %d records %d are here; the folds are valid for these only", PTB.num_records, len(labels))
    patients = [parse_path(path)[0] for path in labels]
    names = [[pair for pair in pairs if pair[0] != "additional"] for pairs in labels.values()]
    folds = stratified_folds(names, patients, NUM_FOLDS)
    return {path: split_of_fold(fold, NUM_FOLDS) for path, fold in zip(labels, folds.tolist(), strict=True)}


def parse_path(path: str) -> tuple[str, str]:
    """Splits the path of a record, without suffix, into the names of patient and record.

    Raises:
        EcgIntegrityError: If the path is not one of a file in the folder of a patient.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise EcgIntegrityError(
            f"expected records such as patient001/s0010_re, got {path[:80]!r}; set data_dir to the database alone"
        )
    return match["patient"], match["name"]


def _entry(path: str, summary: dict[str, str], report: str, labels: Sequence[tuple[str, str]], split: str) -> Entry:
    patient, name = parse_path(path)
    known = {key: "" if summary[key].lower() == "n/a" else summary[key] for key in ("age", "sex")}
    age, age_over_89 = parse_age(known["age"], path)
    return Entry(
        record_id=name,
        split=split,
        patient_id=patient,
        path=path,
        age=age,
        age_over_89=age_over_89,
        sex=parse_sex(known["sex"], path),
        report=report,
        labels=tuple((kind, label, 1.0) for kind, label in labels),
    )


def _write_example_record(path: Path, samples: NDArray[np.int16], number: int) -> None:
    """Writes a record of 12 leads, with three of them repeated as Frank leads in a second file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [*samples, *samples[6:9]]
    lines = [f"{path.name} 15 1000 {samples.shape[1]}"]
    for lead, row in zip((*LEADS, *FRANK_LEADS), rows, strict=True):
        suffix = "xyz" if lead in FRANK_LEADS else "dat"
        lines.append(f"{path.name}.{suffix} 16 2000 16 0 {row[0]} {row.sum(dtype=np.int16)} 0 {lead.lower()}")
    summary = {
        "age": ("81", "n/a", "17")[number % 3],
        "sex": ("female", "male")[number % 2],
        "ECG date": "01/10/1990",
        "Diagnose": "",
        "Reason for admission": (*REASONS, "n/a")[number % 15],
        "Acute infarction (localization)": ("infero-latera", "no", "anterior", "n/a")[number % 4],
        "Former infarction (localization)": ("no", "1) inferior 2) lateral", "unknown")[number % 3],
        "Additional diagnoses": ("no", "Diabetes mellitus, Arterial hypertension", "n/a", "Obesity")[number % 4],
        "Infarction date": "29-Sep-90",
    }
    comments = [f"# {key}: {value}" for key, value in summary.items()] + ["", "# Therapy:", "# Infarction date: n/a"]
    path.with_suffix(".hea").write_text("\n".join([*lines, "", *comments]) + "\n", encoding="ascii")
    path.with_suffix(".dat").write_bytes(samples.T.astype("<i2").tobytes())
    path.with_suffix(".xyz").write_bytes(samples[6:9].T.astype("<i2").tobytes())
