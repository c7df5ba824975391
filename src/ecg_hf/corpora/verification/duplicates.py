"""The search for equal or overlapping recordings among up to millions of fingerprints."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ecg_hf.signals.fingerprint import HEAD, NUM_FEATURES, STEP, STORED_RATE, similarity, unpack

KEYS, CELL = ((0, 12), (12, 24)), 18  # ranges of features that form a key, and width of a key's cell in units
ALIKE = 0.25  # largest root mean square difference of two windows of one waveform, relative to the features' spread
REACH = 200  # windows with the same key with which a window is compared
BLOCK = 1 << 16  # windows compared at once
STRICTER = 3  # factor by which the limit for parts is stricter than that for whole copies

logger = logging.getLogger(__name__)


def find_duplicates(fingerprints: Sequence[bytes | None], threshold: float = 0.985) -> list[tuple[int, int, float]]:
    """Finds the pairs of fingerprints of the same recording, or of recordings that overlap in time by 6 s or more.

    Windows around heartbeats are sorted by similar features; only recordings with similar windows are compared in full.
    Copies that do not begin and end together must be more similar, because two recordings can be aligned in many ways.

    Among over 1,000 real records in the formats of several corpora, all copies are found, with similarities above
    0.997, and nothing else (tests/signals/test_fingerprint.py, which also lists how copies may differ). Two recordings
    of one patient in the same minute have not been tried.

    Args:
        fingerprints: One fingerprint per recording; None matches no recording.
        threshold: Smallest similarity of a pair.

    Returns:
        First index, second index and similarity of each pair, in order. If a recording has more than 200 copies, not
        all pairs are listed, but every copy is in a pair.
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
    """Yields pairs of recordings with similar windows, and the offset in s at which these windows coincide."""
    for lead in (0, 1):
        owner, times, features = _gather(fingerprints, lead)
        found = [np.zeros((0, 3), np.int64)]
        for first, second in _alike(features, owner):
            offset = np.rint((times[first] - times[second].astype(np.int64)) / 10)
            offset[np.abs(offset) <= 3] = 0  # the beats of whole copies may be a fraction of a sample apart
            found.append(np.column_stack([owner[first], owner[second], offset]).astype(np.int64))
        for one, other, milliseconds in np.unique(np.concatenate(found), axis=0).tolist():
            yield one, other, milliseconds / 1000


def _gather(
    fingerprints: Sequence[bytes | None], lead: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
    """Returns the recording, the time and the features of every window of a lead, recording by recording."""
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
    """Yields indices of similar windows with the same key in two recordings, the earlier recording first."""
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
