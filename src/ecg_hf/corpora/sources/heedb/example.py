"""Writers of tiny synthetic corpora in the layouts of HEEDB's releases, with the spellings of each table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from ecg_hf.corpora.examples import example_samples, write_table, write_wfdb
from ecg_hf.corpora.sources.heedb.tables import CURRENT, OLD, Source
from ecg_hf.signals.record import LEADS, MISSING

RATES = (250, 500)  # Hz
STORED = (*LEADS[:3], *LEADS[6:], "aVF", "aVL", "aVR")  # the order that readers of the files report
COLUMNS = {
    "mgh": (
        "BDSPPatientID FileName FileID PatientRace EthnicGroupDSC MaritalStatusDSC ReligionDSC LanguageDSC "
        "VeteranStatusDSC SexDSC PrimaryCauseOfDeathDSC PrimaryCauseOfDeathUNOS FirstContributoryCauseOfDeathDSC "
        "FirstContributoryCauseOfDeathUNOS SecondContributoryCauseOfDeathDSC SecondContributoryCauseOfDeathUNOS "
        "EducationLevelDSC GenderIdentityDSC SexAssignedAtBirthDSC DateOfDeath DateOfDeathMARegistryData "
        "LastKnownVisitDate ECGAcquisitionTime DateOfBirth AgeAtAcquisition AgeAtDeath AgeAtDeathMA AgeAtLastVisit"
    ).split(),
    "emory": (
        "BDSPPatientID FileName FileID PatientRace Sex ECGAcquisitionTime DateOfBirth LastKnownVisitDate DateOfDeath "
        "AgeAtAcquisition AgeAtLastVisit AgeAtDeath"
    ).split(),
}


def write_release(folder: Path, num_records: int, broken: str) -> None:
    """Writes a corpus in the layout of release 5, a quarter of it from Emory.

    Args:
        folder: Folder to write to.
        num_records: Number of records, besides a row without a patient and a row of a broken record.
        broken: Name of the broken record.
    """
    for source in CURRENT:
        emory = source.hospital == "emory"
        _write_hospital(folder, source, [number for number in range(num_records) if (number % 4 == 3) == emory], broken)


def write_old_release(folder: Path, num_records: int) -> None:
    """Writes a corpus in the layout of release 2: `num_records` records, the last without codes, and a duplicate."""
    rows, codes = [], []
    for number in [*range(num_records), num_records]:
        place, name = _place(number, emory=False)
        age = ("54.5", "", "-3", "95")[number // 2 % 4]
        row = {"FileName": f"/{place}{name}.hea", "BDSPPatientID": _patient(number), "SexDSC": "Male", "Age": age}
        rows.append(row | {"PatientRace": "White"})
        codes.append(f"{name}|22,{1680 + number},1699|")
        _write_record(folder / OLD.records / place / name, number, OLD.suffix)
    write_table(folder / OLD.metadata, [*OLD.columns, "PatientRace"], rows)
    lines = ["file_source|diagnostic_codes|note", *codes[: num_records - 1]]
    (folder / OLD.statements[0][0].path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    last = "".join(_place(num_records, emory=False))
    write_table(folder / OLD.duplicates, ["file_name", "of"], [{"file_name": f"/{last}", "of": "another"}])


def _write_hospital(folder: Path, source: Source, numbers: Sequence[int], broken: str) -> None:
    emory = source.hospital == "emory"
    file, patient, sex, age = source.columns
    rows, latest, first = [], [], []
    for number in numbers:
        place, name = _place(number, emory)
        _write_record(folder / source.records / place / name, number, source.suffix)
        days = ("16438", "", "-12", "34000.0")[number // 4 % 4]
        row = {"FileID": name, sex: ("Female", "Male", "Unknown")[number % 3], age: days}
        path = f"WFDB/{place}{name}" if emory else f"/{place}{name}"
        rows.append(row | {file: path, patient: f"{_patient(number)}{'.0' * emory}"})
        latest.append({"FileName": path if emory else f"./{place}{name}.hea\n", "codes": f"22, {1680 + number},1699"})
        codes = {"codes_software": f"19,{1000 + number % 3}", "codes_physician": "22" if number % 2 else ""}
        first.append({"FileName": path, **codes, "jaccard_index": 0.5})
    odd = {"FileID": "x", sex: "Male", age: "20000"}  # without a patient; at Emory, known as broken
    rows.append(
        odd | ({file: f"WFDB/2013/{broken}", patient: "179020000.0"} if emory else {file: "/S0001/1987/01/de_1"})
    )
    write_table(folder / source.metadata, COLUMNS[source.hospital], rows)
    tables = source.statements[0]
    write_table(folder / tables[0].path, tables[0].columns, reversed(latest))
    write_table(folder / tables[1].path, [*tables[1].columns, "jaccard_index"], first[1:])


def _place(number: int, emory: bool) -> tuple[str, str]:
    if emory:
        return f"{2010 + number % 3}/", f"MUSE_20191206_{105_123 + number}_71000"
    name = f"de_{_patient(number)}_{19_900_713_093_800 + number}_19900714101100"
    return f"S000{1 + number // 4 % 2}/{1987 + number % 2}/{1 + number % 12:02d}/", name


def _patient(number: int) -> int:
    return 111_188_448 + number // 6 * 405 + (number % 4 == 3) * 60_000_000


def _write_record(path: Path, number: int, suffix: str) -> None:
    samples = example_samples(number)[[LEADS.index(lead) for lead in STORED]]
    if number % 5 == 2:
        samples[1, 100:140] = MISSING
    rate = RATES[number % 2]
    if suffix == ".dat":
        write_wfdb(path, samples[:, :: 500 // rate], rate, STORED)
    else:
        write_matrix(path, samples[:, :: 500 // rate], rate)


def write_matrix(path: Path, samples: NDArray[np.int16], sampling_rate: int) -> None:
    """Writes a record as a header and a MATLAB 4 matrix.

    Args:
        path: Path of the record, without suffix.
        samples: Samples in uV, shape (12, T), leads in the order of `STORED`.
        sampling_rate: Sampling rate in Hz.

    Source:
        WFDB header(5) and signal(5).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{path.name} 12 {sampling_rate} {samples.shape[1]}"]
    for lead, row in zip(STORED, samples, strict=True):
        checksum = int(row.sum(dtype=np.int64)) % 65_536
        lines.append(f"{path.name}.mat 16+24 1000.0(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n", encoding="ascii")
    contents: dict[str, Any] = {"val": samples}
    savemat(path.with_suffix(".mat"), contents, format="4")
