"""Random words that are the same on every machine and for ever: a function of seed, purpose and place."""

import operator
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What words are drawn for; two purposes never share a word."""

    ORDER = 0
    CROPS = 1
    SHARDS = 2


def random_words(size: int, seed: int, purpose: Purpose, counter: Sequence[int] = (0, 0, 0, 0)) -> NDArray[np.uint64]:
    """Draws uniform 64-bit words.

    Args:
        size: How many.
        seed: From 0 to 2^64 - 1.
        purpose: What for.
        counter: Where the stream begins; its first number goes up by one every four words.

    Returns:
        Shape (size,).

    Raises:
        ValueError: If the seed is out of range.
    """
    if not 0 <= operator.index(seed) < 2**64:
        raise ValueError(f"seed must lie in 0 to 2^64 - 1, got {seed}")
    # raw words, because numpy promises their stream for ever, unlike that of Generator; arrays of uint64, because it
    # would round large seeds among other numbers to floating point
    place = {"key": np.array([seed, int(purpose)], np.uint64), "counter": np.array(counter, np.uint64)}
    words: NDArray[np.uint64] = np.random.Philox(**place).random_raw(size)
    return words
