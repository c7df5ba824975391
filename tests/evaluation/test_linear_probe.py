import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForSequenceClassification

from ecg_hf import FinetuningArguments, PretrainingArguments, finetune, pretrain, untrained_twin
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.crops import tile
from ecg_hf.data.opening import open_split
from ecg_hf.evaluation.inputs import read_contract
from ecg_hf.evaluation.probes import linear
from ecg_hf.evaluation.probes.frozen_features import FrozenFeatures
from ecg_hf.evaluation.probes.linear import predict_records, solve_head
from ecg_hf.evaluation.probes.logistic import fit_path
from ecg_hf.evaluation.probes.tiles import FeatureTiles
from ecg_hf.models.heads import LinearHead

CORPUS = ["num_records=120", "sampling_rate=100", "seed=1"]


def corpus(**changes):
    return open_corpus("synthetic", **{"num_records": 120, "sampling_rate": 100, "seed": 1} | changes)


def tiles_of(seed, num_records, targets=None, width=5):
    """Features of one to four tiles a record, with labels that depend on them, on scales that differ a lot."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 5, num_records)
    centres = generator.normal(size=(num_records, width))
    values = np.repeat(centres, counts, axis=0) + 0.5 * generator.normal(size=(counts.sum(), width))
    if targets is None:
        noise = generator.normal(size=(num_records, 2))
        targets = (centres[:, :2] + noise > 0.3).astype(np.float32)
    scales = 10.0 ** np.arange(-2, width - 2)
    features = FrozenFeatures((values * scales + 7).astype(np.float32), np.cumsum(counts) - counts, counts)
    split = SimpleNamespace(records=range(num_records), targets=targets)
    return FeatureTiles(split, features)


def head_of(width, num_labels):
    return LinearHead(SimpleNamespace(hidden_size=width, id2label=dict(enumerate(range(num_labels)))))


def weights_of(tiles):
    return 1 / np.bincount(tiles.record)[tiles.record]


def features_of(tiles):
    return tiles.features.values[tiles.place].astype(np.float64)


def test_the_head_is_the_logistic_regression_that_sklearn_finds_on_all_tiles():
    train, validation = tiles_of(0, 300), tiles_of(1, 100)
    head = head_of(5, 2)
    found = solve_head(head, train, validation, "multi_label_classification")
    scaler = StandardScaler().fit(features_of(train), sample_weight=weights_of(train))
    for label in range(2):
        weights = weights_of(train)
        strength = 1 / (found["penalty"] * weights.sum())
        oracle = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
        oracle.fit(scaler.transform(features_of(train)), train.split.targets[train.record, label], weights)
        expected = oracle.decision_function(scaler.transform(features_of(validation)))
        with torch.no_grad():
            logits = head.linear(torch.from_numpy(features_of(validation)).float())[:, label].numpy()
        assert np.allclose(logits, expected, atol=2e-3)


def test_the_penalty_is_the_one_with_the_least_loss_of_validation_records():
    found = solve_head(head_of(5, 2), tiles_of(0, 60), tiles_of(1, 100), "multi_label_classification")
    losses = found["validation_losses"]
    assert found["penalty"] == found["penalties"][int(np.argmin(losses))] and len(losses) == len(linear.PENALTIES)


def test_the_solution_ends_at_a_point_without_slope():
    train = tiles_of(0, 200)
    features, weights = features_of(train), weights_of(train)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    targets = train.split.targets[train.record]
    for penalty, beta in zip((1e-1, 1e-4), fit_path(features, targets, weights, np.array([1e-1, 1e-4])), strict=True):
        probabilities = 1 / (1 + np.exp(-(features @ beta[:-1] + beta[-1])))
        slopes = features.T @ (weights[:, None] * (probabilities - targets)) / weights.sum() + penalty * beta[:-1]
        assert abs(slopes).max() < 1e-5


def test_unknown_labels_change_nothing():
    known, validation = tiles_of(0, 200), tiles_of(1, 100)
    targets = known.split.targets.copy()
    targets[::3, 0] = np.nan
    some = tiles_of(0, 200, targets)
    kept = np.flatnonzero(~np.isnan(targets[:, 0]))
    inside = np.isin(some.record, kept)
    heads = [head_of(5, 2) for _ in range(2)]
    solve_head(heads[0], some, validation, "multi_label_classification")
    features = StandardScaler().fit_transform(features_of(some))
    path = fit_path(features[inside], targets[some.record][inside][:, :1], weights_of(some)[inside], [1e-2])
    whole = fit_path(features, targets[some.record], weights_of(some), [1e-2])
    assert np.allclose(whole[0, :, 0], path[0, :, 0], atol=1e-4)
    assert torch.isfinite(heads[0].linear.weight).all()


def test_a_label_without_a_second_class_keeps_a_constant_and_is_named():
    targets = tiles_of(0, 80).split.targets.copy()
    targets[:, 1] = 0
    train, validation, head = tiles_of(0, 80, targets), tiles_of(1, 40), head_of(5, 2)
    found = solve_head(head, train, validation, "multi_label_classification")
    assert found["not_fitted"] == [1]
    assert (predict_records(head, validation, "multi_label_classification")[:, 1] < 1e-4).all()


def test_values_are_fitted_as_sklearns_ridge_regression_fits_them():
    generator = np.random.default_rng(3)
    targets = generator.normal(size=(150, 1)).astype(np.float32) * 20 + 50
    train, validation, head = tiles_of(0, 150, targets), tiles_of(1, 50, targets[:50]), head_of(5, 1)
    found = solve_head(head, train, validation, "regression")
    weights = weights_of(train)
    scaler = StandardScaler().fit(features_of(train), sample_weight=weights)
    oracle = Ridge(alpha=found["penalty"] * weights.sum())
    oracle.fit(scaler.transform(features_of(train)), targets[train.record, 0], weights)
    values = oracle.predict(scaler.transform(features_of(validation)))
    expected = [values[validation.record == record].mean() for record in range(50)]
    assert np.allclose(predict_records(head, validation, "regression")[:, 0], expected, atol=1e-2)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    fields = {"size": "20k", "corpus_fields": CORPUS, "sampling_rate": 100.0, "batch_size": 8}
    folder = str(tmp_path_factory.mktemp("pretrained"))
    return pretrain(PretrainingArguments(folder, pair="resnet-jepa", max_steps=3, **fields))


def test_finetune_scores_what_the_saved_head_gives(pretrained, tmp_path):
    arguments = FinetuningArguments(
        str(pretrained), "synthetic", str(tmp_path / "run"), corpus_fields=CORPUS, num_resamples=20
    )
    folder = finetune(arguments)
    assert arguments.solved
    run = json.loads((folder / "run.json").read_text())
    assert run["solution"]["penalty"] in run["solution"]["penalties"] and run["best_epoch"] is None
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    row = table[table["split"] == "test"].iloc[0]
    records = open_split(corpus(), "test", read_contract(str(folder)))
    tiles = tile(records.signal(records.record_ids.index(row["record_id"])), 250)
    with torch.no_grad():
        probabilities = model(torch.from_numpy(np.stack(tiles))).logits.sigmoid().mean(dim=0).numpy()
    assert np.allclose(probabilities, row.filter(like="score_").to_numpy(float), atol=1e-4)


# the untrained twin


def norms_of(model):
    return {name: value for name, value in model.state_dict().items() if "running_" in name}


def test_a_twin_has_the_weights_from_which_its_run_started(tmp_path):
    fields = {"size": "20k", "corpus_fields": CORPUS, "sampling_rate": 100.0, "batch_size": 8, "seed": 5}
    run = {"pair": "s4-jepa", "max_steps": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
    model = pretrain(PretrainingArguments(str(tmp_path), **run, **fields))
    twin, other = untrained_twin(model, corpus()), untrained_twin(model, corpus(), seed=6)
    trained = type(twin).from_pretrained(model)
    assert not twin.training
    for name, value in trained.backbone.named_parameters():
        assert torch.allclose(value, dict(twin.backbone.named_parameters())[name], atol=1e-9), name
    assert any(not torch.equal(a, b) for a, b in zip(twin.parameters(), other.parameters(), strict=True))


def test_the_batch_norms_of_a_twin_know_the_signals(pretrained):
    twin = untrained_twin(pretrained, corpus())
    fresh = norms_of(type(twin)(twin.config).backbone)
    found = norms_of(twin.backbone)
    assert found and all(not torch.equal(found[name], fresh[name]) for name in found)
    loud = norms_of(untrained_twin(pretrained, corpus(noise=20)).backbone)
    first = next(name for name in found if "var" in name)
    assert loud[first].mean() > 2 * found[first].mean()


def test_a_probe_of_the_twin_has_its_backbone_and_no_ancestor(pretrained, tmp_path):
    folder = finetune(
        FinetuningArguments(
            str(pretrained), "synthetic", str(tmp_path), untrained=True, corpus_fields=CORPUS, num_resamples=20
        )
    )
    twin = untrained_twin(pretrained, corpus())
    probe = AutoModelForSequenceClassification.from_pretrained(folder)
    for name, value in twin.backbone.state_dict().items():
        assert torch.equal(probe.backbone.state_dict()[name], value), name
    assert json.loads((folder / "run.json").read_text())["base"] is None


def test_an_untrained_twin_of_a_network_that_is_new_anyway_is_refused():
    with pytest.raises(ValueError, match="mode scratch trains a new network anyway"):
        FinetuningArguments("model", "synthetic", "out", mode="scratch", untrained=True)
    with pytest.raises(ValueError, match="solver must be optimum or adamw, got 'sgd'"):
        FinetuningArguments("model", "synthetic", "out", solver="sgd")
