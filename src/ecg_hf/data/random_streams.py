"""Random words that never change: a function of seed, purpose and counter, the same on every machine."""

import operator
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """The purposes that random words are drawn for; two purposes never share a word."""

    ORDER = 0
    CROPS = 1
    SHARDS = 2


def random_words(size: int, seed: int, purpose: Purpose, counter: Sequence[int] = (0, 0, 0, 0)) -> NDArray[np.uint64]:
    """Draws uniform 64-bit words.

    Args:
        size: Number of words.
        seed: Seed of the stream, from 0 to 2^64 - 1.
        purpose: Purpose of the words.
        counter: Start of the stream; the first number of the counter increases by one every four words.

    Returns:
        The words, shape (size,).

    Raises:
        ValueError: If the seed is out of range.
    """
    if not 0 <= operator.index(seed) < 2**64:
        raise ValueError(f"seed must lie in 0 to 2^64 - 1, got {seed}")
    # raw words, because numpy promises never to change their stream, unlike that of Generator; arrays of uint64,
    # because numpy would round large seeds in a list with smaller numbers to floating point
    place = {"key": np.array([seed, int(purpose)], np.uint64), "counter": np.array(counter, np.uint64)}
    words: NDArray[np.uint64] = np.random.Philox(**place).random_raw(size)
    return words
