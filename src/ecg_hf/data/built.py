"""Built corpora, which `dataset_scripts/build.py` writes: Parquet shards at one sampling rate, read crop by crop."""

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
    """A built corpus: a folder of Parquet shards and the manifest that describes them.

    Args:
        folder: Folder of the built corpus.
        skip_damaged: Whether to verify every shard and leave out, with a warning, shards that are missing or have
            changed, instead of raising an error.

    Raises:
        EcgAccessError: If the folder holds no built corpus, or its build was not finished.
        EcgFormatError: If the manifest has another version.
        EcgIntegrityError: If a shard is missing or its size has changed.

    Example:
        >>> import tempfile
        >>> from ecg_hf.corpora.loading import open_corpus
        >>> from ecg_hf.data.shards import Recipe, build_shards, write_manifest
        >>> source, recipe = open_corpus("synthetic", num_records=20), Recipe(target_rate=240.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     shards = build_shards(source, recipe, Path(folder), shards=[0])
        ...     manifest = write_manifest(source, recipe, Path(folder))
        ...     corpus = BuiltCorpus(folder)
        >>> [(file["path"], file["num_records"]) for file in corpus.files("test")]
        [('data/test-00000-of-00001.parquet', 4)]
    """

    def __init__(self, folder: str | Path, *, skip_damaged: bool = False):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise EcgAccessError(f"{folder} has no {MANIFEST}: finish building the corpus there, or choose its folder")
        self.manifest: dict[str, Any] = read_json(path)
        if self.manifest.get("version") != VERSION:
            raise EcgFormatError(
                f"{path} has version {self.manifest.get('version')}, expected {VERSION}; build the corpus again"
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
        self.fingerprint = hashlib.sha256(hashes.encode()).hexdigest()  # identifies the rows and their order

    def files(self, split: str | None = None) -> list[dict[str, Any]]:
        """Lists the manifest's entries of the shards of a split, or of all splits, without shards that are left out."""
        return [
            file
            for name, content in self.manifest["splits"].items()
            if split in (None, name)
            for file in content["files"]
            if file["path"] not in self.left_out
        ]

    def check(self) -> None:
        """Compares every shard with the SHA-256 in the manifest; shards unchanged since the last check are not read.

        Raises:
            EcgIntegrityError: If a shard is missing or has changed.
        """
        for _, reason in damaged_shards(self.folder, self.files()):
            raise EcgIntegrityError(f"{reason}; build or download it again")

    def _leave_out_damaged(self) -> None:
        for file, reason in damaged_shards(self.folder, self.files()):
            logger.warning("%d records left out: %s", file["num_records"], reason)
            self.left_out.append(file["path"])
        self.facts["left_out_shards"] = self.left_out

    def as_dataset(self, split: str | None = None) -> Any:
        """Returns the rows of a split, or of all splits as a dict, memory-mapped.

        The first call lets `datasets` unpack the shards into its cache.

        Raises:
            EcgIntegrityError: If the corpus was built without this split.
        """
        paths = {
            name: [str(self.folder / file["path"]) for file in self.files(name)] for name in self.manifest["splits"]
        }
        if split is not None and split not in paths:
            raise EcgIntegrityError(f"{self.dataset_name} was built without split {split!r}; it has {sorted(paths)}")
        return datasets.load_dataset("parquet", data_files=paths, split=split)


def is_built(place: str | Path) -> bool:
    """Checks whether a place is the folder of a built corpus, rather than raw data."""
    path = Path(place) / MANIFEST
    try:
        manifest = read_json(path) if path.is_file() else None
    except ValueError:
        return False  # another program's file of the same name
    return isinstance(manifest, dict) and {"version", "corpus", "recipe"} <= manifest.keys()


BLOCK = 1000  # consecutive records of a `Block`


class Block(NamedTuple):
    """The storage of consecutive records.

    Args:
        gains: Different gains that occur, in ADC units per mV, shape (K, L).
        which: Index of each record's gains; -1 if the record has other leads than the feature extractor, a baseline,
            or a gain that float32 does not hold exactly.
    """

    gains: NDArray[np.float32]
    which: NDArray[np.int16]


class BuiltSplit(Split):
    """A split of a built corpus; crops are cut from the stored samples before anything is decoded.

    Args:
        corpus: Built corpus.
        split: Name of the split.
        extractor: Feature extractor of the model, with the sampling rate of the built corpus.
        num_samples: Minimum length of a record, T; shorter records are left out, counted and logged.

    Raises:
        EcgFormatError: If the corpus was built with another sampling rate.
        EcgLeadError: If a record lacks leads that the feature extractor neither derives nor sets to zero.
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
        """Processes one record of each incomplete set of leads, so that a refusal comes before a run begins."""
        seen = set()
        for index in np.flatnonzero(self.lead_counts() < len(self.extractor.leads)).tolist():
            leads = tuple(self.storage[int(self.places[index])]["leads"])
            if leads not in seen:
                seen.add(leads)
                self.signal(index)

    def durations(self) -> NDArray[np.float64]:
        """Returns the durations of the records in s, shape (R,), exact to half a sample of the built corpus."""
        rates = self.table.data.column("sampling_rate").to_numpy()[self.places]
        return np.asarray(self.lengths / rates, np.float64)

    def lead_counts(self) -> NDArray[np.int64]:
        """Returns the number of leads of each record that have at least one sample, shape (R,)."""
        counts: NDArray[np.int64] = pc.list_value_length(self.table.data.column("leads")).to_numpy()[self.places]
        return counts

    def signal(self, index: int) -> NDArray[np.float32]:
        """Returns the features of a record, shape (L, T)."""
        row = self.table[int(self.places[index])]
        try:
            return self.extractor.process_row(row)
        except EcgError as error:
            error.add_note(f"in record {row['record_id']} of {self.corpus}")
            raise

    def crops(self, indices: NDArray[np.int64], starts: NDArray[np.int64], num_samples: int) -> NDArray[np.float32]:
        """Cuts one crop out of each of several records, see `Split.crops`.

        Where possible, only the crop is decoded and normalised. A record is processed whole if its crop has gaps, if
        its storage is not plain (see `Block`), or if the feature extractor normalises each record by itself. A feature
        extractor that refuses gaps therefore notices only the gaps inside a crop.
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
        """Returns the gains of a record whose signal is samples over gains in float32; None for any other record."""
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
