import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

from ecg_hf import FinetuningArguments, PretrainingArguments, finetune, load_corpus, pretrain, row_to_signal
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.prepared import PreparedSplit
from ecg_hf.data.targets import LabelledSplit, keep_fraction
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.examples import EpochOfExamples, RandomCrops, Tiles
from ecg_hf.evaluation.finetune import make_classifier
from ecg_hf.evaluation.trainer import by_record
from ecg_hf.models.backbones.s4 import EcgS4Backbone, EcgS4Config
from ecg_hf.registry import TASKS, load
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

CORPUS = ["num_records=80", "sampling_rate=100", "seed=1"]
TASK = load(TASKS, "synthetic")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
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


def arguments_for(model, folder, **changes):
    settings = {"task": "synthetic", "corpus_fields": CORPUS, "epochs": 2, "batch_size": 16, "num_resamples": 50}
    settings |= {"solver": "adamw"}  # the tests here are about epochs; test_linear_probe is about the optimum
    return FinetuningArguments(model=str(model), output_dir=str(folder), **(settings | changes))


@pytest.fixture(scope="module")
def runs(pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    modes = ("linear", "frozen", "finetune", "scratch")
    return {mode: finetune(arguments_for(pretrained, folder / mode, mode=mode)) for mode in modes}


@pytest.fixture(scope="module")
def labelled():
    extractor = EcgFeatureExtractor(sampling_rate=100, num_samples=250)
    records = PreparedSplit(open_corpus("synthetic", num_records=80, sampling_rate=100, seed=1), "train", extractor)
    return LabelledSplit(records, records.targets(TASK))


def backbone_of(folder):
    weights = load_file(folder / "model.safetensors")
    return {name: value for name, value in weights.items() if name.startswith("backbone.")}


@pytest.mark.parametrize("mode, moves", [("linear", False), ("frozen", False), ("finetune", True), ("scratch", True)])
def test_probes_leave_the_backbone_as_it_was_and_fine_tuning_moves_it(pretrained, runs, mode, moves):
    before, after = backbone_of(pretrained), backbone_of(runs[mode])
    assert set(before) == set(after)
    moved = any(not torch.equal(before[name], after[name]) for name in before)
    assert moved == moves


@pytest.mark.parametrize("mode", ["linear", "frozen", "finetune", "scratch"])
def test_reported_scores_are_those_of_the_saved_predictions(runs, mode):
    results = json.loads((runs[mode] / "results.json").read_text())
    table = pq.read_table(runs[mode] / "predictions.parquet").to_pandas()
    for split in ("validation", "test"):
        rows = table[table["split"] == split]
        aurocs = []
        for label in TASK.labels:
            target = rows[f"target_{label}"]
            if 0 < target.sum() < len(target):
                aurocs.append(roc_auc_score(target, rows[f"score_{label}"]))
        score = results["scores"][split]["macro_auroc"]
        assert score["value"] == pytest.approx(np.mean(aurocs), abs=1e-12)
        assert score["num_undefined"] == len(TASK.labels) - len(aurocs)
        assert score["num_records"] == len(rows) and score["num_patients"] == rows["patient_id"].nunique()
        assert score["low"] <= score["high"]


@pytest.mark.parametrize("mode, head", [("linear", "linear"), ("frozen", "attention"), ("finetune", "linear")])
def test_saved_scores_are_the_mean_probability_over_tiles_of_the_saved_model(runs, mode, head):
    folder = runs[mode]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert model.config.head == head and list(model.config.id2label.values()) == list(TASK.labels)
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    rows = table[table["split"] == "test"].set_index("record_id")
    for row in load_corpus("synthetic", split="test", streaming=True, num_records=80, sampling_rate=100, seed=1):
        signal = extractor(row_to_signal(row), sampling_rate=row["sampling_rate"], return_tensors="pt")["signal"]
        tiles = torch.cat(signal.split(250, dim=2))
        expected = model(tiles).logits.sigmoid().mean(dim=0)
        found = rows.loc[row["record_id"], [f"score_{label}" for label in TASK.labels]].to_numpy(float)
        assert found == pytest.approx(expected.detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("width, heads", [(16, 16), (12, 4), (38, 2), (7, 1)])
def test_an_attention_probe_has_as_many_heads_as_divide_the_width(tmp_path, width, heads):
    EcgS4Backbone(EcgS4Config(hidden_size=width, num_layers=1)).save_pretrained(tmp_path)
    model = make_classifier(arguments_for(tmp_path, tmp_path, mode="frozen"), TASK)
    assert model.config.head_num_heads == model.head.num_heads == heads
    assert model(torch.zeros(2, 12, 100)).logits.shape == (2, len(TASK.labels))


def test_the_best_epoch_on_validation_is_kept(pretrained, tmp_path):
    # With a learning rate that ruins the head after the first epoch, the last epoch is not the best.
    folder = finetune(arguments_for(pretrained, tmp_path, epochs=4, learning_rate=10.0))
    results = json.loads((folder / "results.json").read_text())
    assert 1 <= results["best_epoch"] <= 4
    run = json.loads((folder / "run.json").read_text())
    history = run["validation_scores"]
    assert results["best_epoch"] == 1 + int(np.argmax(history))
    assert results["scores"]["validation"]["macro_auroc"]["value"] == pytest.approx(max(history), abs=1e-6)


def test_results_tell_data_counts_and_lineage(pretrained, runs):
    results = json.loads((runs["linear"] / "results.json").read_text())
    assert results["provenance"]["pretraining"] == json.loads((pretrained / "run.json").read_text())
    assert json.loads((runs["scratch"] / "results.json").read_text())["provenance"]["pretraining"] is None
    counts = results["counts"]
    assert sum(count["num_records"] + count["num_unlabelled_dropped"] for count in counts.values()) == 80
    assert len(results["provenance"]["corpora"][0]["fingerprint"]) == 64
    assert {path.name for path in runs["linear"].iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "run.json",
        "results.json",
        "predictions.parquet",
        "roc.png",
        "calibration.png",
    }


def test_a_larger_share_of_patients_contains_a_smaller_one_and_no_patient_is_cut(labelled):
    everyone = labelled.records.patient_ids
    kept = [set(keep_fraction(labelled, share, seed=3).records.patient_ids) for share in (0.1, 0.5, 0.9)]
    assert kept[0] < kept[1] < kept[2] < set(everyone)
    assert len(kept[1]) == round(0.5 * len(set(everyone)))
    half = keep_fraction(labelled, 0.5, seed=3)
    assert len(half.records) == sum(patient in kept[1] for patient in everyone)
    ids = labelled.records.record_ids
    for record, target in zip(half.records.record_ids, half.targets, strict=True):
        assert np.array_equal(target, labelled.targets[ids.index(record)])


def test_crops_differ_between_epochs_and_repeat_with_the_seed(labelled):
    crops, again = (RandomCrops(labelled, 250, seed=5) for _ in range(2))
    first = crops[0]["signal"]
    assert torch.equal(first, again[0]["signal"])
    crops.epoch = 1
    assert not torch.equal(first, crops[0]["signal"])


def test_tiles_cover_each_record_once_and_average_back_to_it(labelled):
    tiles = Tiles(labelled, 250)
    records = np.array([int(tiles[index]["record"]) for index in range(len(tiles))])
    assert np.array_equal(np.bincount(records), np.full(len(labelled.records), 4))
    means = np.stack([tiles[index]["signal"].numpy().mean(axis=1) for index in range(len(tiles))])
    expected = np.stack([labelled.records.signal(index).mean(axis=1) for index in range(len(labelled.records))])
    assert by_record(means, records) == pytest.approx(expected, abs=1e-5)


def test_targets_equal_the_labels_of_the_rows(labelled):
    for labels, target in zip(labelled.records.rows["labels"], labelled.targets, strict=True):
        names = {label["name"] for label in labels if label["set"] == TASK.label_set}
        assert names == {name for name, value in zip(TASK.labels, target, strict=True) if value}


def cut_before(monkeypatch, epoch):
    """Lets the power fail before an epoch."""
    begin = EpochOfExamples.on_epoch_begin

    def failing(self, args, state, control, **kwargs):
        if round(state.epoch) == epoch:
            raise RuntimeError("power cut")
        begin(self, args, state, control, **kwargs)

    monkeypatch.setattr(EpochOfExamples, "on_epoch_begin", failing)


@pytest.mark.parametrize("mode, damaged", [("finetune", False), ("linear", True), ("frozen", False)])
def test_an_interrupted_run_continues_to_the_same_scores(pretrained, tmp_path, monkeypatch, mode, damaged):
    changes = {"mode": mode, "epochs": 4, "learning_rate": 0.01}
    whole = finetune(arguments_for(pretrained, tmp_path / "whole", **changes))
    cut_before(monkeypatch, 3)
    with pytest.raises(RuntimeError, match="power cut"):
        finetune(arguments_for(pretrained, tmp_path / "cut", **changes))
    monkeypatch.undo()
    if damaged:  # the newest checkpoint was not written to its end
        steps = [int(path.name.partition("-")[2]) for path in (tmp_path / "cut/trainer").iterdir()]
        newest = tmp_path / f"cut/trainer/checkpoint-{max(steps)}"
        os.truncate(newest / "optimizer.pt", 100)
    again = finetune(arguments_for(pretrained, tmp_path / "cut", resume=True, **changes))
    tables = [pq.read_table(folder / "predictions.parquet") for folder in (whole, again)]
    assert tables[0].equals(tables[1])
    scores, others = (json.loads((folder / "results.json").read_text())["scores"] for folder in (whole, again))
    assert scores == others


def test_a_run_that_does_not_resume_forgets_the_checkpoints_of_another(pretrained, tmp_path, monkeypatch):
    cut_before(monkeypatch, 3)
    with pytest.raises(RuntimeError, match="power cut"):
        finetune(arguments_for(pretrained, tmp_path, epochs=4))
    steps = {path.name for path in (tmp_path / "trainer").iterdir()}
    monkeypatch.undo()
    cut_before(monkeypatch, 1)
    with pytest.raises(RuntimeError, match="power cut"):
        finetune(arguments_for(pretrained, tmp_path, epochs=4, seed=1))
    left = [path.name for path in (tmp_path / "trainer").iterdir()]
    assert len(left) == 1 and len(steps) > 0 and left[0] == min(steps | set(left), key=lambda name: int(name[11:]))


def test_a_share_of_patients_is_noted(pretrained, tmp_path):
    folder = finetune(arguments_for(pretrained, tmp_path, fraction=0.5, epochs=1))
    results = json.loads((folder / "results.json").read_text())
    assert "trained on a fraction of 0.5 of the training patients" in results["notes"]


def test_a_validation_split_that_scores_no_label_is_refused(pretrained, tmp_path):
    fields = ["num_records=12", "sampling_rate=100", "seed=5"]
    with pytest.raises(EcgIntegrityError, match=r"no label of synthetic has both classes|no record of split"):
        finetune(arguments_for(pretrained, tmp_path, corpus_fields=fields))
