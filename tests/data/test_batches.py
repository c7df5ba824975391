import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.batches import EcgLoader, MixedCrops, Patients, StepBatches, tile_batches
from ecg_hf.data.crops import crop_draws, crop_starts, tile
from ecg_hf.data.prepared import PreparedSplit
from ecg_hf.data.split import check_unit
from ecg_hf.errors import EcgIntegrityError, EcgUnitsError
from ecg_hf.registry import CORPORA, TASKS, load
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

FIELDS = {"num_records": 40, "sampling_rate": 100, "seed": 2}


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("synthetic", **FIELDS)


@pytest.fixture(scope="module")
def split(corpus):
    return PreparedSplit(corpus, "train", EcgFeatureExtractor(sampling_rate=120), 300)


def test_a_prepared_signal_is_what_the_contract_makes_of_the_row(corpus, split):
    extractor = EcgFeatureExtractor(sampling_rate=120)
    rows = list(corpus.as_streaming_dataset(split="train"))
    assert split.record_ids == [row["record_id"] for row in rows]
    assert split.patient_ids == [row["patient_id"] for row in rows]
    for index, row in enumerate(rows):
        assert np.array_equal(split.signal(index), extractor.process_row(row))
        assert split.signal(index).shape == (12, 1200)


def test_another_contract_gives_other_features_not_those_kept_from_before(corpus, split):
    other = PreparedSplit(corpus, "train", EcgFeatureExtractor(sampling_rate=120, normalization="record"))
    assert np.allclose(other.signal(0).std(axis=1), 1, atol=1e-3)
    assert not np.allclose(split.signal(0).std(axis=1), 1, atol=1e-3)


def test_records_shorter_than_a_crop_are_left_out_counted_and_named(corpus, caplog):
    with pytest.raises(EcgIntegrityError, match="has no record"):
        PreparedSplit(corpus, "train", EcgFeatureExtractor(sampling_rate=120), 1201)
    assert "shorter than a crop and left out" in caplog.text


@pytest.fixture(scope="module")
def other(corpus):
    return PreparedSplit(corpus, "test", EcgFeatureExtractor(sampling_rate=120), 300)


def crop_at(crops, position):
    """One crop by the slow road."""
    which, index = crops.order[position]
    draws = crop_draws(crops.seed, position, position + 1)
    if crops.patients is not None:
        index = int(crops.patients[which].draw(np.array([index]), draws)[0])
    signal = crops.splits[which].signal(index)
    start = int(crop_starts(draws, np.array([signal.shape[1]]), crops.num_samples)[0])
    return torch.from_numpy(signal[:, start : start + crops.num_samples].copy())


@pytest.mark.parametrize("sample_by", ["record", "patient"])
@pytest.mark.parametrize("weights", [None, [3, 1]])
def test_a_batch_holds_the_crops_of_its_positions(split, other, weights, sample_by):
    crops = MixedCrops([split, other], 300, 3, weights=weights, sample_by=sample_by)
    for step, batch in enumerate(EcgLoader(crops, StepBatches(range(2, 5), 6, 1, 2, 1)), start=2):
        assert batch["signal"].shape == (3, 12, 300)
        for offset, crop in enumerate(batch["signal"]):
            assert torch.equal(crop, crop_at(crops, 6 * step + 3 + offset))


def test_labels_travel_with_their_crops(split, other):
    targets = [
        np.arange(len(split), dtype=np.float32)[:, None],
        1000 + np.arange(len(other), dtype=np.float32)[:, None],
    ]
    crops = MixedCrops([split, other], 300, 3, weights=[1, 1], targets=targets)
    batch = crops.__getitems__(list(range(20)))
    expected = [1000 * which + index for which, index in (crops.order[position] for position in range(20))]
    assert batch["labels"][:, 0].tolist() == expected
    assert len({which for which, _ in (crops.order[position] for position in range(20))}) == 2


@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(split, num_workers):
    crops = MixedCrops([split], 300, seed=3)
    batches = StepBatches(range(5), 4, 0, 1, 1)
    alone = [batch["signal"] for batch in EcgLoader(crops, batches)]
    shared = [batch["signal"] for batch in EcgLoader(crops, batches, num_workers)]
    assert len(shared) == 5 and all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))


def test_the_loader_leaves_the_global_generator_alone(split):
    state = torch.get_rng_state()
    next(iter(EcgLoader(MixedCrops([split], 300, seed=3), StepBatches(range(1), 2, 0, 1, 1))))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_epoch_of_patients_has_each_once_and_their_records_alike(split):
    people, owners = Patients(split), split.patient_ids
    assert len(people) == len(set(owners))
    crops = MixedCrops([split], 300, 3, sample_by="patient")
    seen = Counter()
    for epoch in range(200):
        start, stop = epoch * len(people), (epoch + 1) * len(people)
        _, patients = crops.order.take(start, stop)
        records = people.draw(patients, crop_draws(3, start, stop))
        assert len({owners[record] for record in records}) == len(people)
        seen.update(records.tolist())
    for patient in set(owners):
        counts = [seen[index] for index, own in enumerate(owners) if own == patient]
        assert sum(counts) == 200 and min(counts) > 0.5 * 200 / len(counts)


def test_patients_cannot_be_drawn_where_they_are_not_known(split, monkeypatch):
    monkeypatch.setattr(split, "table", split.table.map(lambda row: {"patient_id": None}))
    with pytest.raises(EcgIntegrityError, match=r"records of synthetic train have no patient, .* sample by record"):
        MixedCrops([split], 300, 3, sample_by="patient")


def test_a_sample_that_is_not_finite_is_refused_with_its_record(split, monkeypatch):
    crops = MixedCrops([split], 1200, 3)
    bad = crops.order[0][1]
    signal = split.signal
    monkeypatch.setattr(split, "signal", lambda index: signal(index) * (np.nan if index == bad else 1))
    with pytest.raises(EcgIntegrityError, match=f"record {split.record_ids[bad]} of synthetic has samples that are"):
        crops.__getitems__([0, 1])


STOP_EARLY = """
import ecg_hf
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.data.batches import EcgLoader, MixedCrops, StepBatches
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.prepared import PreparedSplit
corpus = open_corpus("synthetic", num_records=40, sampling_rate=100, seed=2)
split = PreparedSplit(corpus, "train", EcgFeatureExtractor(sampling_rate=120), 300)
for batch in EcgLoader(MixedCrops([split], 300, 0), StepBatches(range(1000), 4, 0, 1, 1), 2):
    break
print(tuple(batch["signal"].shape))
"""


def test_stopping_early_does_not_hang_the_interpreter(split):
    done = subprocess.run([sys.executable, "-c", STOP_EARLY], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "(4, 12, 300)" in done.stdout, done.stderr


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_tiles_of_all_ranks_are_all_tiles_once_with_their_own_labels(split, world_size, batch_size):
    targets = split.targets(load(TASKS, "synthetic"))
    targets = np.hstack([targets, np.arange(len(split), dtype=np.float32)[:, None]])
    found = {index: [] for index in range(len(split))}
    for rank in range(world_size):
        for batch in tile_batches([split], [targets], 300, batch_size, rank, world_size):
            assert len(batch["signal"]) <= batch_size
            for crop, label in zip(batch["signal"], batch["labels"], strict=True):
                found[int(label[-1])].append(crop.numpy())
    for index, tiles in found.items():
        assert np.array_equal(np.stack(tiles), tile(split.signal(index), 300))


def test_counts_and_demographics_are_those_of_the_rows(corpus, split):
    rows = list(corpus.as_streaming_dataset(split="train"))
    assert split.counts() == {
        "num_records": len(rows),
        "num_patients": len({row["patient_id"] for row in rows}),
        "num_too_short": 0,
    }
    people = split.demographics()
    assert people["num_female"] + people["num_male"] == len(rows)
    assert people["age_median"] == pytest.approx(np.median([row["age"] for row in rows]), abs=1.0)


def test_a_corpus_without_a_unit_is_refused_where_a_unit_is_needed(tmp_path, caplog):
    z_scores, uncertain = load(CORPORA, "echonext"), load(CORPORA, "code15")
    z_scores.write_example(tmp_path / "echonext")
    corpus = open_corpus("echonext", data_dir=tmp_path / "echonext", cache_dir=tmp_path / "cache")
    with pytest.raises(EcgUnitsError, match=r"echonext holds z-scores, expected mV .* use normalization 'record'"):
        PreparedSplit(corpus, "train", EcgFeatureExtractor(sampling_rate=100))
    assert len(PreparedSplit(corpus, "train", EcgFeatureExtractor(sampling_rate=100, normalization="record"))) > 0
    assert uncertain.unit == "uncertain mV"
    check_unit("code15", uncertain.unit, EcgFeatureExtractor(sampling_rate=100))
    assert "the amplitude of code15 is uncertain" in caplog.text
