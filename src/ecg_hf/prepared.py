"""A split of a corpus, made ready: every signal as the input contract wants it, at random access."""

import functools
import json
import logging
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ecg_hf.corpus import EcgCorpus, code_hash
from ecg_hf.errors import EcgIntegrityError, EcgUnitsError
from ecg_hf.features import EcgFeatureExtractor
from ecg_hf.tasks.base import Task

BATCH_SIZE = 10_000  # records whose labels are read at once

logger = logging.getLogger(__name__)


class PreparedSplit:
    """The records of one split as features, in the order of the corpus.

    The features are computed once and kept by `datasets` in a memory-mapped file, named after the data and the
    contract: a second run reads them back.

    Args:
        corpus: Its builder.
        split: Name of the split.
        extractor: The input contract.
        num_samples: Length that a record must at least have, T; shorter ones are left out, counted and logged.
    """

    def __init__(self, corpus: EcgCorpus, split: str, extractor: EcgFeatureExtractor, num_samples: int = 0):
        check_unit(corpus, extractor)
        corpus.download_and_prepare()
        rows = corpus.as_dataset(split=split)
        kept = [name for name in rows.column_names if name not in ("signal", "gain", "baseline", "leads", "report")]
        rows = rows.map(
            _features,
            fn_kwargs={"contract": json.dumps(extractor.to_dict(), sort_keys=True), "code": _code_hash()},
            remove_columns=[name for name in rows.column_names if name not in kept],
            desc=f"preparing {corpus.dataset_name} {split}",
        )
        lengths = np.asarray(rows.with_format("numpy")["num_samples"][:])
        long_enough = np.flatnonzero(lengths >= num_samples)
        self.num_too_short = len(lengths) - len(long_enough)
        if self.num_too_short:
            short = np.asarray(rows["record_id"][:])[lengths < num_samples]
            logger.warning("%d records of %s are shorter than a crop and left out: %s", len(short), split, short[:20])
        self.name, self.fingerprint, self.num_unfit = split, corpus.fingerprint, 0
        self.num_leads = len(extractor.leads)
        self.rows = rows.select(long_enough) if self.num_too_short else rows
        self.signals = self.rows.select_columns(["signal"])
        if len(self.rows) == 0:
            raise EcgIntegrityError(f"split {split!r} of {corpus.dataset_name} has no record; choose another split")

    def __len__(self) -> int:
        return len(self.rows)

    def signal(self, index: int) -> NDArray[np.float32]:
        """Gives the features of a record, shape (L, T)."""
        return np.frombuffer(self.signals[int(index)]["signal"], np.float32).reshape(self.num_leads, -1)

    @functools.cached_property
    def record_ids(self) -> list[str]:
        """Names of the records."""
        return list(self.rows["record_id"])

    @functools.cached_property
    def patient_ids(self) -> list[str | None]:
        """Patients of the records; None where the corpus does not know."""
        return list(self.rows["patient_id"])

    def select(self, indices: Sequence[int]) -> "PreparedSplit":
        """Keeps some records, in the given order."""
        chosen = object.__new__(PreparedSplit)
        chosen.name, chosen.fingerprint, chosen.num_unfit = self.name, self.fingerprint, self.num_unfit
        chosen.num_leads, chosen.num_too_short = self.num_leads, self.num_too_short
        chosen.rows = self.rows.select(indices)
        chosen.signals = chosen.rows.select_columns(["signal"])
        return chosen

    def where(self, mask: NDArray[np.bool_], why: str) -> "PreparedSplit":
        """Keeps the records for which a mask (R,) is true; the others are counted and logged."""
        if mask.all():
            return self
        left_out = np.asarray(self.record_ids)[~mask]
        logger.warning("%d records of %s are left out, %s: %s", len(left_out), self.name, why, left_out[:20].tolist())
        kept = self.select(np.flatnonzero(mask).tolist())
        kept.num_unfit = self.num_unfit + len(left_out)
        return kept

    def has(self, label_set: str, name: str = "") -> NDArray[np.bool_]:
        """Says which records have a label, or any of its set if `name` is empty; shape (R,)."""
        found = np.zeros(len(self), bool)
        for record, names, _ in iterate_labels(self.rows, label_set):
            found[record[pc.equal(names, pa.scalar(name)).to_numpy(zero_copy_only=False)] if name else record] = True
        return found

    def targets(self, task: Task) -> NDArray[np.float32]:
        """Reads out a task's labels.

        Returns:
            Shape (R, C): 1 where a record has a label of the task's set and 0 where it has not; for regression the
            label's value, NaN where there is none. If the absent are unknown, NaN where there is none, 0 where its
            value is 0 and else 1.
        """
        regression, unknown = task.problem_type == "regression", task.absent == "unknown"
        targets = np.full((len(self), len(task.labels)), np.nan if regression or unknown else 0.0, np.float32)
        labels = pa.array(task.labels, pa.string())
        for record, names, value in iterate_labels(self.rows, task.label_set):
            column = pc.index_in(names, labels).fill_null(-1).to_numpy(zero_copy_only=False)
            told = column >= 0
            meant = value if regression else (value > 0 if unknown else np.ones_like(value))
            targets[record[told], column[told]] = meant[told]
        return targets

    def counts(self) -> dict[str, int]:
        """Counts records and patients, the records that were too short, and those that a task did not ask for."""
        patients = {patient for patient in self.patient_ids if patient is not None}
        counts = {"num_records": len(self), "num_patients": len(patients), "num_too_short": self.num_too_short}
        return counts | ({"num_unfit": self.num_unfit} if self.num_unfit else {})

    def demographics(self) -> dict[str, float | int | None]:
        """Summarises sex and age (years; the 5th, 50th and 95th percentile of those known)."""
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


def check_unit(corpus: EcgCorpus, extractor: EcgFeatureExtractor) -> None:
    """Refuses a corpus without a unit where the input contract needs one, and warns of one that is not sure of it.

    Raises:
        EcgUnitsError: If the corpus holds z-scores and the contract does not standardise each record.
    """
    if corpus.unit == "z-score" and extractor.normalization != "record":
        raise EcgUnitsError(
            f"{corpus.dataset_name} holds z-scores, expected mV for an input contract with normalization "
            f"{extractor.normalization!r}; use normalization 'record', which needs no unit"
        )
    if corpus.unit == "uncertain mV":
        logger.warning("the amplitude of %s is uncertain: its publishers contradict each other", corpus.dataset_name)


@functools.lru_cache(maxsize=8)
def _extractor(contract: str) -> EcgFeatureExtractor:
    return EcgFeatureExtractor(**json.loads(contract))


@functools.cache
def _code_hash() -> str:
    """Stands for the code that makes features, so that features of older code are not read back."""
    return code_hash([EcgFeatureExtractor.__module__])


def _features(row: dict[str, Any], contract: str, code: str) -> dict[str, Any]:
    signal = _extractor(contract).process_row(row)
    recorded = {"duration_s": row["num_samples"] / row["sampling_rate"], "num_leads": len(row["leads"])}
    return {"signal": signal.tobytes(), "num_samples": signal.shape[1], **recorded}


def iterate_labels(rows: Any, label_set: str) -> Iterator[tuple[NDArray[np.int64], Any, NDArray[np.float32]]]:
    """Yields the labels of a set, some records at a time: each label's record, (K,), its name and its value."""
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
    """Counts the records that have each label of a task's set."""
    counts: Counter[str] = Counter()
    for record, names, value in iterate_labels(rows, task.label_set):
        positive = value > 0 if task.absent == "unknown" else np.ones(len(value), bool)
        coded = names.dictionary_encode()
        codes, known = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
        pairs = np.unique(np.stack([record[positive], codes[positive]]), axis=1)
        counts.update(dict(zip(known, np.bincount(pairs[1], minlength=len(known)).tolist(), strict=True)))
    return counts
