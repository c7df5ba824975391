"""A corpus of a user's own records in HDF5, as one file per record or rows of larger files, with a table of labels."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from ecg_hf.corpora.examples import example_samples
from ecg_hf.corpora.file_cache import OpenFiles
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.own.label_table import Row
from ecg_hf.corpora.sources.own.own_records import (
    BETWEEN,
    NOTE,
    MeasuredConfig,
    OwnRecords,
    check_amplitude,
    check_measured,
)
from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.formats.hdf5 import Form, Hdf5File, decode
from ecg_hf.signals.record import LEADS, Record
from ecg_hf.signals.units import gain_per_millivolt

AXES = (("lead", "sample"), ("sample", "lead"), ("record", "lead", "sample"), ("record", "sample", "lead"))


@dataclass
class Hdf5Config(MeasuredConfig):
    """Configuration of a corpus of HDF5 files.

    Args:
        dataset: Path of the array in each file, such as "ecg" or "exam/tracings".
        axes: Names of the array's axes, in order: "lead" and "sample", after "record" in a file of many records.
        gain: Steps of the stored numbers per `unit`; None if the numbers are in that unit.
        file: Path of the file of many records, unless the table states a file for each record.
        id_dataset: Path of an array of whole numbers in a file of many records, the `record_id` of each row; without
            it, the table needs a column `row`, counted from 0.
    """

    dataset: str | None = None
    axes: Any = None
    gain: Any = None
    file: str | None = None
    id_dataset: str | None = None


class Hdf5(OwnRecords):
    """Your own records as arrays, in one HDF5 file per record or as rows of one or a few files.

    A folder such as

        labels.csv          record_id,patient_id,age,sex,AFIB,LBBB
                            1017,p001,61,female,1,0
        ecgs.h5             "tracings" (N, T, 12) in mV; "exam_id" (N,), which holds 1017 somewhere
        ecg_hf.yaml         dataset: tracings
                            axes: [record, sample, lead]
                            file: ecgs.h5
                            id_dataset: exam_id
                            unit: mV
                            sampling_rate: 400
                            leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]

    is loaded with

        rows = load_corpus("hdf5", data_dir="my_ecgs", split="train")
        signal = row_to_signal(rows[0])  # mV, leads in standard order

    The arguments `dataset`, `axes`, `unit`, `sampling_rate` and `leads` are required, in `ecg_hf.yaml` or in the call,
    which takes precedence: an array states none of them, and a wrong guess would go unnoticed. NaN marks a missing
    sample.
    """

    BUILDER_CONFIG_CLASS = Hdf5Config
    BUILDER_CONFIGS: ClassVar[list[Hdf5Config]] = [Hdf5Config(name="default")]

    description = "Own ECGs, as HDF5 arrays with a table of labels."
    suffix = ".h5"
    required = ("dataset", "axes", "unit", "sampling_rate", "leads")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._files = OpenFiles(IndexedFile)
        super().__init__(*args, **kwargs)

    def check_known(self, known: Any) -> None:
        """Checks unit, sampling rate, leads and axes."""
        check_measured(known)
        if not isinstance(known.axes, (list, tuple)) or tuple(known.axes) not in AXES:
            raise EcgFormatError(f"expected axes of {[list(axes) for axes in AXES]}, got {known.axes!r}; write one")
        if isinstance(known.gain, bool) or not isinstance(known.gain, (int, float, type(None))):
            raise EcgFormatError(f"expected a gain in steps per {known.unit}, got {known.gain!r}; write a number")
        gain_per_millivolt(gain_of(known), known.unit)

    def locate(self, root: CorpusRoot, row: Row) -> str:
        """Returns the file of a record and, in a file of many records, its row, as `Entry.path` holds them."""
        known = self.known
        file, place = row.get("file") or known.file, row.get("row")
        name = f"record {row['record_id']!r} of {known.table}"
        if known.axes[0] != "record":
            return file or row["record_id"] + self.suffix
        if not file or (not place and not known.id_dataset):
            raise EcgFormatError(
                f"{name}: expected a file of many records and a row in it, got {file!r} and {place!r}; add columns "
                f"file and row, or write file and id_dataset into {NOTE}"
            )
        if not place and root.exists(file):
            place = self._files.get(root, file).row(known.id_dataset, row["record_id"])
        if place and not re.fullmatch("[0-9]{1,9}", place):
            raise EcgFormatError(f"{name}: expected a row from 0 on, got {place!r}; correct it")
        return f"{file}{BETWEEN}{place or row['record_id']}"

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record."""
        known = self.known
        path, _, place = entry.path.partition(BETWEEN)
        form = Form(
            dataset=known.dataset,
            axes=tuple(known.axes),
            leads=tuple(known.leads),
            sampling_rate=float(known.sampling_rate),
            unit=known.unit,
            gain=gain_of(known),
        )
        file, row = self._files.get(root, path).file, int(place) if place else None
        return check_amplitude(decode(file, entry.record_id, form, row=row))

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes tiny synthetic records in one file, in reverse order, with a table of labels and `ecg_hf.yaml`."""
        import h5py  # type: ignore[import-untyped, unused-ignore]

        note = [
            "dataset: ecg/signals",
            "axes: [record, sample, lead]",
            "file: ecgs.h5",
            "unit: uV",
            "sampling_rate: 500",
            f"leads: [{', '.join(reversed(LEADS))}]",
        ]
        cls.write_labels(folder, num_records, "\n".join(note))
        table = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
        rows = [f"{line},{num_records - number}" for number, line in enumerate(table[1:], 1)]
        (folder / "labels.csv").write_text("\n".join([f"{table[0]},row", *rows]) + "\n", encoding="utf-8")
        with h5py.File(folder / "ecgs.h5", "w") as file:
            signals = np.stack([example_samples(number)[::-1].T for number in reversed(range(num_records))])
            file.create_dataset("ecg/signals", data=signals.astype(np.float32), chunks=(1, 5000, 12))


def gain_of(known: Hdf5Config) -> str:
    """Returns the steps per unit as a decimal number."""
    return "1" if known.gain is None else str(known.gain)


class IndexedFile:
    """An HDF5 file of many records, whose rows are found by the id of a record.

    Args:
        file: Open file.
        name: Name of the file, for messages.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = Hdf5File(file, name)
        self._rows: dict[str, dict[str, int]] = {}

    def row(self, dataset: str, record_id: str) -> str:
        """Returns the row of a record, found in an array of ids.

        Args:
            dataset: Path of the array of ids.
            record_id: Name of the record.

        Raises:
            EcgFormatError: If the array does not hold whole numbers, holds one twice, or lacks the record.
        """
        if dataset not in self._rows:
            ids = self.file.read(dataset)
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise EcgFormatError(
                    f"{self.file.name}: expected whole numbers in {dataset}, got {ids.dtype} of {ids.shape}; "
                    "add a column row to the table instead"
                )
            rows = {str(number): place for place, number in enumerate(ids.tolist())}
            if len(rows) < len(ids):
                raise EcgFormatError(f"{self.file.name}: {dataset} holds a number twice; add a column row to the table")
            self._rows[dataset] = rows
        if record_id not in self._rows[dataset]:
            raise EcgFormatError(
                f"{self.file.name}: {dataset} does not hold {record_id!r}, the record_id in the table; correct one"
            )
        return str(self._rows[dataset][record_id])

    def close(self) -> None:
        """Closes the file."""
        self.file.close()
