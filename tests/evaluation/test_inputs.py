import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecg_hf import FinetuningArguments, PretrainingArguments, finetune, pretrain
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.shards import MANIFEST, Recipe, build_shards, write_manifest
from ecg_hf.data.targets import read_splits
from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.evaluation.inputs import find_task, open_task_corpus, read_contract
from ecg_hf.output.files import read_json, write_json
from ecg_hf.registry import TASKS, load
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

FIELDS = {"num_records": 80, "sampling_rate": 100, "seed": 1}
CORPUS = [f"{name}={value}" for name, value in FIELDS.items()]
EXTRACTOR = EcgFeatureExtractor(sampling_rate=100, num_samples=250, missing_leads="derive")


def arguments_for(folder=None, **changes):
    return FinetuningArguments(**{"model": "m", "task": "synthetic", "output_dir": str(folder)} | changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a built corpus, in two shards in another order than the raw one."""
    folder, corpus = tmp_path_factory.mktemp("built"), open_corpus("synthetic", **FIELDS)
    recipe = Recipe(target_rate=100, num_shards=2, seed=5)
    build_shards(corpus, recipe, folder, [0, 1])
    write_manifest(corpus, recipe, folder)
    return folder


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


@pytest.mark.parametrize("unlabelled", ["drop", "zero"])
def test_a_built_corpus_has_the_records_patients_and_targets_of_the_raw_one(built, unlabelled):
    task = load(TASKS, "synthetic")
    corpora = [open_task_corpus(arguments_for(corpus_fields=CORPUS), task)]
    corpora.append(open_task_corpus(arguments_for(data_dir=str(built)), task))
    raw, other = (read_splits(corpus, task, EXTRACTOR, unlabelled)[1] for corpus in corpora)
    assert raw["train"].records.record_ids != other["train"].records.record_ids  # in another order
    for name in task.splits:
        tables = []
        for split in (raw[name], other[name]):
            patients, targets = split.records.patient_ids, split.targets.tolist()
            rows = zip(split.records.record_ids, patients, targets, split.records.durations(), strict=True)
            tables.append((sorted(rows), split.num_dropped, split.counts()))
        assert tables[0] == tables[1]
        assert split.records.lead_counts().tolist() == raw[name].records.lead_counts().tolist()


@pytest.mark.parametrize("mode, features", [("linear", "float32"), ("linear", "none"), ("finetune", "none")])
def test_a_run_on_a_built_corpus_predicts_what_one_on_raw_data_does(built, pretrained, tmp_path, mode, features):
    settings = {"model": str(pretrained), "mode": mode, "frozen_features": features, "epochs": 2, "batch_size": 16}
    settings |= {"learning_rate": 0.02, "num_resamples": 20, "fraction": 0.8}
    raw = finetune(arguments_for(tmp_path / "raw", corpus_fields=CORPUS, **settings))
    other = finetune(arguments_for(tmp_path / "built", data_dir=str(built), **settings))
    tables = [
        pq.read_table(folder / "predictions.parquet").to_pandas().set_index("record_id").sort_index()
        for folder in (raw, other)
    ]
    assert tables[0].index.equals(tables[1].index) and (tables[0]["split"] == tables[1]["split"]).all()
    for prefix, tolerance in (("target_", 0), ("score_", 2e-5)):
        values = [table.filter(regex=prefix).to_numpy() for table in tables]
        assert np.abs(values[0] - values[1]).max() <= tolerance
    corpora = [json.loads((folder / "run.json").read_text())["corpora"][0] for folder in (raw, other)]
    same = ("name", "config", "splits", "demographics")
    assert [corpora[0][key] for key in same] == [corpora[1][key] for key in same]


def copy_of(built, folder, **changes):
    manifest = read_json(built / MANIFEST)
    for name, value in changes.items():
        (manifest["facts"] if name == "config_of_facts" else manifest)[name.removesuffix("_of_facts")] = value
    for split in manifest["splits"].values():
        for file in split["files"]:
            (folder / file["path"]).parent.mkdir(exist_ok=True)
            (folder / file["path"]).symlink_to(built / file["path"])
    write_json(folder / MANIFEST, manifest)
    return str(folder)


def test_a_built_corpus_of_another_name_or_config_is_refused(built, tmp_path):
    task = load(TASKS, "synthetic")
    with pytest.raises(EcgIntegrityError, match=r"holds synthetic, expected ptbxl, which ptbxl_all asks about"):
        open_task_corpus(arguments_for(data_dir=str(built)), load(TASKS, "ptbxl_all"))
    place = copy_of(built, tmp_path, config_of_facts="odd")
    with pytest.raises(EcgIntegrityError, match=r"was built of the config 'odd', expected 'default'; .* 'odd'"):
        open_task_corpus(arguments_for(data_dir=place), task)
    assert open_task_corpus(arguments_for(data_dir=place, corpus_config="odd"), task).dataset_name == "synthetic"


def test_fields_for_a_builder_are_refused_where_all_is_built(built):
    with pytest.raises(ValueError, match=r"is already built; leave out corpus_fields, got \['seed=1'\]"):
        open_task_corpus(arguments_for(data_dir=str(built), corpus_fields=["seed=1"]), load(TASKS, "synthetic"))


def test_another_rate_than_the_models_is_refused(built):
    corpus = open_task_corpus(arguments_for(data_dir=str(built)), load(TASKS, "synthetic"))
    with pytest.raises(EcgFormatError, match="was built at 100 Hz, expected 240 Hz"):
        read_splits(corpus, load(TASKS, "synthetic"), EcgFeatureExtractor(240, num_samples=600))


def test_records_left_out_of_a_build_are_told(built, tmp_path, caplog):
    open_task_corpus(arguments_for(data_dir=copy_of(built, tmp_path, left_out=3)), load(TASKS, "synthetic"))
    assert "3 records" in caplog.text and "were left out when it was built" in caplog.text


def test_a_folder_of_raw_data_with_a_manifest_of_its_own_is_no_built_corpus(tmp_path):
    write_json(tmp_path / MANIFEST, {"files": []})
    with pytest.raises(ValueError, match="synthetic is computed, not read"):
        open_task_corpus(arguments_for(data_dir=str(tmp_path)), load(TASKS, "synthetic")).entries()
    (tmp_path / MANIFEST).write_text("not JSON")
    with pytest.raises(ValueError, match="synthetic is computed, not read"):
        open_task_corpus(arguments_for(data_dir=str(tmp_path)), load(TASKS, "synthetic")).entries()


def test_a_contract_without_the_length_of_a_crop_is_refused(tmp_path):
    EcgFeatureExtractor(sampling_rate=100).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no num_samples; set it to the samples of a crop"):
        read_contract(str(tmp_path))


def test_a_vocabulary_is_counted_where_the_run_says():
    given = load(TASKS, "georgia")
    assert find_task(arguments_for(task="georgia")) == given and given.vocabulary.counted == "train"
    assert find_task(arguments_for(task="georgia", vocabulary="all")).vocabulary == replace(
        given.vocabulary, counted="all"
    )
    assert find_task(arguments_for(task="ptbxl_all", vocabulary="all")) == load(TASKS, "ptbxl_all")
