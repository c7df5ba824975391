import numpy as np
import pytest
import torch

from ecg_hf.crops import crop_rng, random_crop, tile
from ecg_hf.errors import EcgIntegrityError, EcgUnitsError
from ecg_hf.features import EcgFeatureExtractor
from ecg_hf.loader import PositionedRecords, StepBatches, crop_loader, tile_batches
from ecg_hf.loading import open_corpus
from ecg_hf.prepared import PreparedSplit, check_unit
from ecg_hf.registry import CORPORA, TASKS, load

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


def test_a_batch_holds_the_crops_of_its_positions(split):
    records = PositionedRecords([split], None, None, seed=3)
    loader = crop_loader(records, StepBatches(range(2, 4), 6, 1, 2, 1), 300, seed=3, num_workers=0)
    batches = list(loader)
    assert [batch["signal"].shape for batch in batches] == [(3, 12, 300)] * 2
    for step, batch in zip((2, 3), batches, strict=True):
        for offset, crop in enumerate(batch["signal"]):
            position = 6 * step + 3 + offset
            _, index = records.order[position]
            assert np.array_equal(crop, random_crop(split.signal(index), 300, crop_rng(3, position)))


def test_the_loader_leaves_the_global_generator_alone(split):
    records = PositionedRecords([split], None, None, seed=3)
    state = torch.get_rng_state()
    next(iter(crop_loader(records, StepBatches(range(1), 2, 0, 1, 1), 300, seed=3, num_workers=0)))
    assert torch.equal(torch.get_rng_state(), state)


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
    check_unit(uncertain(dataset_name="code15"), EcgFeatureExtractor(sampling_rate=100))
    assert "the amplitude of code15 is uncertain" in caplog.text
