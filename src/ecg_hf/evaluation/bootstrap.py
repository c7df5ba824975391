"""The patient-clustered bootstrap: how far a result would move had other patients been drawn."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]

CONFIDENCE = 0.95
_CHUNK_VALUES = 2**17  # 1 MiB of weights, so that the working set of a chunk stays in a core's cache


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which records are drawn together.

    Args:
        index: Cluster of each record, from 0 up, shape (num_records,).
        num_clusters: How many there are.
        patient_level: Whether a cluster is a patient; otherwise it is a single record.
    """

    index: NDArray[np.intp]
    num_clusters: int
    patient_level: bool


def cluster_by_patient(patient_ids: Sequence[Hashable] | NDArray[np.generic] | None, num_records: int) -> Clusters:
    """Groups records by patient; without any patient ids every record is a group of its own.

    Args:
        patient_ids: One per record; None, or nothing but None, if the corpus has none.
        num_records: How many records there are.

    Raises:
        ValueError: If the ids are fewer or more than the records, if only some are missing, or if fewer than two
            groups are left, of which no spread can be learnt.
    """
    ids = [None] * num_records if patient_ids is None else list(patient_ids)
    if len(ids) != num_records:
        raise ValueError(
            f"expected a patient id for each of {num_records} records, got {len(ids)}; pass one per record"
        )
    num_missing = sum(patient is None or patient != patient for patient in ids)
    if 0 < num_missing < num_records:
        raise ValueError(
            f"expected a patient id for every record or for none, got {num_missing} missing of {num_records}; "
            "evaluate the records without patient apart"
        )
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(patient, len(numbers)) for patient in (range(num_records) if num_missing else ids)]
    if len(numbers) < 2:
        raise ValueError(f"a bootstrap needs at least 2 patients, got {len(numbers)}; use a larger test set")
    return Clusters(np.array(index, dtype=np.intp), len(numbers), patient_level=not num_missing)


def resample_weights(clusters: Clusters, num_resamples: int, seed: int = 0) -> Iterator[Values]:
    """Draws patients with replacement and yields how often each record occurs.

    All records of a patient come and go together. The draws depend on the seed and the number of patients alone.

    Args:
        clusters: Which records are drawn together.
        num_resamples: How many resamples to draw in all.
        seed: Of the random numbers.

    Yields:
        Chunks of shape (num_records, resamples in the chunk), whole numbers.

    Source:
        Davison and Hinkley 1997, section 3.8: hierarchical data, resampled at the highest level only.
    """
    generator = np.random.default_rng(seed)
    chunk_size = max(1, _CHUNK_VALUES // len(clusters.index))
    for start in range(0, num_resamples, chunk_size):
        size = min(chunk_size, num_resamples - start)
        drawn = generator.integers(clusters.num_clusters, size=(size, clusters.num_clusters))
        cells = drawn + np.arange(size)[:, None] * clusters.num_clusters
        counts = np.bincount(cells.ravel(), minlength=size * clusters.num_clusters).reshape(size, -1)
        yield np.ascontiguousarray(counts.T[clusters.index], dtype=np.float64)


def bootstrap(
    statistic: Statistic, clusters: Clusters, num_resamples: int = 1000, seed: int = 0
) -> tuple[Values, Values]:
    """Evaluates a vector of K weighted statistics on the data and on every resample.

    Args:
        statistic: Takes weights of shape (num_records, R), gives values of shape (K, R).
        clusters: Which records are drawn together.
        num_resamples: How many resamples to draw.
        seed: Of the random numbers.

    Returns:
        The values on the data, shape (K,), and on the resamples, shape (K, num_resamples).

    Raises:
        ValueError: If `num_resamples` is below 1.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}; 1000 is usual")
    value = statistic(np.ones((len(clusters.index), 1)))[:, 0]
    chunks = [statistic(weights) for weights in resample_weights(clusters, num_resamples, seed)]
    return value, np.concatenate(chunks, axis=1)


def percentile_interval(replicates: Values) -> tuple[float, float]:
    """Gives the central 95 % of the replicates that are defined; NaN if none is.

    Source:
        Efron and Tibshirani 1993, section 13.3.
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
