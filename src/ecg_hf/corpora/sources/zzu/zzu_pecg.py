"""The corpus ZZU pECG: 14,190 ECGs of 11,643 children, with AHA statements and diagnoses at discharge."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.examples import example_samples, write_table
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry, parse_table
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.zzu.codes import (
    CODE_COLUMNS,
    DISEASE_COLUMNS,
    DISEASES,
    FINDINGS,
    STATEMENTS,
    check_codes,
    check_diseases,
    example_codes,
    example_diseases,
    parse_labels,
    parse_quality,
)
from ecg_hf.corpora.wfdb_files import read_files
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.wfdb import decode
from ecg_hf.signals.record import LEADS, Record

NUM_RECORDS = 14_190
NUM_FOLDS = 10
SAMPLING_RATE = 500  # Hz
FOLDER = "Child_ecg"
ARCHIVES = ("Child_ecg.zip", "Child_ecg.z01")
DAYS = 365.25  # per year; an age in years times this is a whole number of days again
AGES = (365, 5 * 365, 12 * 365, 18 * 365)  # days; bounds of the age bins by which folds are stratified
SEXES = {"Male": "male", "Female": "female", "": None, "Null": None}
LAYOUTS = {"12": LEADS, "9": tuple(lead for lead in LEADS if lead not in ("V2", "V4", "V6"))}
QUALITIES = ("pSQI", "basSQI", "bSQI")
EXAMPLES = (  # the same findings in both codings, as in the corpus
    ("'A1'", "'A1'"),
    ("'C21';'Left ventricular high voltage';'J125'", "'C13';'J106';'J(111+112+113)'"),
    ("'F60+Modifier310';'F60+Modifier342';'I106'", "'F55+Frequent';'F64';'I87'"),
    ("'First-degree AV block';'L145+Modifier362'", "'H74';'L121+Depression'"),
    ("'L148';'Suggests208'", "'L124';'Hyperkalemia'"),
)
OPEN_SETS = ("finding_with_modifiers", "chn_code", "icd10")
COLUMNS = (
    *("Filename", "ECG_ID", "Patient_ID", "Age", "Gender", "Acquisition_date", "Sampling_point", "Lead"),
    *("AHA_code", "CHN_code", "ICD-10 code", *QUALITIES),
)

logger = logging.getLogger(__name__)


class ZZUPECG(EcgCorpus):
    """The corpus ZZU pECG, published on figshare: ECGs of 5 to 120 s at 500 Hz of children up to 14 years in hospital.

    A record has twelve leads, or nine, without V2, V4 and V6, in 1,856 records. Of the records with nine leads, half
    are of children with a studied disease; of the others, a quarter are. Patients are assigned to ten folds, stratified
    as in study A by studied disease, sex and age: eight for training, one for validation, one for testing. The date of
    a record is left out.

    Label sets read off the ECG: "statement", the AHA statements that have a code of their own and no modifier, as used
    by study A; "finding", all findings, with or without modifier and code; "finding_with_modifiers", the findings with
    their modifiers; "chn_code", the same findings in the Chinese coding, as written.

    Label sets of the patient, whose diseases the ECG need not show: "icd10", all diagnoses at discharge; "disease" and
    "disease_type", the diseases that the authors studied. The values of "pSQI", "basSQI" and "bSQI" are the authors'
    indices of the quality of each lead. The names in "finding_with_modifiers", "chn_code" and "icd10" are known once
    the table is read.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name="default")]

    licence = "CC-BY-4.0"
    licence_url = "https://creativecommons.org/licenses/by/4.0/"
    access = "open"
    homepage = "https://doi.org/10.6084/m9.figshare.27078763"
    citation = (
        "Tan et al.: A pediatric ECG database with disease diagnosis covering 11643 children. Scientific Data (2025), "
        "doi:10.1038/s41597-025-05225-z"
    )
    description = "ECGs of 5 to 120 s of children up to 14 years in hospital, 2018-2024, with 12 or 9 leads."
    data_version = "1.0.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {
        "statement": tuple(STATEMENTS.values()),
        "finding": FINDINGS,
        "disease": tuple(category for _, category in DISEASES.values()),
        "disease_type": tuple(dict.fromkeys(kind for kind, _ in DISEASES.values())),
        **dict.fromkeys(QUALITIES, LEADS),
        **dict.fromkeys(OPEN_SETS, ()),
    }
    marker = "AttributesDictionary.csv"
    num_records: ClassVar[int | None] = NUM_RECORDS
    num_patients: ClassVar[int | None] = 11_643

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records of `AttributesDictionary.csv` and checks that the tables of codes are as expected.

        Raises:
            EcgAccessError: If the records are still in their archive.
            EcgFormatError: If a table cannot be read or one of its fields is invalid.
            EcgIntegrityError: If a table is not the official one.
        """
        check_codes(root.read("ECGCode.csv"))
        check_diseases(root.read("DiseaseCode.csv"))
        rows = list(parse_table(root.read(self.marker), self.marker, COLUMNS))
        if len(rows) > NUM_RECORDS:
            raise EcgIntegrityError(
                f"{self.marker} has {len(rows)} records, expected at most {NUM_RECORDS}; download it again"
            )
        folds = stratified_folds([strata(row) for row in rows], [row["Patient_ID"] for row in rows], NUM_FOLDS)
        splits = [split_of_fold(fold, NUM_FOLDS) for fold in folds.tolist()]
        entries = [parse_entry(row, split) for row, split in zip(rows, splits, strict=True)]
        self._learn_labels(entries)
        first = self.record_files(entries[0])[0] if entries else ""
        if first and not root.exists(first) and any(map(root.exists, ARCHIVES)):
            raise EcgAccessError(
                f"the records of {root} are still in {' and '.join(ARCHIVES)}; join the two with zip -s 0 "
                f"{ARCHIVES[0]} --out whole.zip, then unpack that with unzip"
            )
        return entries

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the paths of header and signal file; in `entry.path`, the numbers of leads and samples follow."""
        path = entry.path.partition(":")[0]
        return f"{path}.hea", f"{path}.dat"

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, which must have the numbers of leads and samples in the table.

        Raises:
            EcgLeadError: If the record has other leads.
        """
        _, num_leads, num_samples = entry.path.split(":")
        paths = self.record_files(entry)
        header, files = read_files(root, paths, entry.record_id)
        if set(header.leads) != set(LAYOUTS[num_leads]):
            raise EcgLeadError(f"{paths[0]}: expected {LAYOUTS[num_leads]}, got {header.leads}; download it again")
        layout = Layout(header.leads, SAMPLING_RATE, num_samples=int(num_samples))
        return decode(header, files, layout=layout)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, with 9 or 12 leads and a gain for each lead."""
        rows = [_example_row(number) for number in range(num_records)]
        write_table(folder / "ECGCode.csv", CODE_COLUMNS, example_codes())
        write_table(folder / "DiseaseCode.csv", DISEASE_COLUMNS, example_diseases())
        write_table(folder / cls.marker, COLUMNS, rows)
        for number, row in enumerate(rows):
            leads = LAYOUTS[str(row["Lead"])]
            samples = np.tile(example_samples(number), 2)[
                [LEADS.index(lead) for lead in leads], : row["Sampling_point"]
            ]
            write_record(folder / FOLDER / row["Filename"], samples, leads)

    def _learn_labels(self, entries: Sequence[Entry]) -> None:
        pairs = {label[:2] for entry in entries for label in entry.labels}
        unknown = sorted(name for kind, name in pairs if kind == "finding" and name not in FINDINGS)
        if unknown:
            logger.warning("%s has findings that ECGCode.csv does not list: %s", self.marker, unknown)
        found = {kind: tuple(sorted(name for other, name in pairs if other == kind)) for kind in OPEN_SETS}
        known = type(self).label_sets
        self.label_sets = known | found | {"finding": (*FINDINGS, *unknown)}  # type: ignore[misc]  # as in this table


def parse_entry(row: Mapping[str, str], split: str) -> Entry:
    """Converts a row of `AttributesDictionary.csv` to an entry of the given split.

    Raises:
        EcgFormatError: If a field is invalid.
        EcgLeadError: If a quality index names an unknown lead.
    """
    patient, name = row["Patient_ID"], row["ECG_ID"]
    wanted = {"Patient_ID": r"P[0-9]{5}", "ECG_ID": rf"{re.escape(patient)}_E[0-9]{{2,3}}", "Age": r"[0-9]{1,4}d"}
    wanted |= {"Sampling_point": r"[1-9][0-9]{0,5}", "Lead": "9|12", "Filename": re.escape(_place(patient, name))}
    odd = {key: row[key] for key, pattern in wanted.items() if not re.fullmatch(pattern, row[key])}
    sex = row["Gender"].strip().strip("'")
    if odd or sex not in SEXES:
        raise EcgFormatError(
            f"record {name!r} of AttributesDictionary.csv: expected fields such as P00/P00001/P00001_E01, 572d, "
            f"'Male', 5000 and 12, got {odd or sex}; download it again"
        )
    try:
        labels = parse_labels(*(row[key] for key in ("AHA_code", "CHN_code", "ICD-10 code")))
        quality = tuple((key, lead, value) for key in QUALITIES for lead, value in parse_quality(row[key]))
    except (EcgFormatError, EcgLeadError) as error:
        raise type(error)(f"record {name!r} of AttributesDictionary.csv: {error}") from None
    return Entry(
        record_id=name,
        split=split,
        patient_id=patient,
        path=f"{FOLDER}/{row['Filename']}:{row['Lead']}:{row['Sampling_point']}",
        age=float(np.float32(int(row["Age"][:-1]) / DAYS)),  # float32, as in a row
        sex=SEXES[sex],
        device="MedEx MECG-300",
        labels=(*labels, *quality),
    )


def write_record(path: Path, samples: NDArray[np.int16], leads: Sequence[str]) -> None:
    """Writes a record as the authors do: a header and a file of format 16, each lead with the gain that fills 16 bits.

    Args:
        path: Path of the record, without suffix.
        samples: Samples in uV, shape (L, T).
        leads: Names of the leads.

    Source:
        WFDB header(5) and signal(5), "Format 16".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{path.name} {len(leads)} {SAMPLING_RATE} {samples.shape[1]}"]
    stored = np.empty(samples.shape, "<i2")
    for place, (lead, row) in enumerate(zip(leads, samples / 1000, strict=True)):
        gain = 65_534 / float(np.ptp(row))
        baseline = round(-32_767 - gain * float(row.min()))
        stored[place] = np.rint(row * gain) + baseline
        first, checksum = stored[place, 0], int(stored[place].sum(dtype=np.int64)) % 65_536
        lines.append(f"{path.name}.dat 16 {gain}({baseline})/mV 16 0 {first} {checksum} 0 {lead.upper()}")
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n", encoding="ascii")
    path.with_suffix(".dat").write_bytes(stored.T.tobytes())


def strata(row: Mapping[str, str]) -> Sequence[str]:
    """Lists the labels by which folds are stratified: studied diseases, sex and age bin."""
    diseases = [name for kind, name, _ in parse_labels("", "", row["ICD-10 code"]) if kind == "disease"]
    days = int(row["Age"][:-1]) if re.fullmatch(r"[0-9]{1,4}d", row["Age"]) else 0
    return [*diseases, f"sex {row['Gender']}", f"age {sum(days >= bound for bound in AGES)}"]


def _place(patient: str, name: str) -> str:
    return f"{patient[:3]}/{patient}/{name}"


def _example_row(number: int) -> dict[str, Any]:
    patient = f"P{number // 3 * 37 + 1:05d}"  # three records per patient
    name = f"{patient}_E{number % 3 + 1:02d}"
    aha, chn = EXAMPLES[number % len(EXAMPLES)]
    num_leads = 9 if number % 4 == 1 else 12
    quality = ";".join(f"'{lead}':{'0.988' if lead in LAYOUTS[str(num_leads)] else 'Null'}" for lead in LEADS)
    return {
        "Filename": _place(patient, name),
        "ECG_ID": name,
        "Patient_ID": patient,
        "Age": f"{1 + 401 * (number // 3) % 5474}d",
        "Gender": ("'Male'", "'Female'")[number // 3 % 2],
        "Acquisition_date": "2022-09-03 03:31:50",
        "Sampling_point": (5000, 2500, 7500, 10_000)[number % 4],
        "Lead": num_leads,
        "AHA_code": aha,
        "CHN_code": chn,
        "ICD-10 code": ("'J18.9'", "'I34.0';'(FO) Q21.1';'Q21.0'", "Null", "'(F) I40.0'")[number // 3 % 4],
        **dict.fromkeys(QUALITIES, quality),
    }
