"""Crops: uniform, reproducible from one integer, and averaged back by record."""

import numpy as np
import pytest

from ecg_hf.data.crops import average_by_record, crop_draws, crop_starts, tile


def ramp(num_leads, num_samples, start=0):
    return np.arange(start, start + num_leads * num_samples, dtype=np.float32).reshape(num_leads, num_samples)


def start_of(length, num_samples, seed, position):
    draws = crop_draws(seed, position, position + 1)
    return int(crop_starts(draws, np.array([length]), num_samples)[0])


def test_every_start_is_equally_likely_and_the_last_one_too():
    starts = crop_starts(crop_draws(0, 0, 5_000), np.full(5_000, 14), 10)
    counts = np.bincount(starts)
    assert len(counts) == 5
    # 4 degrees of freedom; 18.5 is exceeded once in 1,000 times
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 18.5


def test_a_crop_as_long_as_the_signal_starts_with_it():
    assert crop_starts(crop_draws(0, 0, 100), np.full(100, 10), 10).tolist() == [0] * 100


def test_draws_belong_to_seed_and_position_whoever_asks_for_which_range():
    whole = crop_draws(3, 0, 1_000)
    assert len(np.unique(whole)) == 1_000
    for start, stop in [(0, 1), (5, 6), (4, 8), (7, 130), (999, 1_000), (64, 64)]:
        np.testing.assert_array_equal(crop_draws(3, start, stop), whole[start:stop])
    assert not set(crop_draws(4, 0, 1_000)) & set(whole)
    assert crop_draws(2**64 - 1, 2**63, 2**63 + 2).shape == (2,)


def test_draws_are_the_same_on_every_machine():
    assert [start_of(2_400, 600, 2026, position) for position in range(8)] == [1270, 7, 1340, 274, 192, 1516, 1665, 373]


def test_a_long_record_has_starts_all_along():
    starts = crop_starts(crop_draws(1, 0, 4_000), np.full(4_000, 10**7), 600)
    assert starts.min() < 10_000 and starts.max() > 10**7 - 600 - 10_000 and starts.max() <= 10**7 - 600


def test_tiles_follow_each_other_and_the_remainder_is_dropped():
    signal = ramp(2, 25)
    tiles = tile(signal, 10)
    assert tiles.shape == (2, 2, 10)
    np.testing.assert_array_equal(np.concatenate(list(tiles), axis=1), signal[:, :20])


@pytest.mark.parametrize("cut", [tile, lambda signal, num_samples: start_of(signal.shape[1], num_samples, 0, 0)])
def test_a_signal_shorter_than_a_crop_is_refused(cut):
    with pytest.raises(ValueError, match="a crop of 11 samples does not fit a signal of 10; leave the record out"):
        cut(ramp(2, 10), 11)
    with pytest.raises(ValueError, match="at least 1 sample, got 0"):
        cut(ramp(2, 10), 0)


def test_scores_are_averaged_by_record_in_the_order_of_their_first_tile():
    scores = np.array([[1, 0], [3, 1], [10, 10], [5, 2], [20, 20]], dtype=np.float32)
    records, means = average_by_record(scores, ["zebra", "zebra", "ant", "zebra", "ant"])
    assert records.tolist() == ["zebra", "ant"]
    np.testing.assert_allclose(means, [[3, 1], [15, 15]])


def test_averaging_equals_a_loop():
    rng = np.random.default_rng(0)
    ids, scores = rng.integers(0, 40, 500), rng.random((500, 3))
    records, means = average_by_record(scores, ids)
    assert records.tolist() == list(dict.fromkeys(ids.tolist()))
    np.testing.assert_allclose(means, [scores[ids == record].mean(axis=0) for record in records])


def test_averaging_the_tiles_of_one_label_keeps_its_shape():
    assert average_by_record(np.array([1.0, 3.0]), [7, 7])[1].tolist() == [2.0]


def test_averaging_refuses_scores_without_a_record():
    with pytest.raises(ValueError, match="got 2 for 3"):
        average_by_record(np.zeros((3, 1)), ["a", "b"])
