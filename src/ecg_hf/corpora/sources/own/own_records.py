"""The base class of corpora of a user's own records: a table of labels, and a note with facts about the files."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.roots.open import open_root
from ecg_hf.corpora.sources.own.label_table import (
    Row,
    flag_columns,
    label_columns,
    parse_entry,
    parse_labels,
    read_table,
)
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError, EcgUnitsError
from ecg_hf.signals.record import Record, lead_names
from ecg_hf.signals.units import gain_per_millivolt

NOTE = "ecg_hf.yaml"
MAX_NOTE = 1 << 16  # bytes
NUM_FOLDS = 10

AMPLITUDES = (0.005, 50.0)  # mV
BETWEEN = "|"  # separator of the parts of `Entry.path`

logger = logging.getLogger(__name__)


@dataclass
class OwnConfig(CorpusConfig):
    """Configuration of a corpus of a user's own records; a field that is None is looked up in `ecg_hf.yaml`.

    Args:
        table: Name of the table of labels in the folder of the corpus.
        label_columns: Names of the columns that are labels; all columns without a reserved meaning if None.
    """

    table: str = "labels.csv"
    label_columns: list[str] | None = None


@dataclass
class MeasuredConfig(OwnConfig):
    """Configuration of a corpus whose files do not state unit, sampling rate and leads.

    Args:
        unit: Unit of the samples: "mV", "uV", "nV" or "V".
        sampling_rate: Sampling rate in Hz.
        leads: Names of the leads, in stored order.
    """

    unit: str | None = None
    sampling_rate: float | None = None
    leads: Any = None


class OwnRecords(EcgCorpus):
    """Base class of corpora of a user's own records, which a table lists, one record per row.

    The table has these columns, of which only the first is required: `record_id`, the name; `patient_id`; `split`,
    "train", "validation" or "test"; `age` in years; `sex`, "female", "male" or empty; `device`; `report`; `labels`,
    names separated by ";"; `file`, the path, if it does not follow from the name; `row`, the row in a file of many
    records. Every other column is the label of its name and holds numbers, unless `label_columns` lists the labels.

    Without a column `split`, records are assigned to ten stratified folds, eight for train, one for validation, one for
    test, and all records of a patient to the same fold. Without a column `patient_id`, a patient's records may be in
    several splits, which is logged, and `patient_level` is false.

    The label sets are known once the table is read: "label" holds the names in `labels` and those of columns with a 1,
    if all fields of the column are 0, 1 or empty; "value" holds every number of the label columns, 0 included, for
    tasks in which an empty field means unknown or targets are numbers.
    """

    BUILDER_CONFIG_CLASS = OwnConfig

    licence = "LicenseRef-own-records"
    licence_url = ""
    access = "restricted"
    homepage = ""
    citation = ""
    data_version = "1.0.0"
    patient_level = False
    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {"label": (), "value": ()}
    suffix: ClassVar[str]
    required: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._known: Any = None
        super().__init__(*args, **kwargs)

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records in the order of the table.

        Raises:
            EcgFormatError: If the note or the table cannot be read or is incomplete, or a field has an invalid value.
            EcgIntegrityError: If two records have the same file, or the note changed while the corpus was in use.
        """
        known = self._read_note(root)
        if self._known is not None and known != self._known:
            raise EcgIntegrityError(f"{root}/{NOTE} changed while the corpus was in use; load the corpus again")
        self._known = known
        columns, rows = read_table(root.read(known.table), known.table)
        wanted = label_columns(columns, known.label_columns, known.table)
        flags = flag_columns(rows, wanted)
        logger.info("labels of %s: columns %s, of which %s hold only 0 and 1", root, wanted, flags)
        labels = [parse_labels(row, wanted, flags, f"record {row['record_id']!r} of {known.table}") for row in rows]
        names = [[name for kind, name, _ in found if kind == "label"] for found in labels]
        self.patient_level = "patient_id" in columns  # type: ignore[misc]  # depends on the table
        listed = tuple(sorted({*flags, *(name for found in names for name in found)}))
        self.label_sets = {"label": listed, "value": tuple(wanted)}  # type: ignore[misc]
        splits = self._splits(rows, names)
        paths = [self.locate(root, row) for row in rows]
        self._check_files(root, paths)
        parts = zip(rows, splits, paths, labels, strict=True)
        return [parse_entry(row, split, path, found, known.table) for row, split, path, found in parts]

    @property
    def known(self) -> Any:
        """The config, with the fields that are None filled in from the note."""
        if self._known is None:
            self._entries()
        return self._known

    @property
    def options(self) -> dict[str, Any]:
        """Fields of the config, filled in from the note."""
        return super().options | {name: getattr(self.known, name) for name in super().options}

    def locate(self, root: CorpusRoot, row: Row) -> str:
        """Returns the place of a row's record, as `Entry.path` holds it."""
        return row.get("file") or row["record_id"] + self.suffix

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Returns the path of a record's file, relative to the root."""
        return (entry.path.partition(BETWEEN)[0],)

    def check_known(self, known: Any) -> None:
        """Checks the config after it is filled in from the note; a subclass overrides this to check its own fields."""

    @classmethod
    def write_labels(cls, folder: Path, num_records: int, note: str = "") -> None:
        """Writes the table of a tiny example, with labels of both kinds, and its note."""
        columns = ("record_id", "patient_id", "age", "sex", "labels", "AF", "heart_rate")
        rows = [
            {
                "record_id": f"r{number:04d}",
                "patient_id": f"p{number // 2:04d}",
                "age": ("", 56, 93)[number % 3],
                "sex": ("female", "M", "")[number % 3],
                "labels": ("", "LBBB", "LBBB; 1AVB")[number % 3],
                "AF": (0, 1, "")[number % 3],
                "heart_rate": ("", 61.5, 0)[number % 3],
            }
            for number in range(num_records)
        ]
        write_table(folder / "labels.csv", columns, rows)
        if note:
            (folder / NOTE).write_text(note, encoding="utf-8")

    def _open(self) -> CorpusRoot:
        if self.config.data_dir is None:
            raise EcgAccessError(
                f"expected the place of your own records, got none; pass data_dir=, the folder that holds "
                f"{self.config.table} and the records"
            )
        return open_root(self.config.data_dir, self.config.table)

    def _read_note(self, root: CorpusRoot) -> Any:
        """Returns the config, with the fields that are None filled in from the note, after checking it."""
        config: Any = self.config
        allowed = {field.name for field in fields(config) if field.default is None}
        allowed -= {field.name for field in fields(CorpusConfig)}
        note = parse_note(root.read(NOTE), allowed) if root.exists(NOTE) else {}
        known = replace(config, **{name: value for name, value in note.items() if getattr(config, name) is None})
        if lacking := [name for name in self.required if getattr(known, name) is None]:
            raise EcgFormatError(
                f"{root} does not state {', '.join(lacking)} of its records, which is never guessed; write a line "
                f"'{lacking[0]}: ...' into {NOTE} beside {known.table}, or pass {lacking[0]}="
            )
        self.check_known(known)
        return known

    def _splits(self, rows: Sequence[Row], names: Sequence[Sequence[str]]) -> list[str]:
        if rows and "patient_id" not in rows[0]:
            logger.warning("the table has no patient_id: records of one patient may be in both train and test")
        if not rows or "split" in rows[0]:
            return [row["split"] for row in rows]
        groups = [row.get("patient_id") or row["record_id"] for row in rows]
        return [split_of_fold(fold, NUM_FOLDS) for fold in stratified_folds(names, groups, NUM_FOLDS).tolist()]

    def _check_files(self, root: CorpusRoot, paths: Sequence[str]) -> None:
        if twice := [path for path, count in Counter(paths).items() if count > 1]:
            raise EcgIntegrityError(f"{twice[:5]} are each the file of several records; correct the table of {root}")
        if not root.stamps_are_cheap:
            return
        first = {path.partition(BETWEEN)[0] for path in paths}
        there = {path.rpartition("/")[0] for path in first if root.exists(path)}
        beside = {f"{folder}/{name}".lstrip("/") for folder in there for name in root.list(folder)}
        if more := sorted(path for path in beside - first - {self._known.table} if path.endswith(self.suffix)):
            logger.warning("left out %d files that the table does not list, such as %s", len(more), more[:5])

    def _survey(self, entries: Sequence[Entry]) -> None:
        super()._survey(entries)
        self._stamps += repr(self._known)  # rows depend on the note, which is not a file of a record


def parse_note(data: bytes, allowed: set[str]) -> dict[str, Any]:
    """Reads the note `ecg_hf.yaml`.

    Args:
        data: Content of the note: a mapping in YAML or JSON.
        allowed: Names of the fields that the note may state.

    Returns:
        The values of the fields by name.

    Raises:
        EcgFormatError: If the data are not a mapping, or state a field that is not in `allowed`.
    """
    try:
        note = yaml.safe_load(data[:MAX_NOTE].decode("utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise EcgFormatError(f"{NOTE} cannot be read ({str(error)[:200]}); write lines such as 'unit: mV'") from None
    if len(data) > MAX_NOTE or not isinstance(note, dict) or not note.keys() <= allowed:
        found = sorted(map(str, note)) if isinstance(note, dict) else type(note).__name__
        raise EcgFormatError(f"{NOTE}: expected lines of {sorted(allowed)}, got {found}; correct or remove them")
    return note


def check_measured(known: MeasuredConfig) -> None:
    """Checks unit, sampling rate and leads.

    Raises:
        EcgFormatError: If the sampling rate is not a number or the leads are not a list of names.
        EcgUnitsError: If the unit is not a voltage.
        EcgLeadError: If a lead is unknown or repeated.
    """
    rate, leads = known.sampling_rate, known.leads
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1e6:
        raise EcgFormatError(f"expected a sampling_rate in Hz, got {rate!r}; write a number such as 500")
    if not isinstance(leads, (list, tuple)) or not leads or not all(isinstance(lead, str) for lead in leads):
        raise EcgFormatError(f"expected leads as a list of names, got {leads!r}; write a list such as [I, II, V1]")
    lead_names(leads)
    gain_per_millivolt("1", str(known.unit))


def check_amplitude(record: Record) -> Record:
    """Returns a record unchanged after checking that its amplitude is possible for an ECG in mV.

    A wrong unit makes the amplitude a thousand times too large or too small, which no score of a model would show. The
    amplitude is measured around the median of each lead, because electrodes have offsets.

    Raises:
        EcgUnitsError: If the amplitude is not between 0.005 and 50 mV.
    """
    signal = record.signal
    signal = signal[np.isfinite(signal).any(axis=1)]
    around = np.abs(signal - np.nanmedian(signal, axis=1, keepdims=True))
    size = float(np.nanquantile(around, 0.99)) if signal.size else AMPLITUDES[0]
    if not AMPLITUDES[0] <= size <= AMPLITUDES[1]:
        raise EcgUnitsError(
            f"expected an ECG of {AMPLITUDES[0]} to {AMPLITUDES[1]} mV, got {size:.3g} mV in 99 % of samples; "
            "correct the unit or the gain that is stated, or remove the record from the table"
        )
    return record
