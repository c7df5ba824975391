"""The order of records: whole epochs, exact shares, and the same positions whoever asks."""

import hashlib

import numpy as np
import pytest

from ecg_hf.data.record_order import RecordOrder, positions_of_step

MIXED = ([7, 50, 400], [0.5, 0.3, 0.2])


def pairs(order, start, stop):
    return list(zip(*(part.tolist() for part in order.take(start, stop)), strict=True))


@pytest.mark.parametrize("sizes", [[1], [2], [300], [100, 7, 193]])
def test_every_record_comes_exactly_once_an_epoch(sizes):
    order = RecordOrder(sizes, None, seed=3)
    everything = [(corpus, record) for corpus, size in enumerate(sizes) for record in range(size)]
    for epoch in (0, 1, 12_345):
        start = epoch * sum(sizes)
        assert sorted(pairs(order, start, start + sum(sizes))) == everything


def test_the_largest_seeds_differ_too():
    orders = [RecordOrder([50], None, seed).take(0, 50)[1].tolist() for seed in (2**64 - 1, 2**64 - 2, 2**63, 0)]
    assert len({tuple(order) for order in orders}) == 4


def test_every_corpus_of_a_mixture_walks_through_whole_epochs():
    order = RecordOrder(*MIXED, seed=3)
    corpora, records = order.take(0, 20_000)
    for corpus, size in enumerate(MIXED[0]):
        walk = records[corpora == corpus]
        for epoch in walk[: len(walk) // size * size].reshape(-1, size):
            assert sorted(epoch) == list(range(size))


@pytest.mark.parametrize(
    "weights", [[0.5, 0.3, 0.2], [1, 1, 1], [5000, 1, 1], [10_471_531, 968_680, 345_779], [0.1] * 3]
)
def test_shares_are_exact_to_one_record_after_every_block(weights):
    order = RecordOrder([10, 10, 10], weights, seed=0)
    size = order._block_size
    corpora, _ = order.take(0, 12 * size)
    counts = np.cumsum(np.eye(3, dtype=int)[corpora], axis=0)[size - 1 :: size]
    exact = np.arange(1, 13)[:, None] * size * np.array(weights) / sum(weights)
    assert np.abs(counts - exact).max() <= 1


def test_shares_hold_far_into_a_run_without_reading_what_came_before():
    order = RecordOrder([10, 10], [1, 2], seed=0)
    start = 10**12 // 1024 * 1024
    assert order._drawn_before(start // 1024) == pytest.approx([start / 3, 2 * start / 3], abs=1)
    assert len(order.take(start, start + 3)[0]) == 3


@pytest.mark.parametrize("args", [([300], None), ([5, 9], None), MIXED])
def test_random_access_equals_one_long_walk(args):
    order = RecordOrder(*args, seed=1)
    walk = pairs(order, 0, 3_000)
    assert [RecordOrder(*args, seed=1)[position] for position in (2_999, 0, 1_024, 1_023)] == [
        walk[position] for position in (2_999, 0, 1_024, 1_023)
    ]
    assert [order[position] for position in range(950, 1_100)] == walk[950:1_100]


@pytest.mark.parametrize("args", [([300], None), MIXED])
@pytest.mark.parametrize("position", [0, 1, 299, 300, 1_024, 2_111])
def test_a_resumed_run_goes_on_where_the_first_one_stopped(args, position):
    assert pairs(RecordOrder(*args, seed=5), position, 2_500) == pairs(RecordOrder(*args, seed=5), 0, 2_500)[position:]


@pytest.mark.parametrize("args", [([300], None), MIXED])
def test_seeds_give_different_orders(args):
    first, second = RecordOrder(*args, seed=0).take(0, 300), RecordOrder(*args, seed=1).take(0, 300)
    assert np.mean(first[1] == second[1]) < 0.1


def test_epochs_differ():
    _, records = RecordOrder([300], None, seed=0).take(0, 3_000)
    epochs = records.reshape(10, 300)
    agreement = [np.mean(epochs[i] == epochs[j]) for i in range(10) for j in range(i)]
    assert max(agreement) < 0.05  # 1/300 is expected


def test_every_record_is_as_likely_in_every_place():
    _, records = RecordOrder([4], None, seed=0).take(0, 4 * 6_000)
    orders = np.unique(records.reshape(-1, 4) @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(orders) == 24
    # 23 degrees of freedom; 49.7 is exceeded once in 1,000 times
    assert ((orders - 250) ** 2 / 250).sum() < 49.7


def test_corpora_of_a_mixture_are_shuffled_within_a_block():
    corpora, _ = RecordOrder([10, 10], [1, 1], seed=0).take(0, 1_024)
    assert 450 < np.count_nonzero(np.diff(corpora)) < 575  # 512 changes are expected, 16 is their deviation
    assert (corpora != RecordOrder([10, 10], [1, 1], seed=0).take(1_024, 2_048)[0]).mean() > 0.4


@pytest.mark.parametrize(
    ("args", "digest"),
    [
        (([1_000], None), "4b545b75610ba07a"),
        (([1_000, 10, 77], [0.7, 0.1, 0.2]), "2843ec756516a3e3"),
    ],
)
def test_the_order_is_the_same_on_every_machine_and_for_ever(args, digest):
    corpora, records = RecordOrder(*args, seed=2026).take(0, 100)
    text = " ".join(f"{corpus}:{record}" for corpus, record in zip(corpora, records, strict=True))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_a_million_records_take_4_megabytes():
    order = RecordOrder([1_000_000], None, seed=0)
    assert len(np.unique(order.take(0, 1_000)[1])) == 1_000
    assert order._permutations[0][1].nbytes == 4_000_000


@pytest.mark.parametrize("args", [([300], None), MIXED])
@pytest.mark.parametrize("start", [0, 1_024, 5])
def test_an_empty_range_is_empty(args, start):
    assert pairs(RecordOrder(*args, seed=0), start, start) == []


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 1), (2, 1), (1, 2), (4, 2), (8, 1), (3, 4)])
def test_ranks_and_micro_batches_share_out_the_same_global_batch(world_size, accumulation):
    for step in (0, 1, 1_000_000):
        parts = [positions_of_step(step, 48, rank, world_size, accumulation) for rank in range(world_size)]
        assert {len(part) for part in parts} == {accumulation}
        union = [position for part in parts for micro_batch in part for position in micro_batch]
        assert sorted(union) == list(range(step * 48, step * 48 + 48))


def test_two_ranks_see_the_micro_batches_of_one_rank_with_accumulation():
    alone = positions_of_step(5, 48, 0, 1, accumulation=4)
    together = [positions_of_step(5, 48, rank, 2, accumulation=2) for rank in (0, 1)]
    assert alone == (together[0][0], together[1][0], together[0][1], together[1][1])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([], None, 0), "at least one corpus"),
        (([3, 0], None, 0), r"at least one record, got \[3, 0\]"),
        (([3], None, -1), "seed must lie in 0 to 2"),
        (([3], None, 2**64), "seed must lie in 0 to 2"),
        (([3, 3], [1.0], 0), "one weight for each of 2 corpora, got 1"),
        (([3, 3], [1.0, 0.0], 0), "leave out corpora not to be drawn"),
        (([3, 3], [1.0, -1.0], 0), "positive and finite"),
        (([3, 3], [1.0, float("nan")], 0), "positive and finite"),
        (([3, 3], [1.0, 1e-9], 0), "one draw in a million"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        RecordOrder(*args)


@pytest.mark.parametrize("positions", [(-1, 0), (5, 4)])
def test_positions_before_the_start_are_refused(positions):
    with pytest.raises(ValueError, match="positions count from 0"):
        RecordOrder([3], None, 0).take(*positions)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, 50, 0, 4), "does not divide among 4 processes x 1 micro-batches; choose a multiple of 4"),
        ((0, 0, 0, 1), "a batch of 0"),
        ((0, 8, 2, 2), "rank 2 of 2"),
        ((0, 8, -1, 2), "rank -1 of 2"),
        ((-1, 8, 0, 2), "step -1"),
        ((0, 8, 0, 1, 0), "accumulation 0"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        positions_of_step(*args)
