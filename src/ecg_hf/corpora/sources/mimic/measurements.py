"""Writer of `measurements.csv`: biometrics, vital signs and lab values near each ECG, from the tables of MIMIC-IV."""

import gzip
import logging
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.sources.mimic.labels import BIOMETRICS, LAB_VALUES, MEASURED_COLUMNS, VITAL_SIGNS
from ecg_hf.corpora.sources.mimic.tables import meaningless, number, stream_rows, whole
from ecg_hf.errors import EcgAccessError, EcgFormatError

HOUR, DAY = 3600.0, 86_400.0  # s
NEAR = dict.fromkeys(BIOMETRICS, 30 * DAY) | dict.fromkeys((*VITAL_SIGNS, *LAB_VALUES), HOUR)
HEIGHT, WEIGHT, _ = BIOMETRICS
# By name in the charts of intensive care: name here, factor and offset that convert to the unit of the other tables.
CHARTED = {
    "Height": (HEIGHT, 1.0, 0.0),
    "Height (cm)": (HEIGHT, 0.393701, 0.0),
    "Daily Weight": (WEIGHT, 2.20462, 0.0),
    "Admission Weight (Kg)": (WEIGHT, 2.20462, 0.0),
    "Temperature Fahrenheit": ("temperature", 1.0, 0.0),
    "Temperature Celsius": ("temperature", 1.8, 32.0),
    "Heart Rate": ("heartrate", 1.0, 0.0),
    "Respiratory Rate": ("resprate", 1.0, 0.0),
    "O2 saturation pulseoxymetry": ("o2sat", 1.0, 0.0),
    "Albumin": ("Albumin", 1.0, 0.0),
    "Total Bilirubin": ("Bilirubin, Total", 1.0, 0.0),
    "Creatinine (serum)": ("Creatinine", 1.0, 0.0),
    "Hematocrit (serum)": ("Hematocrit", 1.0, 0.0),
    "Hemoglobin": ("Hemoglobin", 1.0, 0.0),
}
UNITS_NEEDED = (WEIGHT, "Albumin", "Bilirubin, Total", "Creatinine", "Hematocrit")  # unused if charted without one
TABLES = (
    *("hosp/omr", "hosp/d_labitems", "hosp/labevents", "icu/d_items", "icu/chartevents"),
    "ed/vitalsign",
)

logger = logging.getLogger(__name__)

Found = dict[tuple[int, str], tuple[float, float]]  # by study and name: distance in s, value


class Ecgs(NamedTuple):
    """The ECGs of a patient.

    Args:
        times: Times of the ECGs in s, sorted.
        studies: Numbers of the studies, in the same order.
    """

    times: list[float]
    studies: list[int]


def write_measurements(data_dir: Path, mimic_iv: Path, mimic_iv_ed: Path, out: Path) -> Counter[str]:
    """Writes `measurements.csv`: for each ECG, the nearest value of each kind, as looked up in study A.

    No value is left out as implausible here: the tasks leave out values beyond the quantiles of their train split.

    Args:
        data_dir: Folder of MIMIC-IV-ECG, with `record_list.csv`.
        mimic_iv: Folder of MIMIC-IV, with `hosp` and `icu`.
        mimic_iv_ed: Folder of MIMIC-IV-ED, with `ed`.
        out: Path of the file to write.

    Returns:
        Number of ECGs that have a value, by kind.

    Raises:
        EcgAccessError: If a table is missing.
        EcgFormatError: If a table has other columns, or one of its fields is invalid.

    Source:
        arXiv:2605.12241: within 30 days for biometrics and one hour for the other kinds; of the blood tests that share
        a name, the most frequent one, in its most frequent unit; including values charted in intensive care.
    """
    paths = {name: _find(mimic_iv_ed if name.startswith("ed/") else mimic_iv, name) for name in TABLES}
    with (data_dir / "record_list.csv").open("rb") as file:
        ecgs = list_ecgs(stream_rows(file, "record_list.csv", ("subject_id", "study_id", "ecg_time")))
    found: Found = {}
    for values in (_body(paths), _vital_signs(paths), _charts(paths)):
        keep_nearest(found, ecgs, values)
    kinds = {row["itemid"]: row["label"] for row in _rows(paths, "hosp/d_labitems", ("itemid", "label", "fluid"))}
    blood = {row["itemid"] for row in _rows(paths, "hosp/d_labitems", ("itemid", "fluid")) if row["fluid"] == "Blood"}
    wanted = {item: kind for item, kind in kinds.items() if kind in LAB_VALUES and item in blood}
    _merge(found, _labs(paths, ecgs, wanted))
    rows: dict[int, dict[str, float | int]] = defaultdict(dict)
    for (study, name), (_, value) in found.items():
        rows[study][name] = value
    write_table(out, MEASURED_COLUMNS, ({"study_id": study} | rows[study] for study in sorted(rows)))
    return Counter(name for _, name in found)


def list_ecgs(rows: Iterator[Mapping[str, str]]) -> dict[int, Ecgs]:
    """Lists the ECGs of each patient in order of time, by number of the patient."""
    taken: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for row in rows:
        taken[whole(row, "subject_id")].append((_seconds(row, "ecg_time"), whole(row, "study_id")))
    return {subject: Ecgs(*map(list, zip(*sorted(pairs), strict=True))) for subject, pairs in taken.items()}


def keep_nearest(found: Found, ecgs: Mapping[int, Ecgs], values: Iterator[tuple[int, float, str, float]]) -> None:
    """Keeps the value of each kind that is nearest to each ECG, the first one if two are equally near.

    Args:
        found: Nearest values so far, by study and kind; changed.
        ecgs: ECGs by number of the patient.
        values: Patient, time in s, kind and value of each candidate.
    """
    for subject, time, name, value in values:
        if subject not in ecgs:
            continue
        own = ecgs[subject]
        first, last = bisect_left(own.times, time - NEAR[name]), bisect_right(own.times, time + NEAR[name])
        for place in range(first, last):
            _keep(found, (own.studies[place], name), (abs(own.times[place] - time), value))


def _keep(found: Found, key: tuple[int, str], candidate: tuple[float, float]) -> None:
    if key not in found or candidate[0] < found[key][0]:
        found[key] = candidate


def _merge(found: Found, others: Found) -> None:
    for key, candidate in others.items():
        _keep(found, key, candidate)


def _body(paths: Mapping[str, Path]) -> Iterator[tuple[int, float, str, float]]:
    odd = Counter[str]()
    for row in _rows(paths, "hosp/omr", ("subject_id", "chartdate", "result_name", "result_value")):
        if row["result_name"] not in BIOMETRICS:
            continue
        try:
            value = number(row, "result_value")
        except EcgFormatError:
            odd[row["result_value"]] += 1  # typed by hand
            continue
        if value is not None:
            yield whole(row, "subject_id"), _seconds(row, "chartdate"), row["result_name"], value
    if odd:
        logger.warning("left out %d biometrics that are no numbers: %s", odd.total(), odd.most_common(20))


def _vital_signs(paths: Mapping[str, Path]) -> Iterator[tuple[int, float, str, float]]:
    for row in _rows(paths, "ed/vitalsign", ("subject_id", "charttime", *VITAL_SIGNS)):
        for name in VITAL_SIGNS:
            if (value := number(row, name)) is not None:
                yield whole(row, "subject_id"), _seconds(row, "charttime"), name, value


def _charts(paths: Mapping[str, Path]) -> Iterator[tuple[int, float, str, float]]:
    items = {row["itemid"]: row["label"] for row in _rows(paths, "icu/d_items", ("itemid", "label"))}
    known = {item: CHARTED[kind] for item, kind in items.items() if kind in CHARTED}
    for row in _rows(paths, "icu/chartevents", ("subject_id", "storetime", "itemid", "valuenum", "valueuom")):
        if row["itemid"] not in known or not row["storetime"] or (value := number(row, "valuenum")) is None:
            continue
        name, factor, offset = known[row["itemid"]]
        if row["valueuom"].strip() or name not in UNITS_NEEDED:
            yield whole(row, "subject_id"), _seconds(row, "storetime"), name, factor * value + offset


def _labs(paths: Mapping[str, Path], ecgs: Mapping[int, Ecgs], wanted: Mapping[str, str]) -> Found:
    """Looks up each test and unit separately, as the most frequent one is known only at the end of the table."""
    apart: dict[tuple[str, str], Found] = defaultdict(dict)
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for row in _rows(paths, "hosp/labevents", ("subject_id", "itemid", "storetime", "valuenum", "valueuom")):
        if row["itemid"] not in wanted or not row["storetime"] or (value := number(row, "valuenum")) is None:
            continue
        name, key = wanted[row["itemid"]], (row["itemid"], row["valueuom"].strip())
        counts[name][key] += 1
        event = whole(row, "subject_id"), _seconds(row, "storetime"), name, value
        keep_nearest(apart[key], ecgs, iter([event]))
    found: Found = {}
    for name, kinds in counts.items():
        items = Counter[str]()
        for (item, _), count in kinds.items():
            items[item] += count
        item = items.most_common(1)[0][0]
        chosen = max((key for key in kinds if key[0] == item), key=lambda key: kinds[key])
        logger.info("%s: item %s in %s, %d of %d values", name, *chosen, kinds[chosen], kinds.total())
        found |= apart[chosen]
    return found


def _find(folder: Path, name: str) -> Path:
    paths = [folder / f"{name}.csv.gz", folder / f"{name}.csv"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise EcgAccessError(
            f"{folder} holds no {name}.csv.gz; download MIMIC-IV (physionet.org/content/mimiciv) and MIMIC-IV-ED "
            "(physionet.org/content/mimic-iv-ed), which need PhysioNet's training and agreement"
        )
    return path


def _rows(paths: Mapping[str, Path], name: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    path = paths[name]
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        yield from stream_rows(file, str(path), columns)  # type: ignore[arg-type]  # gzip's file is no BinaryIO


def _seconds(row: Mapping[str, str], column: str) -> float:
    try:
        return datetime.fromisoformat(row[column]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise EcgFormatError(str(meaningless(row, column))) from None
