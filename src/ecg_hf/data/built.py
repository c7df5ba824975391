"""Corpora that `dataset_scripts/build.py` has made: Parquet shards at one sampling rate, read as crops in place."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ecg_hf.data.columns import Column
from ecg_hf.data.shard_check import damaged_shards, missing_bytes
from ecg_hf.data.shards import MANIFEST, VERSION
from ecg_hf.data.split import Split, check_unit
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError
from ecg_hf.output.files import read_json
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.signals.record import MISSING

logger = logging.getLogger(__name__)


class BuiltCorpus:
    """A built corpus, as its manifest describes it.

    Args:
        folder: Where it was built.
        skip_damaged: Whether to read every shard and to leave out, with a warning, those that are missing or have
            changed, instead of refusing them.

    Raises:
        EcgAccessError: If no corpus was built there, or not to its end.
        EcgFormatError: If it was built by another version.
        EcgIntegrityError: If a file is missing or has another size than it was built with.
    """

    def __init__(self, folder: str | Path, *, skip_damaged: bool = False):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise EcgAccessError(f"{folder} has no {MANIFEST}: build the corpus there to its end, or choose its folder")
        self.manifest: dict[str, Any] = read_json(path)
        if self.manifest.get("version") != VERSION:
            raise EcgFormatError(
                f"{path} is of version {self.manifest.get('version')}, expected {VERSION}; build the corpus again"
            )
        self.facts: dict[str, Any] = self.manifest["facts"]
        self.dataset_name, self.unit = str(self.manifest["corpus"]), str(self.facts["unit"])
        self.label_sets: dict[str, tuple[str, ...]] = self.manifest["label_sets"]
        self.left_out: list[str] = []
        if skip_damaged:
            self._leave_out_damaged()
        for file in self.files():
            if reason := missing_bytes(self.folder, file):
                raise EcgIntegrityError(f"{reason}; build or download it again")
        hashes = json.dumps([(file["path"], file["sha256"]) for file in self.files()])
        self.fingerprint = hashlib.sha256(hashes.encode()).hexdigest()  # of these rows in this order

    def files(self, split: str | None = None) -> list[dict[str, Any]]:
        """Lists what the manifest says of each shard of a split, or of all, without those that are left out."""
        return [
            file
            for name, content in self.manifest["splits"].items()
            if split in (None, name)
            for file in content["files"]
            if file["path"] not in self.left_out
        ]

    def check(self) -> None:
        """Compares every shard with the SHA-256 that it was built with, unless that was done since it last changed.

        Raises:
            EcgIntegrityError: If one has changed.
        """
        for _, reason in damaged_shards(self.folder, self.files()):
            raise EcgIntegrityError(f"{reason}; build or download it again")

    def _leave_out_damaged(self) -> None:
        for file, reason in damaged_shards(self.folder, self.files()):
            logger.warning("%d records left out: %s", file["num_records"], reason)
            self.left_out.append(file["path"])
        self.facts["left_out_shards"] = self.left_out

    def as_dataset(self, split: str | None = None) -> Any:
        """Gives the rows of a split, or of all as a dict, memory-mapped; `datasets` unpacks the shards once."""
        paths = {
            name: [str(self.folder / file["path"]) for file in self.files(name)] for name in self.manifest["splits"]
        }
        if split is not None and split not in paths:
            raise EcgIntegrityError(f"{self.dataset_name} was built without split {split!r}; it has {sorted(paths)}")
        return datasets.load_dataset("parquet", data_files=paths, split=split)


def is_built(place: str | Path) -> bool:
    """Says whether a place is a folder with the manifest of a built corpus, rather than raw data."""
    path = Path(place) / MANIFEST
    try:
        manifest = read_json(path) if path.is_file() else None
    except ValueError:
        return False  # somebody else's file of the same name
    return isinstance(manifest, dict) and {"version", "corpus", "recipe"} <= manifest.keys()


BLOCK = 1000  # records whose storage is looked up at once


class Block(NamedTuple):
    """How some records are stored: the gains that occur, (K, L), and which of them each has, -1 if it is not plain."""

    gains: NDArray[np.float32]
    which: NDArray[np.int16]


class BuiltSplit(Split):
    """A split of a built corpus under an input contract, whose crops are cut before anything is decoded.

    Args:
        corpus: It.
        split: Name of the split.
        extractor: The input contract, at the sampling rate that the corpus was built with.
        num_samples: Length that a record must at least have, T; shorter ones are left out, counted and logged.

    Raises:
        EcgFormatError: If the corpus was built with another sampling rate.
        EcgLeadError: If a record lacks leads that the contract neither derives nor does without.
    """

    def __init__(self, corpus: BuiltCorpus, split: str, extractor: EcgFeatureExtractor, num_samples: int = 0):
        check_unit(corpus.dataset_name, corpus.unit, extractor)
        rate = corpus.manifest["recipe"]["target_rate"]
        if rate != extractor.sampling_rate:
            raise EcgFormatError(
                f"{corpus.folder} was built at {rate or 0:g} Hz, expected {extractor.sampling_rate:g} Hz; build the "
                f"corpus with --target_rate {extractor.sampling_rate:g}, or train at its rate"
            )
        table = corpus.as_dataset(split)
        super().__init__(corpus.dataset_name, split, corpus.fingerprint, table, num_samples)
        self.extractor = extractor
        self.samples = Column(table, "signal")
        self.storage = table.select_columns(["leads", "gain", "baseline"])
        self._blocks: dict[int, Block] = {}
        self._check_leads()

    def _check_leads(self) -> None:
        """Tries the contract on the records with fewer leads than it has, one of each kind, before a run begins."""
        seen = set()
        for index in np.flatnonzero(self.lead_counts() < len(self.extractor.leads)).tolist():
            leads = tuple(self.storage[int(self.places[index])]["leads"])
            if leads not in seen:
                seen.add(leads)
                self.signal(index)

    def durations(self) -> NDArray[np.float64]:
        """Gives the durations of the records in s, shape (R,), to half a sample of the rate they were built with."""
        rates = self.table.data.column("sampling_rate").to_numpy()[self.places]
        return np.asarray(self.lengths / rates, np.float64)

    def lead_counts(self) -> NDArray[np.int64]:
        """Counts the leads of each record that have a sample, shape (R,)."""
        counts: NDArray[np.int64] = pc.list_value_length(self.table.data.column("leads")).to_numpy()[self.places]
        return counts

    def signal(self, index: int) -> NDArray[np.float32]:
        """Gives the features of a record, shape (L, T)."""
        row = self.table[int(self.places[index])]
        try:
            return self.extractor.process_row(row)
        except EcgError as error:
            error.add_note(f"in record {row['record_id']} of {self.corpus}")
            raise

    def crops(self, indices: NDArray[np.int64], starts: NDArray[np.int64], num_samples: int) -> NDArray[np.float32]:
        """Gives one crop of each of several records, see `Split`.

        What the contract does to each sample by itself is done to the crops alone. Records of which the crop has gaps
        or that have other leads than the contract, and all if each is normalised by itself, are decoded whole. So a
        contract that refuses gaps only notices those of a crop.
        """
        shape = (len(indices), len(self.extractor.leads), num_samples)
        signals, gains = np.empty(shape, np.float32), np.ones((*shape[:2], 1), np.float32)
        whole = []
        for crop, (place, start) in enumerate(zip(self.places[indices].tolist(), starts.tolist(), strict=True)):
            gain = self._plain_gain(place)
            if gain is None:
                whole.append(crop)
                signals[crop] = 0
            else:
                stored = self.samples[place].view("<i2").reshape(shape[1], -1)
                signals[crop], gains[crop, :, 0] = stored[:, start : start + num_samples], gain
        if signals.min(initial=0) == MISSING:
            whole += np.flatnonzero((signals == MISSING).any(axis=(1, 2))).tolist()
        signals /= gains
        signals = self.extractor.normalise(signals, np.zeros(1, bool))
        for crop in whole:
            start = int(starts[crop])
            signals[crop] = self.signal(int(indices[crop]))[:, start : start + num_samples]
        return signals

    def _plain_gain(self, place: int) -> NDArray[np.float32] | None:
        """Gives the gains of a record that is samples over gains, as `Record.signal` divides them in 32 bits."""
        if self.extractor.normalization == "record":
            return None
        number, row = divmod(place, BLOCK)
        if number not in self._blocks:
            rows = self.storage[number * BLOCK : (number + 1) * BLOCK]
            self._blocks[number] = _look_up(rows, self.extractor.leads)
        gains, which = self._blocks[number]
        return gains[which[row]] if which[row] >= 0 else None


def _look_up(rows: dict[str, list[Any]], leads: list[str]) -> Block:
    numbers: dict[tuple[float, ...], int] = {}
    which = np.full(len(rows["leads"]), -1, np.int16)
    for row, (own, baseline, gain) in enumerate(zip(rows["leads"], rows["baseline"], rows["gain"], strict=True)):
        if own == leads and not any(baseline) and np.array_equal(gain, np.float32(gain)):
            which[row] = numbers.setdefault(tuple(gain), len(numbers))
    return Block(np.array(list(numbers), np.float32), which)
