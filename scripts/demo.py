"""Pretrains a small s4-cpc on made-up ECGs, probes it against the same network untrained, and shows the results.

python scripts/demo.py --output_dir demo
"""

import argparse
import logging
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoFeatureExtractor, AutoModel

from ecg_hf import FinetuningArguments, PretrainingArguments, finetune, load_corpus, pretrain, row_to_signal
from ecg_hf.evaluation.metrics import Score, paired_difference
from ecg_hf.evaluation.results import read_score
from ecg_hf.output.figures import save_figure
from ecg_hf.signals.ecg_plot import plot_ecg

CORPUS = {"num_records": 800, "seed": 7}
FIELDS = [f"{name}={value}" for name, value in CORPUS.items()]


def pretrain_small(folder: Path, max_steps: int) -> Path:
    """Pretrains a tiny pair; with no step at all it stays the same network untrained."""
    return pretrain(
        PretrainingArguments(
            output_dir=str(folder),
            size="63k",
            corpus_fields=FIELDS,
            max_steps=max_steps,
            batch_size=32,
            learning_rate=3e-3,
            warmup_steps=20,
            validation_steps=100,
            max_validation_records=100,
        )
    )


def probe(model: Path, folder: Path) -> Path:
    """Trains a linear readout on a frozen model."""
    return finetune(
        FinetuningArguments(
            model=str(model),
            task="synthetic",
            output_dir=str(folder),
            corpus_fields=FIELDS,
            epochs=10,
            learning_rate=2e-2,
        )
    )


def difference(pretrained: Path, untrained: Path) -> Score:
    """Compares the test predictions of two probes on identical resamples of patients."""
    tables = [pq.read_table(folder / "predictions.parquet").to_pandas() for folder in (pretrained, untrained)]
    ours, other = (table[table["split"] == "test"] for table in tables)
    assert list(ours["record_id"]) == list(other["record_id"])
    targets, scores, others = (
        np.asarray(table.filter(regex=prefix))
        for table, prefix in ((ours, "^target_"), (ours, "^score_"), (other, "^score_"))
    )
    return paired_difference(targets, scores, others, list(ours["patient_id"]))


def main() -> None:
    """Runs the demonstration and prints where everything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("demo"))
    parser.add_argument("--max_steps", type=int, default=200)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    folder, started = arguments.output_dir, time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    print("1/4 pretraining on made-up ECGs")
    model = pretrain_small(folder / "model", arguments.max_steps)
    print("2/4 probing it, and the same network untrained")
    pretrained = probe(model, folder / "probe")
    untrained = probe(pretrain_small(folder / "untrained", 0), folder / "untrained_probe")
    print("3/4 drawing an ECG, and encoding it with AutoModel")
    row = next(iter(load_corpus("synthetic", split="test", streaming=True, **CORPUS)))
    signal, rate = row_to_signal(row), row["sampling_rate"]
    save_figure(plot_ecg(signal, rate, title=row["record_id"]), folder / "ecg.png")
    features = AutoFeatureExtractor.from_pretrained(model)(signal, sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        tokens = AutoModel.from_pretrained(model)(**features).last_hidden_state
    table = (
        "| network | result |\n|---|---|\n"
        f"| pretrained | {read_score(pretrained)} |\n| untrained | {read_score(untrained)} |\n"
        f"| difference | {difference(pretrained, untrained)} |\n"
    )
    (folder / "results.md").write_text(table, encoding="utf-8")
    print(f"4/4 done in {time.perf_counter() - started:.0f} s\n\n{table}")
    print(f"one 10 s ECG becomes tokens of the shape {tuple(tokens.shape)}")
    print(f"model {model}, loss curve {model / 'loss.png'}, ECG {folder / 'ecg.png'}, table {folder / 'results.md'}")
    print(
        f"ROC {pretrained / 'roc.png'}, calibration {pretrained / 'calibration.png'}, "
        f"all figures {pretrained / 'results.json'}"
    )


if __name__ == "__main__":
    main()
