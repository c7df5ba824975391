"""`Split`, the base class of splits: random access to the rows, labels and crops of one split of a corpus."""

import logging
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Self

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ecg_hf.errors import EcgIntegrityError, EcgUnitsError
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.tasks.base import Task

BATCH_SIZE = 10_000  # records whose labels are read at once

logger = logging.getLogger(__name__)


class Split(ABC):
    """The records of one split of a corpus, in a fixed order; see `open_split`.

    Args:
        corpus: Name of the corpus.
        name: Name of the split.
        fingerprint: Fingerprint of the corpus.
        table: Memory-mapped table with one row per record; its `num_samples` is the length of the record's `signal`.
        num_samples: Minimum length of a record, T; shorter records are left out, counted and logged.

    Raises:
        EcgIntegrityError: If no record is left.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from ecg_hf import EcgFeatureExtractor
        >>> from ecg_hf.corpora.loading import open_corpus
        >>> from ecg_hf.data.opening import open_split
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     corpus = open_corpus("synthetic", cache_dir=folder, num_records=20)
        ...     split = open_split(corpus, "test", EcgFeatureExtractor(sampling_rate=240))
        >>> split.counts()
        {'num_records': 4, 'num_patients': 1, 'num_too_short': 0}
        >>> split.crops(np.array([0, 3]), starts=np.array([0, 1800]), num_samples=600).shape
        (2, 12, 600)
    """

    def __init__(self, corpus: str, name: str, fingerprint: str, table: datasets.Dataset, num_samples: int = 0):
        self.corpus, self.name, self.fingerprint, self.table = corpus, name, fingerprint, table
        self.num_too_short = self.num_unfit = 0
        lengths = table.data.column("num_samples").to_numpy()
        self.places: NDArray[np.int64] = np.flatnonzero(lengths >= num_samples)
        self.lengths: NDArray[np.integer] = lengths[self.places]
        self.num_too_short = len(lengths) - len(self.places)
        self.rows = table.select(self.places) if self.num_too_short else table
        if self.num_too_short:
            short = table.select(np.flatnonzero(lengths < num_samples)[:20])["record_id"][:]
            message = "%d records of %s %s are shorter than a crop and left out: %s"
            logger.warning(message, self.num_too_short, corpus, name, short)
        if not len(self):
            raise EcgIntegrityError(f"split {name!r} of {corpus} has no record; choose another split")

    def __len__(self) -> int:
        return len(self.places)

    @abstractmethod
    def signal(self, index: int) -> NDArray[np.float32]:
        """Returns the features of a record, shape (L, T)."""

    @abstractmethod
    def crops(self, indices: NDArray[np.int64], starts: NDArray[np.int64], num_samples: int) -> NDArray[np.float32]:
        """Cuts one crop out of each of several records.

        Args:
            indices: Indices of the records, shape (B,).
            starts: First sample of each crop, shape (B,).
            num_samples: Length of the crops, in samples.

        Returns:
            The crops, shape (B, L, num_samples); each is a slice of its record's `signal`.
        """

    @property
    def record_ids(self) -> list[str]:
        """Ids of the records."""
        return list(self.rows["record_id"])

    @property
    def patient_ids(self) -> list[str | None]:
        """Ids of the records' patients; None where the patient is unknown."""
        return list(self.rows["patient_id"])

    def record_id(self, index: int) -> str:
        """Returns the id of one record."""
        return str(self.table[int(self.places[index])]["record_id"])

    def patient_codes(self) -> tuple[NDArray[np.int64], int]:
        """Numbers the patients of the records from 0.

        Returns:
            The number of each record's patient, shape (R,), and how many patients there are.

        Raises:
            EcgIntegrityError: If the patient of a record is unknown.
        """
        column = self.table.data.column("patient_id").combine_chunks().take(pa.array(self.places))
        if column.null_count:
            raise EcgIntegrityError(
                f"{column.null_count} records of {self.corpus} {self.name} have no patient, expected one for each; "
                "sample by record"
            )
        coded = column.dictionary_encode()
        return coded.indices.to_numpy().astype(np.int64), len(coded.dictionary)

    def durations(self) -> NDArray[np.float64]:
        """Returns the durations of the records as they were recorded, in s, shape (R,)."""
        return np.asarray(self.rows.with_format("numpy")["duration_s"][:], np.float64)

    def lead_counts(self) -> NDArray[np.int64]:
        """Returns the number of standard leads of each record, shape (R,)."""
        return np.asarray(self.rows.with_format("numpy")["num_leads"][:], np.int64)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Self:
        """Returns a split of the records with the given indices, in the given order."""
        return self._at(self.places[indices], self.lengths[indices])

    def whole(self, num_samples: int) -> Self:
        """Returns a split of all records with at least `num_samples` samples, those left out before included."""
        lengths = self.table.data.column("num_samples").to_numpy()
        places = np.flatnonzero(lengths >= num_samples)
        return self._at(places, lengths[places])

    def _at(self, places: NDArray[np.int64], lengths: NDArray[np.integer]) -> Self:
        chosen = object.__new__(type(self))
        chosen.__dict__.update(self.__dict__)
        chosen.places, chosen.lengths = places, lengths
        chosen.rows = self.table.select(places)
        return chosen

    def where(self, mask: NDArray[np.bool_], why: str) -> Self:
        """Returns a split of the records that meet a condition; all other records are counted and logged.

        Args:
            mask: Whether each record meets the condition, shape (R,).
            why: Reason why the other records are left out, for the log.
        """
        if mask.all():
            return self
        left_out = np.asarray(self.record_ids)[~mask]
        message = "%d records of %s %s are left out, %s: %s"
        logger.warning(message, len(left_out), self.corpus, self.name, why, left_out[:20].tolist())
        kept = self.select(np.flatnonzero(mask))
        kept.num_unfit = self.num_unfit + len(left_out)
        return kept

    def has(self, label_set: str, name: str = "") -> NDArray[np.bool_]:
        """Checks which records have a label.

        Args:
            label_set: Name of the label set.
            name: Name of the label; any label of the set counts if it is empty.

        Returns:
            A mask, shape (R,).
        """
        found = np.zeros(len(self), bool)
        for record, names, _ in iterate_labels(self.rows, label_set):
            found[record[pc.equal(names, pa.scalar(name)).to_numpy(zero_copy_only=False)] if name else record] = True
        return found

    def targets(self, task: Task) -> NDArray[np.float32]:
        """Builds the targets of a task from the labels of the records.

        Returns:
            Targets, shape (R, C). Classification: 1 where a record has the label, 0 where it does not; if the task
            counts absent labels as unknown, 1 where the label's value is above 0, 0 where it is not, and NaN where
            the record does not have the label. Regression: the label's value, NaN where there is none.
        """
        regression, unknown = task.problem_type == "regression", task.absent == "unknown"
        targets = np.full((len(self), len(task.labels)), np.nan if regression or unknown else 0.0, np.float32)
        labels = pa.array(task.labels, pa.string())
        for record, names, value in iterate_labels(self.rows, task.label_set):
            column = pc.index_in(names, labels).fill_null(-1).to_numpy(zero_copy_only=False)
            listed = column >= 0
            target = value if regression else (value > 0 if unknown else np.ones_like(value))
            targets[record[listed], column[listed]] = target[listed]
        return targets

    def counts(self) -> dict[str, int]:
        """Counts the records, their patients, and the records left out as too short or not asked for by a task."""
        patients = {patient for patient in self.patient_ids if patient is not None}
        counts = {"num_records": len(self), "num_patients": len(patients), "num_too_short": self.num_too_short}
        return counts | ({"num_unfit": self.num_unfit} if self.num_unfit else {})

    def demographics(self) -> dict[str, float | int | None]:
        """Summarises sex and age over the records; known ages by their 5th, 50th and 95th percentile, in years."""
        sexes, ages = list(self.rows["sex"]), sorted(age for age in self.rows["age"] if age is not None)
        quantiles = statistics.quantiles(ages, n=20) if len(ages) > 1 else [None] * 19
        return {
            "num_female": sexes.count("female"),
            "num_male": sexes.count("male"),
            "num_over_89": sum(self.rows["age_over_89"]),
            "age_low": quantiles[0],
            "age_median": quantiles[9],
            "age_high": quantiles[18],
        }


def require_disjoint(first: Split, second: Split) -> None:
    """Checks that two splits share no patient, as far as patients are known.

    Records that a split has left out are checked too.

    Raises:
        EcgIntegrityError: If a patient is in both splits.
    """
    theirs = pc.unique(second.table.data.column("patient_id")).drop_null()
    shared = pc.is_in(first.table.data.column("patient_id"), value_set=theirs)
    if pc.any(shared).as_py():
        names = pc.unique(first.table.data.column("patient_id").filter(shared)).to_pylist()
        raise EcgIntegrityError(
            f"{len(names)} patients of {first.corpus} are in {first.name} and in {second.name}, such as {names[:5]}; "
            "splits must be disjoint by patient, so build or prepare the corpus again"
        )


def iterate_labels(rows: Any, label_set: str) -> Iterator[tuple[NDArray[np.int64], Any, NDArray[np.float32]]]:
    """Iterates over the labels of a set, some records at a time.

    Args:
        rows: Rows of a corpus.
        label_set: Name of the label set.

    Yields:
        Index of each label's record, name of each label, and its value, shape (K,) each.
    """
    first = 0
    for batch in rows.select_columns(["labels"]).with_format("arrow").iter(BATCH_SIZE):
        lists = pa.concat_arrays(batch["labels"].chunks)
        labels = lists.flatten()
        chosen = pc.equal(pc.struct_field(labels, "set"), pa.scalar(label_set))
        record = pc.list_parent_indices(lists).filter(chosen).to_numpy(zero_copy_only=False) + first
        labels = labels.filter(chosen)
        yield record, pc.struct_field(labels, "name"), pc.struct_field(labels, "value").to_numpy(zero_copy_only=False)
        first += len(lists)


def count_labels(rows: Any, task: Task) -> Counter[str]:
    """Counts, for each label of a task's label set, the records that have the label."""
    counts: Counter[str] = Counter()
    for record, names, value in iterate_labels(rows, task.label_set):
        positive = value > 0 if task.absent == "unknown" else np.ones(len(value), bool)
        coded = names.dictionary_encode()
        codes, known = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
        pairs = np.unique(np.stack([record[positive], codes[positive]]), axis=1)
        counts.update(dict(zip(known, np.bincount(pairs[1], minlength=len(known)).tolist(), strict=True)))
    return counts


def check_unit(name: str, unit: str, extractor: EcgFeatureExtractor) -> None:
    """Checks that signals have the unit that a feature extractor needs; warns if the unit is uncertain.

    Args:
        name: Name of the corpus.
        unit: Unit of the corpus' signals, see `EcgCorpus`.
        extractor: Feature extractor of the model.

    Raises:
        EcgUnitsError: If the corpus holds z-scores and the feature extractor does not normalise each record.
    """
    if unit == "z-score" and extractor.normalization != "record":
        raise EcgUnitsError(
            f"{name} holds z-scores, expected mV for a feature extractor with normalization "
            f"{extractor.normalization!r}; use normalization 'record', which needs no unit"
        )
    if unit == "uncertain mV":
        logger.warning("the amplitude of %s is uncertain: its publishers contradict each other", name)
