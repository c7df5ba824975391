import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoConfig

from aged_corpus import Aged
from ecg_hf import FinetuningArguments, PretrainingArguments, finetune, pretrain
from ecg_hf.corpora.index import SPLITS
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.split import count_labels
from ecg_hf.data.targets import (
    LabelledSplit,
    Scale,
    asked_for,
    find_scale,
    labelled_split,
    require_both_classes,
    resolve_labels,
)
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.registry import CORPORA, TASKS
from ecg_hf.tasks.base import Task, Vocabulary
from made_rows import made_corpus, split_of

SYNTHETIC = ["num_records=80", "sampling_rate=100", "seed=1"]
# Registered under made-up names by the test of the whole road.
RULED = Task("ruled", "synthetic", "finding", unlabelled="zero", vocabulary=Vocabulary(min_count=6))
AGES = Task("ages", "aged", "value", ("age",), problem_type="regression", metric="pooled_mae", standardise=True)
VALUES = Task("values", "made", "lab", ("Na", "K"), problem_type="regression", metric="pooled_mae", standardise=True)


def test_outputs_by_the_default_rule_do_not_depend_on_what_is_tested():
    train = [[("finding", "AFIB")]] * 12 + [[("finding", "PVC")]] * 9
    task = replace(RULED, vocabulary=Vocabulary())
    for other in ([], [[("finding", "PVC")]] * 50, [[("finding", "NEW")]] * 50):
        corpus, splits = made_corpus({"train": train, "test": [*other, [("finding", "AFIB")]]})
        assert resolve_labels(task, [corpus], [splits["train"]]).labels == ("AFIB",)
    counted_over_all = replace(task, vocabulary=Vocabulary(counted="all"))
    assert resolve_labels(counted_over_all, [corpus], [splits["train"]]).labels == ("AFIB", "NEW")


def test_a_vocabulary_counts_records_by_name_in_alphabetical_order_and_other_sets_not_at_all():
    twice = [("finding", "B"), ("finding", "B"), ("finding", "a"), ("other", "C")]
    corpus, splits = made_corpus({"train": [twice] * 9 + [[("finding", "A")]] * 10 + [[]]})
    rows = splits["train"].rows
    assert count_labels(rows, RULED) == {"B": 9, "a": 9, "A": 10}

    def outputs(**rule):
        return resolve_labels(replace(RULED, vocabulary=Vocabulary(**rule)), [corpus], [splits["train"]]).labels

    assert outputs() == ("A",)
    assert outputs(min_count=9) == outputs(min_count=0) == ("A", "B", "a")
    assert outputs(min_count=9, prefix="a") == ("a",)
    assert outputs(min_count=9, without_prefix="A") == ("B", "a")
    with pytest.raises(EcgIntegrityError, match=r"labels of 'finding' in at least 11 records \(train\) for ruled"):
        outputs(min_count=11)


def test_a_flag_of_value_zero_is_known_to_be_absent_and_counts_for_no_output():
    task = replace(RULED, labels=("icu", "death"), vocabulary=None, absent="unknown")
    split = split_of("train", [[("finding", "icu", 1.0), ("finding", "death", 0.0)], [("finding", "icu", 0.0)], []])
    assert np.array_equal(split.targets(task), [[1, 0], [0, np.nan], [np.nan, np.nan]], equal_nan=True)
    assert count_labels(split.rows, task) == {"icu": 1, "death": 0}
    assert np.array_equal(split.targets(replace(task, absent="negative")), [[1, 1], [1, 0], [0, 0]])
    kept = labelled_split(split, task, "drop")
    assert kept.num_dropped == 1 and kept.records.record_ids == ["0", "1"]


def test_a_record_with_rare_labels_only_is_kept_with_zeros_and_one_without_any_is_dropped():
    task = replace(RULED, labels=("AFIB",), vocabulary=None)
    split = split_of("train", [[("finding", "AFIB")], [("finding", "rare")], [("other", "AFIB")], []])
    assert labelled_split(split, task, "drop").targets.tolist() == [[1], [0]]
    assert labelled_split(split, task, "zero").targets.tolist() == [[1], [0], [0], [0]]
    with pytest.raises(EcgIntegrityError, match="no record of split 'test' has a label of ruled"):
        labelled_split(split_of("test", [[]]), task, "drop")


def test_labels_of_many_records_are_read_in_parts_without_a_shift(monkeypatch):
    monkeypatch.setattr("ecg_hf.data.split.BATCH_SIZE", 7)
    rng = np.random.default_rng(0)
    labels = [[("finding", f"L{name}") for name in rng.permutation(5)[: rng.integers(0, 4)]] for _ in range(100)]
    split = split_of("train", labels).select(list(range(99, -1, -2)))
    task = replace(RULED, labels=tuple(f"L{name}" for name in range(5)), vocabulary=None)
    expected = [[float(("finding", name) in labels[index]) for name in task.labels] for index in range(99, -1, -2)]
    assert split.targets(task).tolist() == expected
    assert split.has("finding", "L3").tolist() == [row[3] == 1 for row in expected]
    assert split.has("finding").tolist() == [any(row) for row in expected]


def test_filters_leave_out_the_short_the_incomplete_and_those_without_what_is_required(caplog):
    labels = [[("set", "ed"), ("set", "first")], [("set", "ed")], [("set", "first")], [("set", "ed")], [("set", "ed")]]
    facts = {"durations": [10.0, 60.0, 10.0, 9.998, 30.0], "leads": [12, 12, 12, 12, 9]}
    task = replace(
        RULED, min_duration_s=10, min_leads=12, required=(("set", "ed"),), required_to_evaluate=(("set", "first"),)
    )
    train = asked_for(split_of("train", labels, **facts), task)
    assert train.record_ids == ["0", "1"] and train.counts()["num_unfit"] == 3
    test = asked_for(split_of("test", labels, **facts), task)
    assert test.record_ids == ["0"] and test.counts()["num_unfit"] == 4
    assert "1 records of made train are left out, shorter than 10 s: ['3']" in caplog.text
    assert "left out, with fewer than 12 leads: ['4']" in caplog.text
    assert "left out, without set ed: ['2']" in caplog.text
    assert (
        asked_for(split_of("test", labels), replace(RULED, required=(("set", ""),))).counts().get("num_unfit") is None
    )
    with pytest.raises(EcgIntegrityError, match="ruled asks for no record of split 'train'"):
        asked_for(split_of("train", labels), replace(RULED, min_duration_s=11))


def test_values_are_scaled_by_the_training_records_and_trimmed_by_their_quantiles():
    rng = np.random.default_rng(0)
    sodium, potassium = rng.normal(140, 3, 1000).astype(np.float32), rng.normal(4, 0.5, 1000).astype(np.float32)
    potassium[0] = 400  # a typing error
    labels = [[("lab", "Na", float(a)), ("lab", "K", float(b))] for a, b in zip(sodium, potassium, strict=True)]
    labels[5] = [("lab", "Na", 139.0)]
    train = split_of("train", labels)
    plain, trimmed = VALUES, replace(VALUES, trim=0.01)
    targets = labelled_split(train, plain, "drop", find_scale(train.targets(plain), plain)).targets
    known = ~np.isnan(targets)
    assert known.sum(axis=0).tolist() == [1000, 999]
    assert np.nanmean(targets, axis=0) == pytest.approx([0, 0], abs=1e-4)
    assert np.nanstd(targets, axis=0) == pytest.approx([1, 1], abs=1e-4)
    scale = find_scale(train.targets(trimmed), trimmed)
    inner = np.sort(np.delete(potassium, 5))[10:-10]
    assert scale.as_dict(VALUES.labels)["K"]["mean"] == pytest.approx(inner.mean(), abs=2e-3)
    assert scale.std[1] < 0.5 and np.isnan(scale.apply(train.targets(trimmed))[0, 1])
    test = split_of("test", [[("lab", "Na", 146.0), ("lab", "K", 400.0)], [("lab", "K", 4.0)]])
    found = labelled_split(test, trimmed, "drop", scale).targets
    assert np.isnan(found).tolist() == [[False, True], [True, False]]
    assert found[0, 0] == pytest.approx((146 - scale.mean[0]) / scale.std[0], abs=1e-5)


def test_a_value_that_never_differs_cannot_be_scaled():
    train = split_of("train", [[("lab", "Na", 140.0)], [("lab", "K", 4.0)], [("lab", "K", 5.0)]])
    with pytest.raises(EcgIntegrityError, match=r"several values of 'Na' among the training records of values, got 1"):
        find_scale(train.targets(VALUES), VALUES)
    assert find_scale(train.targets(VALUES), replace(VALUES, standardise=False)) is None
    unscaled = labelled_split(train, replace(VALUES, standardise=False), "drop").targets
    assert np.array_equal(unscaled, [[140, np.nan], [np.nan, 4], [np.nan, 5]], equal_nan=True)


def test_a_validation_split_without_any_value_is_refused():
    split = LabelledSplit(split_of("validation", [[]]), np.full((1, 2), np.nan, np.float32))
    with pytest.raises(EcgIntegrityError, match="no record of split 'validation' has a value of values"):
        require_both_classes(split, VALUES)


def test_bounds_that_do_not_exist_are_not_written_down():
    ends = np.array([np.inf], np.float32)
    scale = Scale(-ends, ends, np.array([140], np.float32), np.array([3], np.float32))
    assert json.loads(json.dumps(scale.as_dict(["Na"]))) == {"Na": {"mean": 140.0, "std": 3.0}}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("pretrained"))
    fields = ["hidden_size=16", "num_layers=1"]
    options = {"model_fields": fields, "corpus_fields": SYNTHETIC, "max_steps": 1, "batch_size": 4}
    return pretrain(PretrainingArguments(output_dir=folder, size="20k", sampling_rate=100.0, **options))


def test_a_vocabulary_decides_the_outputs_of_a_finetuned_model(pretrained, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "ruled", f"{__name__}:RULED")
    corpus = open_corpus("synthetic", num_records=80, sampling_rate=100, seed=1)
    corpus.download_and_prepare()
    counts = {
        split: Counter(name for own in corpus.as_dataset(split)["labels"] for name in {label["name"] for label in own})
        for split in SPLITS
    }
    expected = {
        "train": sorted(name for name, count in counts["train"].items() if count >= 6),
        "all": sorted(name for name, count in sum(counts.values(), Counter()).items() if count >= 6),
    }
    assert expected["train"] != expected["all"]
    for rule, labels in expected.items():
        folder = tmp_path / rule
        options = {"vocabulary": rule, "corpus_fields": SYNTHETIC, "epochs": 1, "num_resamples": 10}
        finetune(FinetuningArguments(model=str(pretrained), task="ruled", output_dir=str(folder), **options))
        assert list(AutoConfig.from_pretrained(folder).id2label.values()) == labels
        results = json.loads((folder / "results.json").read_text())
        assert results["labels"] == labels and results["counts"]["train"]["num_unlabelled_dropped"] == 0
        table = pq.read_table(folder / "predictions.parquet").to_pandas()
        test = table[table["split"] == "test"]
        assert [int(test[f"target_{name}"].sum()) for name in labels] == [counts["test"][name] for name in labels]


def test_a_regression_is_learned_on_the_scale_of_its_training_records(pretrained, tmp_path, monkeypatch):
    monkeypatch.setitem(CORPORA, "aged", f"{Aged.__module__}:Aged")
    monkeypatch.setitem(TASKS, "ages", f"{__name__}:AGES")
    options = {"corpus_fields": SYNTHETIC, "epochs": 1, "num_resamples": 10}
    finetune(FinetuningArguments(model=str(pretrained), task="ages", output_dir=str(tmp_path), **options))
    entries = Aged(num_records=80, sampling_rate=100, seed=1).read_index(None)
    ages = {entry.record_id: entry.age for index, entry in enumerate(entries) if index % 3}
    train = np.array([entry.age for entry in entries if entry.split == "train" and entry.record_id in ages])
    scale = json.loads((tmp_path / "run.json").read_text())["target_scale"]
    assert scale == {"age": {"mean": pytest.approx(train.mean()), "std": pytest.approx(train.std())}}
    table = pq.read_table(tmp_path / "predictions.parquet").to_pandas()
    told = {entry.record_id for entry in entries if entry.split != "train"} & set(ages)
    assert set(table["record_id"]) == told
    expected = [(ages[record] - train.mean()) / train.std() for record in table["record_id"]]
    assert table["target_age"].tolist() == pytest.approx(expected, abs=1e-5)
    results = json.loads((tmp_path / "results.json").read_text())
    test = table[table["split"] == "test"]
    score = results["scores"]["test"]["pooled_mae"]["value"]
    assert score == pytest.approx(np.mean(abs(test["target_age"] - test["score_age"])), abs=1e-6)
