"""The records that benchmarks/objectives.py learns from: made-up ones, or all real ones of a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from ecg_hf import EcgFeatureExtractor, load_corpus, row_to_signal
from ecg_hf.registry import TASKS, load
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD
from ecg_hf.signals.formats import wfdb
from ecg_hf.signals.record import LEADS

CONTRACT = EcgFeatureExtractor(
    sampling_rate=100,
    normalization="corpus",
    mean=PTBXL_MEAN,
    std=PTBXL_STD,
    missing_leads="zero",
    missing_samples="interpolate",
)
# What of the real folder repeats another part of it: PTB-XL and Chapman come under two and three names.
REPEATED = ("ptb-xl", "chapman_shaoxing")


@dataclass
class Records:
    """Signals at 100 Hz, shape (12, T) each, of about mean 0 and deviation 1.

    Args:
        unlabelled: To pretrain on.
        labelled: To probe on.
        labels: Labels of the labelled records, shape (records, C).
        patients: Patients of the labelled records.
        train: Which of them a probe is fitted on.
        test: Which of them it is tested on.
    """

    unlabelled: list[np.ndarray]
    labelled: list[np.ndarray]
    labels: np.ndarray
    patients: list[str]
    train: list[int]
    test: list[int]


@lru_cache(maxsize=1)
def load_records(data: str, root: Path | None, num_records: int) -> Records:
    """Reads the records of `data`, "synthetic" (so many) or "real" (all under `root`)."""
    if data == "synthetic":
        splits = {
            split: load_corpus("synthetic", split=split, num_records=num_records, sampling_rate=100)
            for split in ("train", "test")
        }
        task, others = load(TASKS, "synthetic"), []
    else:
        assert root is not None, "real records need --root"
        splits = {
            split: load_corpus("ptbxl", "100hz", data_dir=str(root / "ptb-xl"), split=split)
            for split in ("train", "validation", "test")
        }
        # Of 430 records only a seventh is in PTB-XL's last fold; with the last but one the intervals say something.
        task, others = load(TASKS, "ptbxl_superdiagnostic"), list(_other_corpora(root))
    rows = [(split != "train", row) for split, part in splits.items() for row in part]
    signals = [_contract(row_to_signal(row), row["sampling_rate"], row["leads"]) for _, row in rows]
    labels = np.array([[_has(row, task.label_set, name) for name in task.labels] for _, row in rows], np.float32)
    train = [index for index, (held_out, _) in enumerate(rows) if not held_out]
    test = [index for index, (held_out, _) in enumerate(rows) if held_out]
    known = [label for label in range(labels.shape[1]) if 1 < labels[train, label].sum() < len(train) - 1]
    patients = [row["patient_id"] for _, row in rows]
    return Records([signals[i] for i in train] + others, signals, labels[:, known], patients, train, test)


def _has(row: dict, label_set: str, name: str) -> bool:
    return any(label["set"] == label_set and label["name"] == name for label in row["labels"])


def _contract(signal: np.ndarray, rate: float, leads: list[str]) -> np.ndarray:
    return CONTRACT(signal, sampling_rate=rate, leads=leads)["signal"][0]


def _other_corpora(root: Path) -> Iterator[np.ndarray]:
    """Reads every record of at least 5 s that is not PTB-XL's; the corpora are only a few files each here."""
    for header in sorted([*root.glob("challenge-2021/training/**/*.hea"), *root.glob("ludb/**/*.hea")]):
        if not set(REPEATED) & set(header.parts[-4:]):
            yield _read_wfdb(header)
    for path in sorted(root.glob("cpsc2018/**/*.mat")):
        yield from _long(scipy.io.loadmat(path)["ECG"]["data"][0, 0], 500)
    for path in sorted(root.glob("chapman-figshare/ECGData/*.csv")):
        yield from _long(np.loadtxt(path, delimiter=",", skiprows=1).T / 1000, 500)
    for path in sorted(root.glob("code-15/*.hdf5")):
        with h5py.File(path) as file:
            for tracing in file["tracings"][:-1]:
                inside = np.flatnonzero(np.abs(tracing).sum(axis=1))
                yield from _long(tracing[inside[0] : inside[-1] + 1].T, 400)


def _long(signal: np.ndarray, rate: float) -> Iterator[np.ndarray]:
    if signal.shape[1] >= 5 * rate:
        yield _contract(signal.astype(np.float32), rate, list(LEADS))


def _read_wfdb(path: Path) -> np.ndarray:
    header = wfdb.parse_header(path.read_bytes(), path.stem)
    files = {name: (path.parent / name).read_bytes() for name in header.file_names}
    record = wfdb.decode(header, files)
    return _contract(record.signal, record.sampling_rate, list(record.leads))
