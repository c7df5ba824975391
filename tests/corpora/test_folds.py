import csv
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from ecg_hf.corpora.folds import split_of_fold, stratified_folds
from places import SHARED

PTBXL = SHARED / "ptb-xl-metadata" / "ptbxl_folds_labels_all.csv"


def draw(num_records, num_labels, num_patients, seed):
    """Records with 0 to 5 labels of falling frequency, of patients with several records each."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, num_labels + 1)
    drawn = rng.choice(num_labels, size=(num_records, 5), p=frequency / frequency.sum()).tolist()
    lengths = rng.integers(0, 6, num_records)
    labels = [[f"L{name}" for name in row[:count]] for row, count in zip(drawn, lengths, strict=True)]
    return labels, [f"P{number}" for number in rng.integers(num_patients, size=num_records)]


def by_the_rule(labels, groups, num_folds, seed):
    """The rule of the docstring word for word, with demands that are left as fractions and everything recounted."""
    units = sorted(set(groups))
    draws = np.random.default_rng(seed).random(len(units))
    has = {unit: Counter() for unit in units}
    for names, unit in zip(labels, groups, strict=True):
        has[unit].update(names)
    size = Counter(groups)
    total = sum(has.values(), Counter())
    demand = {name: [Fraction(count, num_folds)] * num_folds for name, count in total.items()}
    room = [Fraction(len(labels), num_folds)] * num_folds
    home = {}

    def place(unit, wanted):
        folds = [fold for fold in range(num_folds) if wanted[fold] == max(wanted)]
        folds = [fold for fold in folds if room[fold] == max(room[other] for other in folds)]
        home[unit] = fold = folds[int(draws[units.index(unit)] * len(folds))]
        room[fold] -= size[unit]
        for name, count in has[unit].items():
            demand[name][fold] -= count

    while left := sum((has[unit] for unit in units if unit not in home), Counter()):
        rarest = min(sorted(left), key=left.__getitem__)
        of_label = [unit for unit in units if unit not in home and has[unit][rarest]]
        for unit in sorted(of_label, key=lambda unit: -has[unit][rarest]):
            place(unit, demand[rarest])
    for unit in sorted((unit for unit in units if unit not in home), key=lambda unit: -size[unit]):
        place(unit, room)
    return [home[unit] for unit in groups]


@pytest.mark.parametrize("seed", range(12))
def test_folds_are_those_of_the_rule_word_for_word(seed):
    num_folds = 2 + seed % 7
    labels, groups = draw(60 + 20 * seed, num_labels=9, num_patients=40 + 5 * seed, seed=seed)
    found = stratified_folds(labels, groups, num_folds, seed)
    assert found.tolist() == by_the_rule(labels, groups, num_folds, seed)


def test_no_patient_is_in_two_folds_and_sizes_and_labels_are_shared_out_evenly():
    labels, groups = draw(100_000, num_labels=60, num_patients=60_000, seed=0)
    folds = stratified_folds(labels, groups)
    home = {}
    for patient, fold in zip(groups, folds.tolist(), strict=True):
        assert home.setdefault(patient, fold) == fold
    assert np.abs(np.bincount(folds) / 10_000 - 1).max() < 0.01
    counts = Counter((name, fold) for names, fold in zip(labels, folds.tolist(), strict=True) for name in names)
    totals = Counter(name for names in labels for name in names)
    for name, total in totals.items():
        assert all(abs(counts[name, fold] - total / 10) <= max(1, 0.003 * total / 10) for fold in range(10))


def test_every_label_of_ptbxl_has_its_share_of_every_fold():
    if not PTBXL.exists():
        pytest.skip("needs the shared data")
    rows = list(csv.DictReader(PTBXL.read_text().splitlines()))
    sets = ("super_class", "sub_class", "rhythm", "form")
    labels = [[f"{kind}:{name}" for kind in sets for name in row[kind].split(";") if name] for row in rows]
    folds = stratified_folds(labels, [row["patient_id"] for row in rows])
    sizes = np.bincount(folds)
    assert len(rows) == 21_799 and np.abs(sizes / len(rows) * 10 - 1).max() < 0.011
    home = dict(zip((row["patient_id"] for row in rows), folds.tolist(), strict=True))
    assert len(home) == 18_869 and [home[row["patient_id"]] for row in rows] == folds.tolist()
    totals = Counter(name for names in labels for name in names)
    counts, official = (
        Counter((name, fold) for names, fold in zip(labels, found, strict=True) for name in names)
        for found in (folds.tolist(), [int(row["strat_fold"]) - 1 for row in rows])
    )
    assert len(totals) == 5 + 23 + 12 + 19
    for name, total in totals.items():
        worst = max(abs(counts[name, fold] - total / 10) for fold in range(10))
        assert worst <= max(2, 0.042 * total / 10), (name, total, worst)
    ours, theirs = (
        sum(abs(found[name, fold] - total / 10) for name, total in totals.items() for fold in range(10))
        for found in (counts, official)
    )
    assert ours < 0.5 * theirs


def test_the_order_of_records_and_of_their_labels_does_not_matter():
    labels, groups = draw(3000, num_labels=20, num_patients=1500, seed=4)
    folds = stratified_folds(labels, groups)
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = stratified_folds([labels[index][::-1] for index in order], [groups[index] for index in order])
    assert np.array_equal(shuffled, folds[order])


def test_another_seed_gives_other_folds_and_the_same_seed_the_same():
    labels, groups = draw(2000, num_labels=20, num_patients=1500, seed=4)
    first, again, other = (stratified_folds(labels, groups, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.mean(first != other) > 0.5


def test_folds_are_known_numbers_so_that_a_corpus_keeps_its_splits():
    labels, groups = draw(12, num_labels=4, num_patients=9, seed=0)
    assert stratified_folds(labels, groups, 4).tolist() == by_the_rule(labels, groups, 4, 0)
    assert stratified_folds([["a"], ["b"], [], ["a", "b"]], ["4", "3", "2", "1"], 2).tolist() == [0, 0, 1, 1]


def test_records_without_labels_are_shared_out_too():
    folds = stratified_folds([[]] * 95, num_folds=10)
    assert sorted(np.bincount(folds)) == [9] * 5 + [10] * 5


def test_a_patient_with_much_of_a_label_does_not_end_up_where_much_of_it_is():
    labels = [["VT"]] * 6
    folds = stratified_folds(labels, ["a", "a", "a", "b", "c", "d"], 2).tolist()
    assert folds[0] == folds[1] == folds[2] != folds[3]
    assert folds[3] == folds[4] == folds[5]


def test_records_without_groups_each_stand_alone():
    labels, _ = draw(500, num_labels=6, num_patients=1, seed=2)
    alone = stratified_folds(labels, seed=3)
    assert np.array_equal(alone, stratified_folds(labels, [f"{number:04d}" for number in range(500)], seed=3))
    assert max(np.bincount(alone)) - min(np.bincount(alone)) <= 1


def test_whole_numbers_and_their_text_are_the_same_patient():
    labels, _ = draw(200, num_labels=6, num_patients=1, seed=2)
    numbers = np.random.default_rng(0).integers(80, size=200)
    assert np.array_equal(stratified_folds(labels, list(numbers)), stratified_folds(labels, [str(n) for n in numbers]))


def test_no_records_give_no_folds():
    assert stratified_folds([]).shape == (0,)


def test_the_last_folds_validate_and_test():
    assert [split_of_fold(fold, 10) for fold in range(10)] == ["train"] * 8 + ["validation", "test"]
    assert [split_of_fold(fold, 3) for fold in range(3)] == ["train", "validation", "test"]


@pytest.mark.parametrize("fold, num_folds", [(10, 10), (-1, 10), (0, 2)])
def test_a_fold_that_does_not_exist_has_no_split(fold, num_folds):
    with pytest.raises(ValueError, match=rf"expected a fold from 0 .* got {fold} of {num_folds}"):
        split_of_fold(fold, num_folds)


def test_what_would_mix_up_patients_or_labels_is_refused():
    with pytest.raises(TypeError, match=r"got \['NoneType'\]; give a record without patient its own id"):
        stratified_folds([["a"], ["b"]], ["p", None])
    with pytest.raises(TypeError, match=r"got \['float'\]"):
        stratified_folds([["a"], ["b"]], [float("nan"), float("nan")])
    with pytest.raises(TypeError, match=r"expected a collection of labels .* wrap it"):
        stratified_folds(["AFIB", "NORM"])
    with pytest.raises(ValueError, match="a group for each of 2 records, got 1"):
        stratified_folds([["a"], ["b"]], ["p"])
    with pytest.raises(ValueError, match="at least 2 folds, got num_folds=1"):
        stratified_folds([["a"], ["b"]], num_folds=1)
