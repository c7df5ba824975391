"""Crops of fixed length: random ones for training, disjoint tiles for evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.data.random_streams import Purpose, random_words


def crop_draws(seed: int, start: int, stop: int) -> NDArray[np.uint64]:
    """Draws a number for each of a range of positions, the same wherever, whenever and in whatever order it is read.

    Args:
        seed: From 0 to 2^64 - 1.
        start: The first global position of a crop in the run, at least 0 (see `ecg_hf.data.record_order`).
        stop: One past the last position.

    Returns:
        Uniform 64-bit words, shape (stop - start,).
    """
    # four words share one value of the counter
    words = random_words(stop - start // 4 * 4, seed, Purpose.CROPS, (start // 4, 0, 0, 0))
    return words[start % 4 :]


def crop_starts(draws: NDArray[np.uint64], lengths: NDArray[np.integer], num_samples: int) -> NDArray[np.int64]:
    """Turns draws into the starts of crops, uniform over all that fit, the first and the last included.

    Args:
        draws: Of `crop_draws`, shape (B,).
        lengths: Of the signals, in samples, shape (B,).
        num_samples: Length of the crops, in samples.

    Returns:
        First sample of each crop, shape (B,).

    Raises:
        ValueError: If a signal is shorter than the crop.
    """
    _require_length(int(lengths.min(initial=num_samples)), num_samples)
    fitting = (lengths - num_samples + 1).astype(np.uint64)
    # the upper half of a word is fine enough for any record, and the product stays within 64 bits
    return ((draws >> np.uint64(32)) * fitting >> np.uint64(32)).astype(np.int64)


def tile(signal: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    """Cuts a signal into crops that follow each other; what is left at the end, less than one crop, is dropped.

    Args:
        signal: Shape (L, T).
        num_samples: Length of each crop, in samples.

    Returns:
        A view of shape (T // num_samples, L, num_samples).

    Raises:
        ValueError: If the signal is shorter than one crop.
    """
    _require_length(signal.shape[-1], num_samples)
    num_leads, length = signal.shape
    num_tiles = length // num_samples
    return signal[:, : num_tiles * num_samples].reshape(num_leads, num_tiles, num_samples).swapaxes(0, 1)


def _require_length(length: int, num_samples: int) -> None:
    if num_samples < 1:
        raise ValueError(f"a crop must have at least 1 sample, got {num_samples}")
    if length < num_samples:
        raise ValueError(
            f"a crop of {num_samples} samples does not fit a signal of {length}; "
            "leave the record out or ask for a shorter crop"
        )


def average_by_record(
    scores: NDArray[np.floating[Any]], record_ids: Sequence[str] | Sequence[int] | NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Averages the scores of the tiles of each record.

    Args:
        scores: One row for each tile, shape (num_tiles, C); probabilities or regression values, not logits.
        record_ids: The record that each tile comes from, in any order.

    Returns:
        The records in the order of their first tile, and their mean scores, shape (num_records, C).

    Raises:
        ValueError: If there is not one record for each row of scores.
    """
    if len(scores) != len(record_ids):
        raise ValueError(f"there must be one record for each row of scores, got {len(record_ids)} for {len(scores)}")
    unique, first, inverse = np.unique(np.asarray(record_ids), return_index=True, return_inverse=True)
    sums = np.zeros((len(unique), *scores.shape[1:]))
    np.add.at(sums, inverse, scores)
    counts = np.bincount(inverse, minlength=len(unique))
    order = np.argsort(first)
    return unique[order], (sums / counts.reshape(-1, *[1] * (scores.ndim - 1)))[order]
