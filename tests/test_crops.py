"""Crops: uniform, reproducible from one integer, and averaged back by record."""

import numpy as np
import pytest
import torch

from ecg_hf.crops import CropCollator, average_by_record, crop_rng, random_crop, tile


def ramp(num_leads, num_samples, start=0):
    return np.arange(start, start + num_leads * num_samples, dtype=np.float32).reshape(num_leads, num_samples)


def rows(num_rows, **more):
    return [{"signal": ramp(3, 50, 1_000 * i), "position": i, **more} for i in range(num_rows)]


def test_every_start_is_equally_likely_and_the_last_one_too():
    signal = np.arange(14)[None]
    starts = [int(random_crop(signal, 10, crop_rng(0, position))[0, 0]) for position in range(5_000)]
    counts = np.bincount(starts)
    assert len(counts) == 5
    # 4 degrees of freedom; 18.5 is exceeded once in 1,000 times
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 18.5


def test_a_crop_is_a_piece_of_the_signal_with_all_its_leads():
    signal = ramp(12, 100)
    crop = random_crop(signal, 30, crop_rng(1, 2))
    start = int(crop[0, 0])
    np.testing.assert_array_equal(crop, signal[:, start : start + 30])


def test_a_crop_as_long_as_the_signal_is_the_signal():
    np.testing.assert_array_equal(random_crop(ramp(2, 10), 10, crop_rng(0, 0)), ramp(2, 10))


def test_random_numbers_belong_to_seed_and_position():
    draws = {(seed, position): crop_rng(seed, position).integers(2**63) for seed in range(9) for position in range(9)}
    assert len(set(draws.values())) == 81
    assert draws[3, 4] == crop_rng(3, 4).integers(2**63)
    assert crop_rng(2**64 - 1, 2**63).integers(2**63) != crop_rng(0, 0).integers(2**63)


def test_random_numbers_are_the_same_on_every_machine():
    assert [int(crop_rng(2026, position).integers(1_801)) for position in range(8)] == [
        685,
        996,
        1715,
        693,
        1091,
        428,
        591,
        1560,
    ]


def test_tiles_follow_each_other_and_the_remainder_is_dropped():
    signal = ramp(2, 25)
    tiles = tile(signal, 10)
    assert tiles.shape == (2, 2, 10)
    np.testing.assert_array_equal(np.concatenate(list(tiles), axis=1), signal[:, :20])


@pytest.mark.parametrize("cut", [tile, lambda signal, num_samples: random_crop(signal, num_samples, crop_rng(0, 0))])
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


def test_a_crop_does_not_depend_on_the_batch_it_falls_into():
    collate = CropCollator(20, seed=7)
    whole = collate(rows(8))["signal"]
    parts = torch.cat([collate(rows(8)[5:])["signal"], collate(rows(8)[:5][::-1])["signal"]])
    assert torch.equal(parts, whole[[5, 6, 7, 4, 3, 2, 1, 0]])


def test_a_crop_depends_on_seed_and_position():
    signal = ramp(1, 10_000)
    starts = {
        (seed, position): CropCollator(20, seed)([{"signal": signal, "position": position}])["signal"][0, 0, 0].item()
        for seed in (0, 1)
        for position in (0, 1)
    }
    assert len(set(starts.values())) == 4


def test_a_batch_is_float32_of_the_promised_shape():
    batch = CropCollator(20, seed=0)(rows(4, record_id="x", labels=np.array([1.0, np.nan])))
    assert set(batch) == {"signal", "labels"}
    assert (batch["signal"].dtype, tuple(batch["signal"].shape)) == (torch.float32, (4, 3, 20))
    assert (batch["labels"].dtype, tuple(batch["labels"].shape)) == (torch.float32, (4, 2))


def test_class_numbers_stay_whole_numbers_and_rows_without_labels_give_none():
    assert CropCollator(20, seed=0)(rows(2, labels=3))["labels"].tolist() == [3, 3]
    assert CropCollator(20, seed=0)(rows(2, labels=3))["labels"].dtype == torch.int64
    assert set(CropCollator(20, seed=0)(rows(2))) == {"signal"}


def test_a_crop_reaches_the_batch_unchanged():
    batch = CropCollator(20, seed=0)(rows(3))["signal"].numpy()
    for index, crop in enumerate(batch):
        np.testing.assert_array_equal(crop, random_crop(ramp(3, 50, 1_000 * index), 20, crop_rng(0, index)))


def test_rows_that_do_not_fit_together_are_refused():
    collate = CropCollator(20, seed=0)
    with pytest.raises(KeyError, match="row jim has no 'position'"):
        collate([{"signal": ramp(3, 50), "record_id": "jim"}])
    with pytest.raises(ValueError, match=r"the same leads, got \[3, 12\]"):
        collate([*rows(1), {"signal": ramp(12, 50), "position": 1}])
    with pytest.raises(ValueError, match="got 1 of 3"):
        collate([*rows(2), *rows(1, labels=1)])
    with pytest.raises(ValueError, match="does not fit a signal of 10"):
        collate([{"signal": ramp(3, 10), "position": 0}])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_not_a_number_is_refused(value):
    signal = ramp(3, 20)
    signal[1, 5] = value
    with pytest.raises(ValueError, match="row jim has NaN or infinite samples; pass it through an EcgFeatureExtractor"):
        CropCollator(20, seed=0)([{"signal": signal, "position": 0, "record_id": "jim"}])
