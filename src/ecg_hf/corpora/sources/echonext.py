"""The corpus EchoNext: 100,000 twelve-lead ECGs of 36,286 patients in New York, labelled by echocardiography."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.demographics import parse_age, parse_sex
from ecg_hf.corpora.examples import example_samples, write_table
from ecg_hf.corpora.file_cache import OpenFiles
from ecg_hf.corpora.index import Entry, parse_table
from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.npy import NpyFile
from ecg_hf.signals.record import LEADS, Record

TABLES = ("echonext_metadata_100k.csv", "EchoNext_metadata_100k.csv")  # both spellings of the name are in use
SPLITS = {"train": "train", "val": "validation", "test": "test"}
APART = "no_split"  # in the column "split": further ECGs of patients of val and test
SAMPLING_RATE = 250  # Hz
SHAPE = (1, 2500, 12)  # of one ECG in an array
GAIN = 2000.0  # steps per standard deviation (SD): int16 then holds 16 SD, rounded to within 0.00025 SD
FLAGS = (
    "lvef_lte_45_flag",
    "lvwt_gte_13_flag",
    "aortic_stenosis_moderate_or_greater_flag",
    "aortic_regurgitation_moderate_or_greater_flag",
    "mitral_regurgitation_moderate_or_greater_flag",
    "tricuspid_regurgitation_moderate_or_greater_flag",
    "pulmonary_regurgitation_moderate_or_greater_flag",
    "rv_systolic_dysfunction_moderate_or_greater_flag",
    "pericardial_effusion_moderate_large_flag",
    "pasp_gte_45_flag",
    "tr_max_gte_32_flag",
)
ANY = "shd_moderate_or_greater_flag"
COLUMNS = ("ecg_key", "patient_key", "age_at_ecg", "sex", "split", *FLAGS, ANY)
SEXES = {"0": "female", "1": "male", "0.0": "female", "1.0": "male"}
TABULAR = {"sex": 0, "age": 1}  # columns of the tabular features, which are scaled, and filled in where unknown
AGREEMENT = 0.9  # fraction of rows: with fewer in agreement, table and arrays are in different orders
NEAR = 5.0  # years; rows farther from the first line are left out of the second fit

logger = logging.getLogger(__name__)


class EchoNext(EcgCorpus):
    """The corpus EchoNext of PhysioNet: standardised 12-lead ECGs with the findings of an echocardiogram within a year.

    A record is an ECG of 10 s at 250 Hz, one row in the waveform array of its split. The splits are those of the
    authors. Only the position in a split links the rows of the metadata table to those of the arrays, so the index
    compares ages and sexes of both.

    The signals were filtered, clipped and standardised lead by lead: their values are standard deviations, not mV, and
    `unit` is "z-score". In 629 ECGs some leads are constant throughout. The 17,457 rows of "no_split" are left out and
    counted in the log: they are further ECGs of patients of the validation and test splits, so training on them would
    be a leak.

    Label sets: "finding", those of the eleven flags that are set, and "structural_heart_disease", the flag that is set
    if any of the eleven is.
    """

    BUILDER_CONFIGS: ClassVar[list[CorpusConfig]] = [CorpusConfig(name="default")]

    licence = "LicenseRef-PhysioNet-Restricted-Health-Data-1.5.0"
    licence_url = "https://physionet.org/content/echonext/view-license/1.1.0/"
    access = "restricted"
    homepage = "https://physionet.org/content/echonext/1.1.0/"
    citation = (
        "Elias, Finer: EchoNext, a dataset for detecting echocardiogram-confirmed structural heart disease from ECGs "
        "(version 1.1.0). PhysioNet 2025, RRID:SCR_007345; with Goldberger et al.: PhysioBank, PhysioToolkit, and "
        "PhysioNet. Circulation 101(23), e215 (2000)"
    )
    description = "Standardised 12-lead ECGs of 10 s with eleven findings of an echocardiogram within a year."
    data_version = "1.1.0"
    patient_level = True
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {"finding": FLAGS, "structural_heart_disease": (ANY,)}
    marker = TABLES[0]
    unit = "z-score"
    num_records: ClassVar[int | None] = 82_543  # 72,475, 4,626 and 5,442; with those of "no_split", 100,000
    num_patients: ClassVar[int | None] = 36_286

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._arrays = OpenFiles(NpyFile)
        super().__init__(*args, **kwargs)

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the ECGs of the three splits, each with its row in the array of its split.

        Raises:
            MissingFileError: If there is no metadata table.
            EcgFormatError: If the table or an array cannot be read, or a field is invalid.
            EcgIntegrityError: If an array does not have one row for each ECG of its split, or the ages and sexes of the
                tabular features belong to other rows.
        """
        name = next((table for table in TABLES if root.exists(table)), None)
        if name is None:
            raise MissingFileError(f"{root} holds neither of {TABLES}; complete the download")
        rows: dict[str, list[dict[str, str]]] = {split: [] for split in (*SPLITS, APART)}
        for row in parse_table(root.read(name), name, COLUMNS):
            if row["split"] not in rows:
                raise EcgFormatError(
                    f"ECG {row['ecg_key']!r} of {name}: expected a split of {list(rows)}, got {row['split']!r}; "
                    "download it again"
                )
            rows[row["split"]].append(row)
        entries = []
        for split in SPLITS:
            found = [parse_entry(row, place) for place, row in enumerate(rows[split])]
            self._check_arrays(root, split, found)
            entries += found
        if rows[APART]:
            logger.info("left out %d ECGs of %s in %s, which belong to no split", len(rows[APART]), root, APART)
        return entries

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the path of the array that holds a record; in `entry.path`, a colon and the row follow it."""
        return (entry.path.partition(":")[0],)

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record, whose "mV" are standard deviations."""
        path, _, place = entry.path.partition(":")
        signal = self._arrays.get(root, path).row(int(place))[0].T
        return Record.from_millivolts(entry.record_id, signal, LEADS, SAMPLING_RATE, GAIN)

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, with rows that belong to no split."""
        splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
        rows = [_example_row(number, splits[number % 10]) for number in range(num_records)]
        rows += [_example_row(number, APART) | {"ecg_key": f"e{900 + number}"} for number in (6, 7, 8)]
        write_table(folder / TABLES[0], ("", *COLUMNS), ({"": place} | row for place, row in enumerate(rows)))
        scale = np.array([[0.2]] * 6 + [[0.4]] * 6)
        for split in (*SPLITS, APART):
            mine = [row for row in rows if row["split"] == split]
            signals = [example_samples(int(row["ecg_key"][1:]))[:, ::2] / 1000 / scale for row in mine]
            arrays = np.stack([signal.T[None] for signal in signals]) if mine else np.zeros((0, *SHAPE))
            np.save(folder / f"EchoNext_{split}_waveforms.npy", np.clip(arrays, -12, 12))
            table = np.zeros((len(mine), 7))
            table[:, TABULAR["sex"]] = [float(row["sex"]) for row in mine]
            table[:, TABULAR["age"]] = [(float(row["age_at_ecg"]) - 62) / 17 for row in mine]
            np.save(folder / f"EchoNext_{split}_tabular_features.npy", table)

    def _open(self) -> CorpusRoot:
        try:
            return super()._open()
        except EcgAccessError:
            if self.config.data_dir is None or self.marker == TABLES[1]:
                raise
            self.marker = TABLES[1]  # type: ignore[misc]  # of this instance only
            return super()._open()

    def _check_arrays(self, root: CorpusRoot, split: str, entries: Sequence[Entry]) -> None:
        arrays, features = (f"EchoNext_{split}_{kind}.npy" for kind in ("waveforms", "tabular_features"))
        if root.exists(arrays):
            shape = self._arrays.get(root, arrays).shape
            if shape != (len(entries), *SHAPE):
                raise EcgIntegrityError(
                    f"{root}/{arrays}: expected {(len(entries), *SHAPE)}, one row for each ECG of the table, got "
                    f"{shape}; download both again"
                )
        if not root.exists(features):
            logger.warning("cannot compare the order of table and %s, since %s is missing", arrays, features)
        elif entries:
            check_order(read_features(root.read(features), features), entries, features)


def parse_entry(row: Mapping[str, str], place: int) -> Entry:
    """Converts a row of the metadata table to an entry, without the measured values, from which the flags follow.

    Args:
        row: Fields of the row, by column.
        place: Position of the row among those of its split, from 0.

    Raises:
        EcgFormatError: If a field is invalid.
    """
    name = f"ECG {row['ecg_key']!r}"
    flags = {flag: row[flag] for flag in (*FLAGS, ANY)}
    if odd := {flag: text for flag, text in flags.items() if text not in ("0", "1", "0.0", "1.0")}:
        raise EcgFormatError(f"{name}: expected flags of 0 or 1, got {odd}; download the table again")
    if not row["ecg_key"] or not row["patient_key"]:
        raise EcgFormatError(f"{name}: expected keys of ECG and patient, got {row['patient_key']!r}; download it again")
    age, age_over_89 = parse_age(row["age_at_ecg"], name)  # the table caps ages at 90
    sets = dict.fromkeys(FLAGS, "finding") | {ANY: "structural_heart_disease"}
    return Entry(
        record_id=row["ecg_key"],
        split=SPLITS[row["split"]],
        patient_id=row["patient_key"],
        path=f"EchoNext_{row['split']}_waveforms.npy:{place}",
        age=age,
        age_over_89=age_over_89,
        sex=SEXES.get(row["sex"]) or parse_sex(row["sex"], name),
        labels=tuple((sets[flag], flag, 1.0) for flag, text in flags.items() if float(text)),
    )


def read_features(data: bytes, name: str) -> NDArray[np.float64]:
    """Reads sex and age from the tabular features.

    Args:
        data: Content of the file in NumPy's format.
        name: Name of the file, for messages.

    Returns:
        Sex and age as stored, shape (N, 2).

    Raises:
        EcgFormatError: If the array is not a matrix with these two columns.
    """
    file = NpyFile(io.BytesIO(data), name)
    if len(file.shape) != 2 or file.shape[1] <= max(TABULAR.values()):
        raise EcgFormatError(f"{name}: expected features of (N, 7), got {file.shape}; download it again")
    rows: Iterator[NDArray[Any]] = (file.row(place)[list(TABULAR.values())] for place in range(file.shape[0]))
    table = np.array(list(rows), np.float64).reshape(-1, 2)
    file.close()
    return table


def check_order(features: NDArray[np.float64], entries: Sequence[Entry], name: str) -> None:
    """Checks by sex and age that the tabular features, whose scale is unknown, are in the order of the table.

    Args:
        features: Sex, one number for men and one for women, and age, in any unit, shape (N, 2).
        entries: Entries of the split, in the order of the table.
        name: Name of the features' file, for messages.

    Raises:
        EcgIntegrityError: If the numbers of rows differ, or sex or age differs in more than a tenth of the rows. Fewer
            differences are logged, since unknown values were filled in.
    """
    if len(features) != len(entries):
        raise EcgIntegrityError(f"{name} has {len(features)} rows, expected {len(entries)}; download it again")
    men = np.array([entry.sex == "male" for entry in entries])
    sex_known = np.array([entry.sex is not None for entry in entries])
    agree = []
    if men[sex_known].any() and not men[sex_known].all():
        same = (features[:, 0] > features[:, 0].mean()) == men
        agree.append(~sex_known | (same if same[sex_known].mean() > 0.5 else ~same))  # either number may mean male
    ages = np.array([np.nan if entry.age is None else entry.age for entry in entries])
    known = np.isfinite(ages)
    if len(set(ages[known])) > 2:
        years = _line(features[known, 1], ages[known])
        close = np.ones(len(entries), bool)
        close[known] = np.abs(years - ages[known]) < 1.0
        agree.append(close)
    for same in agree:
        if same.mean() < AGREEMENT:
            raise EcgIntegrityError(
                f"{name}: ages and sexes of {np.sum(~same)} of {len(entries)} rows are not those of the table's rows; "
                "rows are matched by position only, so download both again"
            )
    if num_different := int(np.sum(~np.all(agree, axis=0))) if agree else 0:
        logger.warning("%s: ages or sexes of %d of %d rows are not the table's", name, num_different, len(entries))


def _line(values: NDArray[np.float64], ages: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps values to ages by a line: first through the medians of the youngest and oldest thirds, then fitted."""
    order = np.argsort(ages, kind="stable")
    third = max(len(order) // 3, 1)
    (low, young), (high, old) = (
        (np.median(values[part]), np.median(ages[part])) for part in (order[:third], order[-third:])
    )
    slope = (old - young) / (high - low) if high != low else 0.0
    years = young + (values - low) * slope
    near = np.abs(years - ages) < NEAR  # wrong rows move the medians, so the line is fitted without them
    if len(set(values[near])) > 2:
        slope, start = np.polyfit(values[near], ages[near], 1)
        years = start + values * slope
    return np.asarray(years, np.float64)


def _example_row(number: int, split: str) -> dict[str, Any]:
    flags = {flag: int((number + place) % 7 == 0) for place, flag in enumerate(FLAGS)}
    about = {"ecg_key": f"e{number:03d}", "patient_key": 400 + number // 2, "age_at_ecg": 20 + 7 * number % 69}
    return about | {"sex": number % 2, "split": split} | flags | {ANY: max(flags.values())}
