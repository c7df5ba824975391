"""The search for recordings that are there twice, among up to millions of fingerprints."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ecg_hf.signals.fingerprint import HEAD, NUM_FEATURES, STEP, STORED_RATE, similarity, unpack

KEYS, CELL = ((0, 12), (12, 24)), 18  # which features make a key, and how many units fall together in it
ALIKE = 0.25  # of the features' spread, the root mean square by which two windows of one waveform may differ
REACH = 200  # windows of one key that each is compared with
BLOCK = 1 << 16  # windows compared at once
STRICTER = 3  # than for whole copies is the limit for parts

logger = logging.getLogger(__name__)


def find_duplicates(fingerprints: Sequence[bytes | None], threshold: float = 0.985) -> list[tuple[int, int, float]]:
    """Finds the pairs that are one recording, or overlap in time by 6 s or more.

    Windows around beats are sorted by what they look like; pairs that look alike are then compared in full. Copies that
    do not begin and end together must be more alike, as there are many ways to lay one beside another.

    Of over 1,000 real records in the forms of several corpora all copies are found, with similarities above 0.997, and
    nothing else (tests/test_waveform_hash.py, with the ways in which copies may differ). Two recordings of one patient
    in the same minute have not been tried.

    Args:
        fingerprints: One per recording; None is like nothing.
        threshold: The least similarity of a pair.

    Returns:
        First and second index and similarity of each pair, in order. Of more than 200 copies not all pairs are listed,
        but all copies are.
    """
    best: dict[tuple[int, int], float] = {}
    for first, second, offset in _candidates(fingerprints):
        one, other = fingerprints[first], fingerprints[second]
        assert one is not None and other is not None
        score = similarity(one, other, offset)
        whole = offset == 0 and abs(_num_samples(one) - _num_samples(other)) < STORED_RATE // 4
        if 1 - score <= (1 - threshold) / (1 if whole else STRICTER):
            best[first, second] = max(score, best.get((first, second), score))
    return [(*pair, score) for pair, score in sorted(best.items())]


def _num_samples(data: bytes) -> int:
    return int(HEAD.unpack_from(data)[-1])


def _candidates(fingerprints: Sequence[bytes | None]) -> Iterator[tuple[int, int, float]]:
    """Yields pairs of recordings with windows that look alike, and the offset that this says, in s."""
    for lead in (0, 1):
        owner, times, features = _gather(fingerprints, lead)
        found = [np.zeros((0, 3), np.int64)]
        for first, second in _alike(features, owner):
            offset = np.rint((times[first] - times[second].astype(np.int64)) / 10)
            offset[np.abs(offset) <= 3] = 0  # of whole copies the beats may be a fraction of a sample apart
            found.append(np.column_stack([owner[first], owner[second], offset]).astype(np.int64))
        for one, other, milliseconds in np.unique(np.concatenate(found), axis=0).tolist():
            yield one, other, milliseconds / 1000


def _gather(
    fingerprints: Sequence[bytes | None], lead: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
    """Lists whose each window of a lead is, its time and its features, recording by recording."""
    counts = [0 if data is None else HEAD.unpack_from(data)[1 + lead] for data in fingerprints]
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    times, features = np.zeros(len(owner), np.int32), np.zeros((len(owner), NUM_FEATURES), np.int8)
    stop = 0
    for data, count in zip(fingerprints, counts, strict=True):
        if data is not None:
            part = unpack(data)[lead]
            times[stop : stop + count], features[stop : stop + count] = part.times, part.features
            stop += count
    return owner, times, features


def _alike(features: NDArray[np.int8], owner: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yields indices of windows of two recordings, the lower recording first, that share a key and look alike."""
    for start, stop in KEYS:
        cells = (features[:, start:stop].astype(np.int16) + 128) // CELL
        keys = cells @ (256 // CELL + 1) ** np.arange(stop - start)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        places = np.arange(len(order))
        for distance in range(1, REACH + 1):
            places = places[places + distance < len(order)]
            places = places[keys[places] == keys[places + distance]]
            for begin in range(0, len(places), BLOCK):
                first = order[places[begin : begin + BLOCK]]
                second = order[places[begin : begin + BLOCK] + distance]
                apart = features[first].astype(np.float32) - features[second]
                good = (owner[first] != owner[second]) & ((apart**2).mean(axis=1) < (ALIKE / STEP) ** 2)
                yield first[good], second[good]
        if len(places):
            logger.warning("%d windows look like more than %d others; not all are compared", len(places), REACH)
