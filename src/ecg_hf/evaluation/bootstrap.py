"""The patient-clustered bootstrap: estimates how much a result varies with the patients who happen to be drawn."""

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
    """The groups of records that a bootstrap draws together.

    Args:
        index: Number of each record's cluster, from 0 up, shape (num_records,).
        num_clusters: Number of clusters.
        patient_level: Whether a cluster is a patient; otherwise it is a single record.
    """

    index: NDArray[np.intp]
    num_clusters: int
    patient_level: bool


def cluster_by_patient(patient_ids: Sequence[Hashable] | NDArray[np.generic] | None, num_records: int) -> Clusters:
    """Groups records by patient; without patient ids every record is a cluster of its own.

    Args:
        patient_ids: Patient of each record; None, or a sequence of None, if the corpus has no patient ids.
        num_records: Number of records.

    Returns:
        The clusters, numbered in the order of their first records.

    Raises:
        ValueError: If the number of ids is not the number of records, if only some ids are missing, or if there are
            fewer than two clusters, which is too few to estimate a spread.
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
    """Draws patients with replacement and yields how often each record occurs in each resample.

    All records of a patient are drawn together. The draws depend only on the seed and the number of patients.

    Args:
        clusters: Groups of records that are drawn together.
        num_resamples: Number of resamples in all.
        seed: Seed of the draws.

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
    """Evaluates K weighted statistics on the data and on every resample.

    Args:
        statistic: Function from weights of the records, shape (num_records, R), to values, shape (K, R).
        clusters: Groups of records that are drawn together.
        num_resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        The values on the data, shape (K,), and on the resamples, shape (K, num_resamples).

    Raises:
        ValueError: If `num_resamples` is below 1.

    Example:
        >>> heart_rate = np.array([60.0, 62.0, 80.0, 95.0, 71.0])
        >>> clusters = cluster_by_patient(["a", "a", "b", "c", "d"], num_records=5)
        >>> value, replicates = bootstrap(lambda w: (heart_rate @ w / w.sum(axis=0))[None], clusters)
        >>> low, high = percentile_interval(replicates)
        >>> print(f"{value[0]:.1f} ({low:.1f}-{high:.1f})")
        73.6 (63.7-89.0)
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}; 1000 is usual")
    value = statistic(np.ones((len(clusters.index), 1)))[:, 0]
    chunks = [statistic(weights) for weights in resample_weights(clusters, num_resamples, seed)]
    return value, np.concatenate(chunks, axis=1)


def percentile_interval(replicates: Values) -> tuple[float, float]:
    """Returns the ends of the central 95 % of the replicates that are not NaN; NaN if all are.

    Source:
        Efron and Tibshirani 1993, section 13.3.
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
