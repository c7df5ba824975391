import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ecg_hf import FinetuningArguments, PretrainingArguments, finetune, pretrain
from ecg_hf.data.crops import tile
from ecg_hf.data.targets import LabelledSplit, read_splits, sort_by_record
from ecg_hf.evaluation.examples import OnePerRecord, Tiles, number_tiles
from ecg_hf.evaluation.finetune import make_classifier, make_examples
from ecg_hf.evaluation.inputs import find_task, open_task_corpus, read_contract
from ecg_hf.evaluation.probes.frozen_features import FrozenFeatures
from ecg_hf.evaluation.probes.tiles import FeatureTiles, Probe, RandomTiles
from ecg_hf.evaluation.trainer import make_trainer, predict

CORPUS = ["num_records=80", "sampling_rate=100", "seed=1"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A model with batch norms and dropout."""
    return pretrain(
        PretrainingArguments(
            output_dir=str(tmp_path_factory.mktemp("pretrained")),
            size="20k",
            model_fields=["hidden_size=16", "num_layers=1"],
            corpus_fields=CORPUS,
            sampling_rate=100.0,
            max_steps=2,
            batch_size=8,
        )
    )


def arguments_for(model, folder, mode="linear", **changes):
    settings = {"epochs": 3, "batch_size": 16, "num_resamples": 20, "learning_rate": 0.02, "mode": mode}
    settings |= {"output_dir": str(folder / "run"), "feature_cache": str(folder / "features"), "solver": "adamw"}
    return FinetuningArguments(model=str(model), task="synthetic", corpus_fields=CORPUS, **settings | changes)


def table_of(folder):
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    return table.filter(regex="score_").to_numpy()


class SignalTiles(OnePerRecord):
    """The signals whose features `RandomTiles` gives."""

    def __getitems__(self, indices):
        chosen = []
        for index in indices:
            tiles = tile(self.split.records.signal(index), 250)
            chosen.append(tiles[int(self.draws()[index] >> np.uint64(32)) * len(tiles) >> 32])
        labels = torch.from_numpy(self.split.targets[indices])
        return {"signal": torch.from_numpy(np.stack(chosen)), "labels": labels}


@pytest.mark.parametrize("mode", ["linear", "frozen"])
def test_a_cached_probe_learns_what_an_uncached_one_learns_from_the_same_tiles(pretrained, tmp_path, mode):
    arguments = arguments_for(pretrained, tmp_path, mode)
    extractor = read_contract(arguments.model)
    task = find_task(arguments)
    task, splits, _ = read_splits(open_task_corpus(arguments, task), task, extractor)
    splits["train"] = sort_by_record(splits["train"])
    found = []
    for cached in (True, False):
        torch.manual_seed(0)
        model = make_classifier(arguments, task)
        before = model.head.state_dict()
        before = {name: value.clone() for name, value in before.items()}
        learner, examples, tiles = make_examples(arguments, model, splits, "train", extractor)
        assert isinstance(learner, Probe) and isinstance(examples, RandomTiles)
        if not cached:
            learner, examples = model, SignalTiles(splits["train"], arguments.seed)
            tiles = {name: Tiles(splits[name], 250) for name in ("validation", "test")}
        trainer = make_trainer(arguments, task, model, learner, examples, tiles["validation"])
        trainer.train()
        scores = [row["eval_macro_auroc"] for row in trainer.state.log_history if "eval_macro_auroc" in row]
        found.append((model.head.state_dict(), predict(trainer, task, tiles["test"]), scores))
    assert any((value - before[name]).abs().max() > 0.02 for name, value in found[0][0].items())
    assert all(torch.allclose(value, found[1][0][name], atol=2e-5) for name, value in found[0][0].items())
    assert np.allclose(found[0][1], found[1][1], atol=1e-5)
    assert found[0][2] == pytest.approx(found[1][2], abs=1e-6)


@pytest.mark.parametrize("mode", ["linear", "frozen"])
def test_a_second_run_reads_the_features_back(pretrained, tmp_path, mode, monkeypatch):
    first = finetune(arguments_for(pretrained, tmp_path, mode))
    monkeypatch.setattr("ecg_hf.evaluation.probes.frozen_features._encode", None)  # cannot be called
    second = finetune(arguments_for(pretrained, tmp_path, mode, output_dir=str(tmp_path / "second")))
    assert np.array_equal(table_of(first), table_of(second))
    changes = {"output_dir": str(tmp_path / "third"), "seed": 1, "learning_rate": 1e-3, "fraction": 0.5}
    other = finetune(arguments_for(pretrained, tmp_path, mode, **changes))
    assert np.abs(table_of(first) - table_of(other)).max() > 1e-3


@pytest.mark.parametrize("mode", ["linear", "frozen"])
def test_sixteen_bits_change_scores_by_rounding_only(pretrained, tmp_path, mode):
    exact, rounded = (
        finetune(
            arguments_for(
                pretrained, tmp_path, mode, output_dir=str(tmp_path / dtype), epochs=10, frozen_features=dtype
            )
        )
        for dtype in ("float32", "float16")
    )
    assert np.abs(table_of(exact) - table_of(rounded)).max() < 2e-3
    assert not np.array_equal(table_of(exact), table_of(rounded))
    aurocs = [
        json.loads((folder / "results.json").read_text())["scores"]["test"]["macro_auroc"]["value"]
        for folder in (exact, rounded)
    ]
    assert aurocs[0] == pytest.approx(aurocs[1], abs=0.01)


def test_without_a_cache_a_probe_learns_from_crops_and_leaves_no_features(pretrained, tmp_path):
    arguments = arguments_for(pretrained, tmp_path, frozen_features="none")
    finetune(arguments)
    assert not (tmp_path / "features").exists()


def made_split(counts):
    records = type("Records", (), {"__len__": lambda self: len(counts), "lengths": 10 * np.array(counts)})()
    return LabelledSplit(records, np.arange(len(counts), dtype=np.float32)[:, None])


def made_features(counts):
    values = np.arange(sum(counts) + 5, dtype=np.float32)[:, None]
    return FrozenFeatures(values, 5 + np.cumsum(counts) - np.array(counts), np.array(counts))


def test_an_epoch_shows_one_tile_of_each_record_and_another_epoch_others():
    counts = [1, 2, 3, 4, 40]
    examples = RandomTiles(made_split(counts), made_features(counts), seed=3)
    seen = [Counter() for _ in counts]
    for epoch in range(2000):
        examples.epoch = epoch
        batch = examples.__getitems__([4, 2, 0, 1, 3])
        assert batch["labels"][:, 0].tolist() == [4, 2, 0, 1, 3]
        for record, feature in zip([4, 2, 0, 1, 3], batch["features"][:, 0].tolist(), strict=True):
            seen[record][feature - examples.features.first[record]] += 1
        if epoch == 7:
            again = RandomTiles(made_split(counts), made_features(counts), seed=3)
            again.epoch = 7
            assert again[2]["features"] == batch["features"][1]  # whatever the batch
            other = RandomTiles(made_split(counts), made_features(counts), seed=4)
            other.epoch = 7
            assert not torch.equal(other.__getitems__([4, 2, 0, 1, 3])["features"], batch["features"])
    for count, tiles in zip(counts, seen, strict=True):
        assert set(tiles) == set(range(count))
        expected = 2000 / count
        assert all(abs(number - expected) < 5 * np.sqrt(expected) + 1 for number in tiles.values())


def test_tiles_of_features_are_those_of_signals():
    counts = [2, 1, 3]
    tiles = FeatureTiles(made_split(counts), made_features(counts))
    batch = tiles.__getitems__(list(range(len(tiles))))
    assert batch["features"][:, 0].tolist() == [5, 6, 7, 8, 9, 10]
    assert batch["record"].tolist() == batch["labels"][:, 0].tolist() == [0, 0, 1, 2, 2, 2]
    record, number = number_tiles(np.array([2, 0, 3]))
    assert record.tolist() == [0, 0, 2, 2, 2] and number.tolist() == [0, 1, 0, 1, 2]
