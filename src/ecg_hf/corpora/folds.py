"""Iterative stratification: folds with similar frequencies of every label and disjoint patients."""

from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class _Occurrences(NamedTuple):
    """How many records of each unit have each label; sorted by unit, then label.

    A unit is what goes to one fold as a whole: all records of a patient, or one record if no patients are given.
    """

    unit: Integers
    label: Integers
    times: Integers


def stratified_folds(
    labels: Sequence[Collection[Hashable]],
    groups: Sequence[str | int] | None = None,
    num_folds: int = 10,
    seed: int = 0,
) -> Integers:
    """Assigns records to folds of similar size with similar numbers of every label, keeping each patient in one fold.

    All records of a patient are assigned together, with all of their labels. The rarest remaining label comes first:
    its patients are assigned, those who have it most often first, each to the fold that has it least often; of several
    such folds to the one with the fewest records, and of several such to a random one. Patients without any label come
    last, those with the most records first, each to the fold with the fewest records.

    The folds do not depend on the order of the records if `groups` is given: ties between patients are broken by their
    ids as text, ties between labels by their `repr`. So if patients are unknown, pass the ids of the records as groups;
    without groups, every record is assigned on its own, in the given order.

    Args:
        labels: Names of the labels of each record; a name may occur several times in one record.
        groups: Id of each record's patient, or the record's own id; None to assign every record on its own.
        num_folds: Number of folds.
        seed: Seed of the choice between equally good folds: the patient of rank r among the sorted ids takes number
            `int(draws[r] * n)` of n such folds, where `draws` are uniform numbers of numpy's default generator.

    Returns:
        The fold of each record, from 0 on, shape (R,).

    Raises:
        ValueError: If there are fewer than two folds, or `groups` and `labels` differ in length.
        TypeError: If the labels of a record are a string, whose letters would count as labels, or a group is neither a
            string nor a whole number.

    Example:
        Each fold gets three records, two with AFIB and one with LBBB.

        >>> from ecg_hf.corpora.folds import stratified_folds
        >>> labels = [["AFIB"], ["AFIB", "LBBB"], ["AFIB"], [], ["LBBB"], ["AFIB"]]
        >>> stratified_folds(labels, groups=["p1", "p1", "p2", "p3", "p4", "p5"], num_folds=2).tolist()
        [1, 1, 0, 1, 0, 0]

    Source:
        Sechidis, Tsoumakas, Vlahavas 2011, On the Stratification of Multi-Label Data, algorithm 1; whole patients and
        their order as in Wagner et al. 2020, who leave out patients without a label.
    """
    if num_folds < 2:
        raise ValueError(f"expected at least 2 folds, got num_folds={num_folds}; pass 10 for the usual split")
    owner = _owners(groups, len(labels))
    num_records = np.bincount(owner)
    found = _occurrences(labels, owner)
    draws = np.random.default_rng(seed).random(len(num_records))
    return _deal(found, num_records, draws, num_folds)[owner]


def split_of_fold(fold: int, num_folds: int) -> str:
    """Returns the split of a fold: "test" for the last fold, "validation" for the one before it, "train" for the rest.

    Args:
        fold: Number of the fold, from 0 on.
        num_folds: Number of folds, at least 3.

    Raises:
        ValueError: If there are fewer than three folds, or no such fold.
    """
    if num_folds < 3 or not 0 <= fold < num_folds:
        raise ValueError(f"expected a fold from 0 to num_folds - 1 of at least 3 folds, got {fold} of {num_folds}")
    return {num_folds - 1: "test", num_folds - 2: "validation"}.get(int(fold), "train")


def _owners(groups: Sequence[str | int] | None, num_records: int) -> Integers:
    """Returns the unit of each record; units are numbered in the order of the groups' ids as text."""
    if groups is None:
        return np.arange(num_records)
    if len(groups) != num_records:
        raise ValueError(f"expected a group for each of {num_records} records, got {len(groups)}; pass one for each")
    odd = {kind for kind in set(map(type, groups)) if not issubclass(kind, (str, int, np.integer))}
    if odd:
        names = sorted(kind.__name__ for kind in odd)
        raise TypeError(
            f"expected text or whole numbers as groups, got {names}; give a record without patient its own id"
        )
    ids = list(map(str, groups))
    rank = {name: index for index, name in enumerate(sorted(set(ids)))}
    return np.fromiter(map(rank.__getitem__, ids), np.int64, num_records)


def _occurrences(labels: Sequence[Collection[Hashable]], owner: Integers) -> _Occurrences:
    if any(isinstance(names, (str, bytes)) for names in labels):
        raise TypeError("expected a collection of labels for each record, got a text; wrap it as [text]")
    code = {name: index for index, name in enumerate(sorted({name for names in labels for name in names}, key=repr))}
    lengths = np.fromiter(map(len, labels), np.int64, len(labels))
    label = np.fromiter((code[name] for names in labels for name in names), np.int64, int(lengths.sum()))
    pairs, times = np.unique(np.repeat(owner, lengths) * len(code) + label, return_counts=True)
    unit, label = np.divmod(pairs, max(1, len(code)))
    return _Occurrences(unit, label, times)


def _turns(found: _Occurrences, num_units: int) -> Iterator[tuple[int, Integers]]:
    """Yields each label with its remaining units: the rarest remaining label first, units with most of it first."""
    unit, label, times = found
    order = np.lexsort((unit, -times, label))
    num_labels = int(label.max(initial=-1)) + 1
    label_starts = np.searchsorted(label[order], np.arange(num_labels + 1))
    unit_starts = np.searchsorted(unit, np.arange(num_units + 1))
    left = np.bincount(label, times, num_labels).astype(np.int64)
    free = np.ones(num_units, bool)
    while left.any():
        rarest = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        units = unit[order[label_starts[rarest] : label_starts[rarest + 1]]]
        units = units[free[units]]
        yield rarest, units
        free[units] = False
        gone = _spans(unit_starts[units], unit_starts[units + 1])
        np.subtract.at(left, label[gone], times[gone])


def _spans(starts: Integers, stops: Integers) -> Integers:
    """Concatenates the ranges from each start to its stop."""
    lengths = stops - starts
    offsets: Integers = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return offsets + np.arange(len(offsets))


def _deal(found: _Occurrences, num_records: Integers, draws: NDArray[np.float64], num_folds: int) -> Integers:
    """Returns the fold of each unit; integer counts are compared, not fractional demands, so that ties are exact."""
    num_units = len(num_records)
    starts = np.searchsorted(found.unit, np.arange(num_units + 1)).tolist()
    label, times = found.label.data, found.times.data
    dealt = [[0] * num_folds for _ in range(int(found.label.max(initial=-1)) + 1)]
    sizes = [0] * num_folds
    folds = np.full(num_units, -1, np.int64)
    for rarest, units in _turns(found, num_units):
        for unit in units.tolist():
            folds[unit] = fold = _neediest(dealt[rarest], sizes, draws[unit])
            sizes[fold] += int(num_records[unit])
            span = slice(starts[unit], starts[unit + 1])
            for other, count in zip(label[span], times[span], strict=True):
                dealt[other][fold] += count
    rest = np.flatnonzero(folds < 0)
    for unit in rest[np.argsort(-num_records[rest], kind="stable")].tolist():
        folds[unit] = fold = _neediest(sizes, sizes, draws[unit])
        sizes[fold] += int(num_records[unit])
    return folds


def _neediest(dealt: list[int], sizes: list[int], draw: float) -> int:
    least = min(dealt)
    folds = [fold for fold, count in enumerate(dealt) if count == least]
    if len(folds) > 1:
        fewest = min(sizes[fold] for fold in folds)
        folds = [fold for fold in folds if sizes[fold] == fewest]
    return folds[int(draw * len(folds))]
