"""A made-up hospital: three ECGs with the tables of MIMIC-IV and MIMIC-IV-ED around them."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def write_hospital(folder: Path) -> Path:
    """Writes two ECGs of patient 1, eight days apart, and one of patient 2, with the tables around them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record_list.csv").write_text(
        "subject_id,study_id,file_name,ecg_time,path\n"
        "1,11,11,2180-07-01 12:00:00,x\n1,12,12,2180-07-09 12:00:00,x\n2,21,21,2180-07-01 12:00:00,x\n"
    )
    omr = [
        (1, "2180-07-01", 1, "Weight (Lbs)", "150"),
        (1, "2180-07-08", 1, "Weight (Lbs)", "160"),
        (1, "2180-07-08", 1, "Blood Pressure", "130/80"),
        (1, "2180-08-05", 1, "BMI (kg/m2)", "24.5"),
        (1, "2180-07-01", 1, "Height (Inches)", "six"),
        (3, "2180-07-01", 1, "Weight (Lbs)", "999"),
    ]
    table(folder / "hosp/omr.csv.gz", "subject_id chartdate seq_num result_name result_value", omr)
    vital = [
        (1, 5, "2180-07-01 11:30:00", 98.6, 70, 16, 99, 120, 80),
        (1, 5, "2180-07-01 12:10:00", "", 75, "", "", "", ""),
        (1, 5, "2180-07-01 13:00:01", 99.9, 99, 99, 9, 99, 99),
    ]
    table(
        folder / "ed/vitalsign.csv.gz",
        "subject_id stay_id charttime temperature heartrate resprate o2sat sbp dbp",
        vital,
    )
    items = [
        (50912, "Creatinine", "Blood", "Chemistry"),
        (52546, "Creatinine", "Blood", "Blood Gas"),
        (51081, "Creatinine", "Urine", "Chemistry"),
        (50902, "Chloride", "Blood", "Chemistry"),
    ]
    table(folder / "hosp/d_labitems.csv.gz", "itemid label fluid category", items)
    labs = [
        (1, 50912, "2180-07-01 11:00:00", "2180-07-01 12:20:00", 1.1, "mg/dL"),
        (1, 50912, "2180-07-01 11:00:00", "2180-07-01 12:02:00", 97, "umol/L"),
        (2, 50912, "2180-07-01 11:00:00", "2180-07-01 12:50:00", 0.7, "mg/dL"),
        (1, 52546, "2180-07-01 12:00:00", "2180-07-01 12:00:00", 5.5, "mg/dL"),
        (1, 51081, "2180-07-01 12:00:00", "2180-07-01 12:00:00", 88, "mg/dL"),
        (1, 50902, "2180-07-01 12:00:00", "2180-07-01 12:00:00", 101, "mEq/L"),
        (2, 50912, "2180-07-01 12:00:00", "", 9.9, "mg/dL"),
    ]
    table(folder / "hosp/labevents.csv.gz", "subject_id itemid charttime storetime valuenum valueuom", labs)
    table(
        folder / "icu/d_items.csv.gz",
        "itemid label",
        [
            (1, "Temperature Celsius"),
            (2, "Daily Weight"),
            (3, "Creatinine (serum)"),
            (4, "Heart Rhythm"),
            (5, "Height (cm)"),
        ],
    )
    chart = [
        (2, "2180-07-01 12:30:00", 1, 37.0, "C"),
        (2, "2180-07-01 12:30:00", 2, 70.0, "kg"),
        (1, "2180-07-01 12:30:00", 2, 70.0, ""),
        (2, "2180-07-01 12:40:00", 3, 0.9, "mg/dL"),
        (1, "2180-07-09 12:59:59", 3, 1.9, "mg/dL"),
        (2, "2180-07-01 12:30:00", 4, 1, ""),
        (2, "2180-07-31 12:00:00", 5, 180, "cm"),
    ]
    table(folder / "icu/chartevents.csv.gz", "subject_id storetime itemid valuenum valueuom", chart)
    return folder


def table(path: Path, columns: str, rows: Iterable[Sequence[Any]]) -> None:
    """Writes a compressed table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns.split(), *rows])
