"""The whole road on real ECGs: the 430 PTB-XL records that lie beside a checkout of the team, if they do."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForPreTraining

from ecg_hf import PAIRS
from places import ROOT

PTBXL = ROOT.parent / "shared" / "data" / "ptb-xl"

pytestmark = pytest.mark.skipif(not PTBXL.exists(), reason="needs the shared PTB-XL sample")


def run_script(name, *words):
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    model = ["--pair", "s4-cpc", "--size", "200k", "--corpus", "ptbxl", "--corpus_config", "100hz"]
    run_script("pretrain", *model, "--data_dir", PTBXL, "--max_steps", 4, "--output_dir", folder / "model")
    for mode in ("linear", "finetune"):
        task = ["--task", "ptbxl_superdiagnostic", "--corpus_config", "100hz", "--epochs", 2, "--num_resamples", 100]
        places = ["--data_dir", PTBXL, "--model", folder / "model", "--output_dir", folder / mode]
        run_script("finetune", *task, "--mode", mode, *places)
    results = [folder / mode / "results.json" for mode in ("linear", "finetune")]
    publish = ["--folder", folder / "model", "--repo_id", "org/ecg-s4-cpc", "--licence", "apache-2.0"]
    run_script("publish", *publish, "--results", *results, "--to_folder", folder / "published")
    return folder


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_results_count_the_patients_of_the_official_folds_and_what_the_records_cannot_show(road, mode):
    results = json.loads((road / mode / "results.json").read_text())
    counts = results["counts"]
    read = {name: count["num_records"] + count["num_unlabelled_dropped"] for name, count in counts.items()}
    assert sum(read.values()) == 430
    score = results["scores"]["test"]["macro_auroc"]
    assert score["num_records"] == counts["test"]["num_records"] and score["num_patients"] <= score["num_records"]
    assert score["low"] < score["value"] < score["high"]
    assert score["high"] - score["low"] > 0.1
    assert results["labels"] == ["CD", "HYP", "MI", "NORM", "STTC"]


def test_the_card_says_that_430_records_show_little(road):
    card = (road / "published" / "README.md").read_text()
    assert "CC-BY-4.0" in card and "research only" in card.lower()
    assert "fewer than 1,000 patients: these weights show that the software works" in card
    assert "too few to rank models" in card
    for mode in ("linear", "finetune"):
        results = json.loads((road / mode / "results.json").read_text())
        assert f"{results['scores']['test']['macro_auroc']['value']:.3f}" in card


def test_the_published_folder_loads_and_tells_no_path_of_this_machine(road):
    encoder = AutoModel.from_pretrained(road / "published")
    with torch.no_grad():
        assert encoder(torch.zeros(1, 12, 600)).pooler_output.isfinite().all()
    texts = [path.read_text() for path in (road / "published").iterdir() if path.suffix in (".json", ".md")]
    assert not any(str(road) in text or str(PTBXL) in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_goes_the_whole_road(name, tmp_path):
    data = ["--corpus", "ptbxl", "--corpus_config", "100hz", "--data_dir", PTBXL]
    task = ["--task", "ptbxl_superdiagnostic"] if name.endswith("supervised") else []
    steps = ["--max_steps", 2, "--batch_size", 8, "--max_validation_records", 16, "--output_dir", tmp_path / "model"]
    run_script("pretrain", "--pair", name, "--size", "20k", *data, *task, *steps)
    assert type(AutoModelForPreTraining.from_pretrained(tmp_path / "model")) is PAIRS[name]
    assert type(AutoModel.from_pretrained(tmp_path / "model")) is PAIRS[name].backbone_class
    probe = ["--task", "ptbxl_superdiagnostic", "--corpus_config", "100hz", "--data_dir", PTBXL, "--mode", "finetune"]
    few = ["--epochs", 1, "--num_resamples", 10, "--output_dir", tmp_path / "probe"]
    run_script("finetune", *probe, *few, "--model", tmp_path / "model")
    assert json.loads((tmp_path / "probe" / "results.json").read_text())["scores"]["test"]["macro_auroc"]["value"] > 0
