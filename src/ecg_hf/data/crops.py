"""Crops of fixed length: random crops for training, disjoint tiles for evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.data.random_streams import Purpose, random_words


def crop_draws(seed: int, start: int, stop: int) -> NDArray[np.uint64]:
    """Draws a random word for each position of a range; a position has the same word in whatever range it is drawn.

    Args:
        seed: Seed of the crop positions, from 0 to 2^64 - 1.
        start: First global position of a crop in the run, at least 0 (see `ecg_hf.data.record_order`).
        stop: One past the last position.

    Returns:
        Uniform 64-bit words, shape (stop - start,).

    Example:
        >>> from ecg_hf.data.crops import crop_draws
        >>> bool((crop_draws(seed=0, start=2, stop=5) == crop_draws(seed=0, start=0, stop=5)[2:]).all())
        True
    """
    # four words share one value of the counter
    words = random_words(stop - start // 4 * 4, seed, Purpose.CROPS, (start // 4, 0, 0, 0))
    return words[start % 4 :]


def crop_starts(draws: NDArray[np.uint64], lengths: NDArray[np.integer], num_samples: int) -> NDArray[np.int64]:
    """Turns random words into the starts of crops, uniform over all starts that fit, first and last included.

    Args:
        draws: Random words from `crop_draws`, shape (B,).
        lengths: Lengths of the signals, in samples, shape (B,).
        num_samples: Length of the crops, in samples.

    Returns:
        First sample of each crop, shape (B,).

    Raises:
        ValueError: If a signal is shorter than the crop.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.data.crops import crop_draws, crop_starts
        >>> draws = crop_draws(seed=0, start=0, stop=3)
        >>> crop_starts(draws, lengths=np.array([2400, 2400, 600]), num_samples=600).tolist()
        [1464, 1353, 0]
    """
    _require_length(int(lengths.min(initial=num_samples)), num_samples)
    fitting = (lengths - num_samples + 1).astype(np.uint64)
    # the upper half of a word is fine enough for any record, and the product stays within 64 bits
    return ((draws >> np.uint64(32)) * fitting >> np.uint64(32)).astype(np.int64)


def tile(signal: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    """Cuts a signal into consecutive crops; a remainder shorter than a crop is dropped.

    Args:
        signal: Signal, shape (L, T).
        num_samples: Length of each crop, in samples.

    Returns:
        The crops, a view of shape (T // num_samples, L, num_samples).

    Raises:
        ValueError: If the signal is shorter than one crop.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.data.crops import tile
        >>> tile(np.zeros((12, 2500), np.float32), num_samples=600).shape
        (4, 12, 600)
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
        scores: Scores with one row per tile, shape (num_tiles, C); probabilities or regression values, not logits.
        record_ids: Id of the record that each tile comes from, in any order.

    Returns:
        Ids of the records in the order of their first tile, and their mean scores, shape (num_records, C).

    Raises:
        ValueError: If there is not one record id for each row of scores.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.data.crops import average_by_record
        >>> records, means = average_by_record(np.array([[0.2], [0.9], [0.4]]), ["b", "a", "b"])
        >>> records.tolist(), means.round(2).tolist()
        (['b', 'a'], [[0.3], [0.9]])
    """
    if len(scores) != len(record_ids):
        raise ValueError(f"there must be one record for each row of scores, got {len(record_ids)} for {len(scores)}")
    unique, first, inverse = np.unique(np.asarray(record_ids), return_index=True, return_inverse=True)
    sums = np.zeros((len(unique), *scores.shape[1:]))
    np.add.at(sums, inverse, scores)
    counts = np.bincount(inverse, minlength=len(unique))
    order = np.argsort(first)
    return unique[order], (sums / counts.reshape(-1, *[1] * (scores.ndim - 1)))[order]
