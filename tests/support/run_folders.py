"""Run folders as scripts/pretrain.py and scripts/finetune.py leave them, with a model of one tensor."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ecg_hf.signals.record import LEADS

CORPUS: dict[str, Any] = {
    "name": "ptbxl",
    "config": "500hz",
    "data_version": "1.0.3",
    "licence": "CC-BY-4.0",
    "licence_url": "https://creativecommons.org/licenses/by/4.0/",
    "access": "open",
    "homepage": "https://physionet.org/content/ptb-xl/1.0.3/",
    "citation": "Wagner et al. 2020, PTB-XL",
    "patient_level": True,
    "splits": {
        "train": {"num_records": 17418, "num_patients": 15093},
        "validation": {"num_records": 2183, "num_patients": 1889},
    },
    "fingerprint": "ab" * 32,
    "weight": 1.0,
    "demographics": {"num_female": 8345, "num_male": 9073, "age_median": 61.5, "age_low": 2.0, "age_high": 89.0},
}
# A fine-tuning also reads the test split, to score it.
TESTED = {**CORPUS, "splits": {**CORPUS["splits"], "test": {"num_records": 2198, "num_patients": 1902}}}
CONTRACT = {"sampling_rate": 240.0, "leads": list(LEADS), "num_samples": 600, "unit": "mV"}
RUN: dict[str, Any] = {
    "ecg_hf": "0.1.0",
    "kind": "pretraining",
    "pair": "s4-cpc",
    "size": "1m",
    "seed": 3,
    "steps": 1234,
    "examples_seen": 78976,
    "arguments": {"learning_rate": 0.003, "data_dir": "/data/corpora/ptb-xl"},
    "versions": {"torch": "2.13.0"},
    "started": "2026-11-01T12:00:00",
    "seconds": 98.7,
    "parameters": 2932736,
    "flops": 1.7412e9,
    "corpora": [CORPUS],
    "validation_loss": 2.5,
}


def score(value: float | None = 0.925, **changes: Any) -> dict[str, Any]:
    """A score as metrics.Score gives it."""
    bounds = {"low": None, "high": None} if value is None else {"low": value - 0.01, "high": value + 0.01}
    counts = {"num_records": 2198, "num_patients": 1902, "num_undefined": 0}
    return {"value": value, **bounds, **counts, **changes}


def write_run(folder: Path, **changes: Any) -> Path:
    """Writes a pretraining run, its record changed by `changes`."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {**copy.deepcopy(RUN), **changes}
    write(folder / "run.json", run)
    write(folder / "config.json", {"model_type": f"ecg-{run['pair']}", "num_leads": 12, "hidden_size": 8})
    write(folder / "preprocessor_config.json", CONTRACT)
    save_file({"backbone.stem.weight": torch.arange(6.0)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def make_results(base: dict[str, Any] | None = RUN, **changes: Any) -> dict[str, Any]:
    """What a fine-tuning of the run `base` says of its results."""
    common, rare = score(0.95), score(0.71)
    labels = [
        {"label": "NORM", "num_positive": 963, "prevalence": 0.438, "auroc": common, "average_precision": common},
        {"label": "HYP", "num_positive": 12, "prevalence": 0.005, "auroc": rare, "average_precision": rare},
        {"label": "RARE", "num_positive": 0, "prevalence": 0.0, "auroc": score(None), "average_precision": score(None)},
    ]
    results = {
        "task": "ptbxl_superdiagnostic",
        "mode": "finetune" if base else "scratch",
        "base_model": "ecg-hf/s4-cpc-ptbxl-1m",
        "labels": [row["label"] for row in labels],
        "best_epoch": 7,
        "scores": {
            "validation": {"macro_auroc": score(0.93)},
            "test": {"macro_auroc": score(0.925, num_undefined=1), "ece": score(0.031)},
        },
        "per_label": {"test": labels},
        "counts": {"train": {"num_records": 17418}},
        "provenance": {"corpora": [TESTED], "pretraining": base},
        "notes": ["The head has seen few hypertrophies."],
    }
    return {**copy.deepcopy(results), **changes}


def write_finetuned(
    folder: Path, base: dict[str, Any] | None = RUN, corpora: Sequence[dict[str, Any]] = (), **changes: Any
) -> Path:
    """Writes a fine-tuning of the run `base` (None: from scratch), its results changed by `changes`."""
    results = make_results(base, **changes)
    arguments = {"mode": results["mode"], "model": results["base_model"]}
    write_run(folder, kind="finetuning", seed=0, base=base, arguments=arguments, corpora=list(corpora) or [TESTED])
    id2label = {str(index): label for index, label in enumerate(results["labels"])}
    write(folder / "config.json", {**json.loads((folder / "config.json").read_text()), "id2label": id2label})
    write(folder / "results.json", results)
    return folder


def write(path: Path, content: Any) -> Path:
    """Writes JSON."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
