"""Writer of a tiny synthetic MIMIC-IV-ECG with all of its tables, in the official layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_hf.corpora.examples import example_samples, write_table
from ecg_hf.corpora.sources.mimic.labels import CODED, EVENT_COLUMNS, EVENTS, MEASURED_COLUMNS, REPORTS
from ecg_hf.corpora.sources.mimic.tables import FOLDER
from ecg_hf.signals.record import LEADS

STORED_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")  # aVF before aVL
RECORD_COLUMNS = ("subject_id", "study_id", "file_name", "ecg_time", "path")
MACHINE_TABLE = (
    *("subject_id", "study_id", "cart_id", "ecg_time", *REPORTS, "bandwidth", "filtering", "rr_interval", "p_onset"),
    *("p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis"),
)
DIAGNOSIS_TABLE = (
    *("file_name", "study_id", "subject_id", "ecg_time", "ed_stay_id", "ed_hadm_id", "hosp_hadm_id", *CODED),
    *("all_diag_hosp", "all_diag_all", "gender", "age", "anchor_year", "anchor_age", "dod", "ecg_no_within_stay"),
    *("ecg_taken_in_ed", "ecg_taken_in_hosp", "ecg_taken_in_ed_or_hosp", "fold", "strat_fold"),
)


def write_mimic(folder: Path, num_records: int) -> None:
    """Writes the corpus: its records and all tables of labels.

    Each patient has two records. Every fourth record was not taken in the emergency department, and every fourth has a
    gap in two leads.

    Args:
        folder: Folder to write to.
        num_records: Number of records.
    """
    rows = [example_row(number) for number in range(num_records)]
    _write(folder / "record_list.csv", RECORD_COLUMNS, rows)
    _write(folder / "machine_measurements.csv", MACHINE_TABLE, rows)
    _write(folder / FOLDER / "records_w_diag_icd10.csv", DIAGNOSIS_TABLE, rows)
    _write(folder / FOLDER / "mds_ed.csv", EVENT_COLUMNS, [row for row in rows if row["ecg_taken_in_ed"]])
    _write(folder / FOLDER / "measurements.csv", MEASURED_COLUMNS, rows)
    for number, row in enumerate(rows):
        place = (folder / row["path"]).parent
        place.mkdir(parents=True)
        samples = np.rint(example_samples(number) / 5).astype(np.int16)  # 200 ADC units per mV
        if number % 4 == 1:
            samples[[3, 9], 700:900] = -32768
        lines = [f"{row['file_name']} 12 500 5000 12:04:00 22/09/2182"]
        stored = samples[[LEADS.index(lead) for lead in STORED_LEADS]]
        for lead, values in zip(STORED_LEADS, stored, strict=True):
            checksum = int(values.sum(dtype=np.int64)) % 65_536
            lines.append(f"{row['file_name']}.dat 16 200.0(0)/mV 16 0 {values[0]} {checksum} 0 {lead}")
        lines.append(f"# <subject_id>: {row['subject_id']}")
        (place / f"{row['file_name']}.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
        (place / f"{row['file_name']}.dat").write_bytes(stored.T.astype("<i2").tobytes())


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    write_table(path, columns, ({column: row[column] for column in columns if column in row} for row in rows))


def example_row(number: int) -> dict[str, Any]:
    """Builds the fields of a record in all tables together, by column."""
    patient, study = 10_000_032 + 7001 * (number // 2), 40_000_017 + 1009 * number
    in_ed = number % 4 != 3
    codes = ([], ["I2510", "W19XXXA"], ["I10", "E785", "Z7901"])[number % 3]
    events = {
        f"deterioration_{name}": (0.0, 1.0, -999.0, "")[(number + place) % 4] for place, name in enumerate(EVENTS)
    }
    return {
        "subject_id": patient,
        "study_id": study,
        "file_name": study,
        "ecg_time": f"2180-07-{1 + number % 28:02d} 08:44:00",
        "path": f"files/p{str(patient)[:4]}/p{patient}/s{study}/{study}",
        "ed_diag_ed": codes[:1] if in_ed else [],
        "ed_diag_hosp": codes[1:] if in_ed else [],
        "hosp_diag_hosp": codes if not in_ed else [],
        "all_diag_hosp": codes,
        "all_diag_all": codes,
        "gender": ("F", "M", "missing")[number // 2 % 3],
        "age": (52.0, 93.0, "")[number // 2 % 3],
        "anchor_age": (50.0, 91.0, "")[number // 2 % 3],
        "ecg_no_within_stay": number % 2 if codes else -1,
        "ecg_taken_in_ed": in_ed,
        "ecg_taken_in_hosp": not in_ed,
        "strat_fold": (3, 18, 0, 19, 17)[number // 2 % 5],
        "general_study_id": study,
        "general_subject_id": patient,
        "general_strat_fold": (3, 18, 0, 19, 17)[number // 2 % 5],
        **{name: round(10 + place + 0.5 * number, 1) for place, name in enumerate(MEASURED_COLUMNS[1:]) if number % 3},
        **events,
        **_machine_row(number),
    }


def _machine_row(number: int) -> dict[str, Any]:
    return {
        "cart_id": 6_848_296,
        "report_0": "Sinus rhythm",
        "report_2": "Borderline, ECG" if number % 2 else "",
        "rr_interval": (800, 65535)[number % 5 == 4],
        "p_onset": 29999,
        "p_end": 29999,
        "qrs_onset": 180,
        "qrs_end": 270 + number % 20,
        "t_end": (560, 29999)[number % 7 == 6],
        "p_axis": (30 + number, 32767)[number % 3 == 2],
        "qrs_axis": -30,
        "t_axis": (45, -32768)[number % 4 == 3],
    }
