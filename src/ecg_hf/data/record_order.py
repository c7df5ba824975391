"""The order of records in a run: a pure function of the seed and the position, so that one integer resumes a run."""

import math
import operator
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ecg_hf.data.random_streams import Purpose, random_words

_PERMUTATION, _MIXTURE = 1, 2  # streams of random words that must not overlap
_BLOCK = 1024


class RecordOrder:
    """The record at each position of an endless run.

    Without weights the corpora are read as one: each record comes exactly once an epoch, and position `p` lies in
    epoch `p // sum(sizes)`. With weights, every block of (at least) 1,024 positions holds each corpus in proportion to
    its weight, shuffled, and after any whole number of blocks no corpus is more than one record away from its exact
    proportion; each corpus walks through its own epochs, so that none of its records returns before all its other
    records have come.

    Positions are global; `positions_of_step` divides them among ranks and micro-batches. One permutation is kept for
    each corpus, that of its last epoch; ten million records take 40 MB, and 1.5 s once an epoch.

    Args:
        sizes: Number of records of each corpus.
        weights: Sampling weight of each corpus, in any unit; None draws all records equally often.
        seed: Seed of the order, from 0 to 2^64 - 1.

    Raises:
        ValueError: If a size, a weight or the seed is out of range, or there is not one weight for each corpus.

    Example:
        >>> from ecg_hf.data.record_order import RecordOrder
        >>> order = RecordOrder([3, 2], weights=None, seed=0)
        >>> [order[position] for position in range(5)]  # one epoch, as (corpus, record)
        [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1)]
        >>> corpora, records = RecordOrder([3, 2], weights=[3.0, 1.0], seed=0).take(0, 1024)
        >>> corpora.tolist().count(0), corpora.tolist().count(1)
        (768, 256)
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None, seed: int) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes must name at least one corpus of at least one record, got {list(sizes)}")
        if not 0 <= operator.index(seed) < 2**64:
            raise ValueError(f"seed must lie in 0 to 2^64 - 1, got {seed}")
        self.sizes = tuple(operator.index(size) for size in sizes)
        self.seed = operator.index(seed)
        self._starts = np.cumsum((0, *self.sizes[:-1]))
        self._shares = None if weights is None else _cumulative_shares(weights, len(self.sizes))
        self._walks = self.sizes if self._shares else (sum(self.sizes),)
        self._block_size = _block_size(self._shares) if self._shares else 0
        self._permutations: dict[int, tuple[int, NDArray[np.integer]]] = {}
        self._block: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Returns the index of the corpus and the index of the record in it, at one position."""
        corpora, records = self.take(position, position + 1)
        return int(corpora[0]), int(records[0])

    def take(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the corpora and the records at a range of positions.

        Args:
            start: First position, at least 0.
            stop: One past the last position.

        Returns:
            Index of the corpus and index of the record in the corpus, for each position, shape (stop - start,) each.

        Raises:
            ValueError: If the range begins before 0 or ends before it begins.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"positions count from 0 and do not run backwards, got {start} to {stop}")
        if self._shares is None:
            records = self._draw(0, np.arange(start, stop, dtype=np.int64))
            corpora = np.searchsorted(self._starts, records, side="right") - 1
            return corpora, records - self._starts[corpora]
        corpora, draws = self._mix(start, stop)
        records = np.empty_like(draws)
        for corpus in np.unique(corpora):
            records[corpora == corpus] = self._draw(int(corpus), draws[corpora == corpus])
        return corpora, records

    def _draw(self, walk: int, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        records = np.empty_like(draws)
        epochs, places = np.divmod(draws, self._walks[walk])
        for epoch in np.unique(epochs):
            records[epochs == epoch] = self._permutation(walk, int(epoch))[places[epochs == epoch]]
        return records

    def _permutation(self, walk: int, epoch: int) -> NDArray[np.integer]:
        cached = self._permutations.get(walk)
        if cached is None or cached[0] != epoch:
            size = self._walks[walk]
            permutation = self._shuffled(size, _PERMUTATION, walk, epoch).astype(np.min_scalar_type(size))
            cached = self._permutations[walk] = (epoch, permutation)
        return cached[1]

    def _shuffled(self, size: int, stream: int, walk: int, index: int) -> NDArray[np.int64]:
        return np.argsort(random_words(size, self.seed, Purpose.ORDER, (0, stream, walk, index)), kind="stable")

    def _mix(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns, for each position, its corpus and the number of draws from that corpus before the position."""
        parts = [
            self._mixed_block(block)
            for block in range(start // self._block_size, max(start, stop - 1) // self._block_size + 1)
        ]
        offset = start // self._block_size * self._block_size
        corpora, draws = (np.concatenate(part)[start - offset : stop - offset] for part in zip(*parts, strict=True))
        return corpora, draws

    def _mixed_block(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._block is None or self._block[0] != index:
            before, after = self._drawn_before(index), self._drawn_before(index + 1)
            corpora = np.repeat(np.arange(len(before)), after - before)
            draws = np.concatenate([np.arange(first, last) for first, last in zip(before, after, strict=True)])
            shuffled = self._shuffled(self._block_size, _MIXTURE, 0, index)
            # the places of the corpora are shuffled; the draws of each corpus stay in order
            corpora = corpora[shuffled]
            ordered = np.empty_like(draws)
            ordered[np.argsort(corpora, kind="stable")] = draws
            self._block = (index, corpora, ordered)
        return self._block[1:]

    def _drawn_before(self, block: int) -> NDArray[np.int64]:
        assert self._shares is not None
        edges = [0, *(math.floor(block * self._block_size * share + Fraction(1, 2)) for share in self._shares)]
        return np.array(edges[1:], dtype=np.int64) - np.array(edges[:-1], dtype=np.int64)


def _cumulative_shares(weights: Sequence[float], num_corpora: int) -> list[Fraction]:
    if len(weights) != num_corpora:
        raise ValueError(f"there must be one weight for each of {num_corpora} corpora, got {len(weights)}")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f"weights must be positive and finite, got {list(weights)}; leave out corpora not to be drawn")
    exact = [Fraction(str(float(weight))) for weight in weights]  # 0.1 means a tenth, not its nearest binary fraction
    shares = [weight / sum(exact) for weight in exact]
    if min(shares) < Fraction(1, 10**6):
        raise ValueError(f"each corpus must have at least one draw in a million, got the weights {list(weights)}")
    return [sum(shares[: index + 1], Fraction(0)) for index in range(num_corpora)]


def _block_size(cumulative: list[Fraction]) -> int:
    smallest = min(high - low for low, high in zip([Fraction(0), *cumulative], cumulative, strict=False))
    return max(_BLOCK, math.ceil(2 / smallest))  # two draws of each corpus, so that rounding never takes a draw back


def positions_of_step(
    step: int, batch_size: int, rank: int, world_size: int, accumulation: int = 1
) -> tuple[range, ...]:
    """Returns the positions that one rank reads for one optimizer step.

    The positions of a step are `step * batch_size` and the next `batch_size - 1`, whatever the world size; two ranks
    see the same micro-batches that one rank with twice the accumulation sees.

    Args:
        step: Index of the optimizer step, from 0.
        batch_size: Records of one optimizer step over all ranks and micro-batches.
        rank: Index of this process, from 0.
        world_size: Number of processes.
        accumulation: Number of micro-batches that each process accumulates in one step.

    Returns:
        One range of positions for each micro-batch.

    Raises:
        ValueError: If the batch does not divide evenly, or the rank or the step is out of range.
    """
    if step < 0 or min(world_size, accumulation) < 1 or not 0 <= rank < world_size:
        raise ValueError(
            f"step, rank and world size must satisfy step >= 0, 0 <= rank < world size and accumulation >= 1, "
            f"got step {step}, rank {rank} of {world_size}, accumulation {accumulation}"
        )
    num_micro_batches = world_size * accumulation
    if batch_size < 1 or batch_size % num_micro_batches:
        raise ValueError(
            f"a batch of {batch_size} does not divide among {world_size} processes x {accumulation} micro-batches; "
            f"choose a multiple of {num_micro_batches}"
        )
    size = batch_size // num_micro_batches
    starts = (step * batch_size + (index * world_size + rank) * size for index in range(accumulation))
    return tuple(range(start, start + size) for start in starts)
