"""Pretrains a small model on synthetic ECGs and compares it with its nulls, within four minutes on two cores.

  ecg-hf demo
  ecg-hf demo --output_dir OUT --max_steps 20

A pretrained model has to beat two things: its untrained twin (the same network before the first step, with batch-norm
statistics of the same signals) and features that need no network. Each is judged by the same linear probe, solved to
its optimum. --verbose shows all logs.
"""

import shutil
import sys
import textwrap
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import Stages, prepare_console
from ecg_hf.output.text_table import make_table
from ecg_hf.training.flags import FlagParser

if TYPE_CHECKING:
    from ecg_hf.data.targets import LabelledSplit
    from ecg_hf.evaluation.bootstrap import Values
    from ecg_hf.tasks.base import Task

CORPUS: dict[str, Any] = {"num_records": 800, "seed": 7}
FIELDS = [f"{name}={value}" for name, value in CORPUS.items()]
_NAMES = {"untrained twin": "its untrained twin", "simple features": "features that need no network"}
# Chosen by benchmarks/demo_settings.py.
SETTINGS: dict[str, Any] = {
    "pair": "s4-cpc",
    "size": "63k",
    "batch_size": 32,
    "learning_rate": 3e-3,
    "warmup_steps": 20,
    "validation_steps": 100,
    "max_validation_records": 100,
}


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the demonstration and prints its results and where they are."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    parser.add_argument("--output_dir", type=Path, default=Path("demo"), help="folder for models, results and pictures")
    parser.add_argument("--max_steps", type=int, default=300, help="steps of pretraining")
    parser.add_argument("--seed", type=int, default=0, help="seed of the network's weights and of the crops")
    prepare_console(verbose=verbose)
    return run_reporting(parser.prog, lambda: _run(parser.parse_args(words)), verbose=verbose)


def _run(arguments: Namespace) -> int:
    folder, started, stages = arguments.output_dir, time.perf_counter(), Stages(4)
    for name in ("model", "probe", "untrained"):
        shutil.rmtree(folder / name, ignore_errors=True)
    stages.begin(f"pretraining {SETTINGS['pair']} ({SETTINGS['size']}) on {CORPUS['num_records']} synthetic ECGs")
    model = pretrain_small(folder / "model", arguments.max_steps, arguments.seed)
    stages.begin("probing it, and its untrained twin")
    probes = {name: probe(model, folder / name, name == "untrained") for name in ("probe", "untrained")}
    stages.begin("probing hand-crafted features")
    table, figures = compare(probes, model)
    stages.begin("drawing an ECG")
    try:
        draw(folder / "ecg.png")
    except ImportError as error:
        print(f"no picture: {error}")
    (folder / "results.md").write_text(figures, encoding="utf-8")
    print(f"\n{table}")
    for name, path in {
        "model": model,
        "loss curve": model / "loss.png",
        "an ECG": folder / "ecg.png",
        "ROC curves": probes["probe"] / "roc.png",
        "all figures": probes["probe"] / "results.json",
        "this table": folder / "results.md",
    }.items():
        if path.exists():
            print(f"{name + ':':13}{path}")
    print(f"done in {time.perf_counter() - started:.0f} s")
    return 0


def pretrain_small(folder: Path, max_steps: int, seed: int = 0) -> Path:
    """Pretrains the small model of the demonstration."""
    from ecg_hf.training.arguments import PretrainingArguments
    from ecg_hf.training.pretrain import pretrain

    arguments = {"corpus_fields": FIELDS, "max_steps": max_steps, "seed": seed, **SETTINGS}
    return pretrain(PretrainingArguments(str(folder), **arguments))


def probe(model: Path, folder: Path, untrained: bool) -> Path:
    """Fits a linear probe to the model or to its untrained twin."""
    from ecg_hf.evaluation.arguments import FinetuningArguments
    from ecg_hf.evaluation.finetune import finetune

    return finetune(
        FinetuningArguments(
            str(model),
            task="synthetic",
            output_dir=str(folder),
            untrained=untrained,
            corpus_fields=FIELDS,
            feature_cache=str(folder.parent / "features"),
        )
    )


def compare(probes: dict[str, Path], model: Path) -> tuple[str, str]:
    """Compares the probes on identical resamples of the test patients.

    Returns:
        The table for a terminal, and the same in Markdown.
    """
    from ecg_hf.evaluation.metrics import evaluate_predictions, paired_difference

    labels, targets, patients, scores = read_scores(probes, model)
    rows = [["", "macro AUROC", "95 % interval"]]
    for name, found in scores.items():
        overall = evaluate_predictions(targets, found, patients, label_names=labels)["overall"]["macro_auroc"]
        rows.append([name, f"{overall['value']:.3f}", f"{overall['low']:.3f} to {overall['high']:.3f}"])
    first, *others = scores
    readings = []
    for name in others:
        gain = paired_difference(targets, scores[first], scores[name], patients)
        rows.append([f"{first} - {name}", f"{gain.value:+.3f}", f"{gain.low:+.3f} to {gain.high:+.3f}"])
        verdict = "beats" if gain.low > 0 else "loses to" if gain.high < 0 else "cannot be told from"
        readings.append(f"The {first} network {verdict} {_NAMES[name]}.")
    where = f"Linear probes of {len(labels)} findings, {len(targets)} test records of {len(set(patients))} patients."
    where = " ".join([where, *readings])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    markdown = "\n".join([lines[0], "|---|---|---|", *lines[1:]])
    text = textwrap.fill(where, 80)
    return f"{make_table(rows)}\n{text}\n", f"{markdown}\n\n{where}\n"


def read_scores(
    probes: dict[str, Path], model: Path
) -> tuple[tuple[str, ...], "Values", list[str], dict[str, "Values"]]:
    """Reads labels, targets and patients of the test records, and their scores by the name of the model."""
    import numpy as np
    import pyarrow.parquet as pq

    from ecg_hf.evaluation.inputs import read_contract
    from ecg_hf.evaluation.probes.simple import probe_simple_features

    tables = {}
    for name, folder in probes.items():
        table = pq.read_table(folder / "predictions.parquet").to_pandas()
        tables[name] = table[table["split"] == "test"].reset_index(drop=True)
    table = tables["probe"]
    task, splits = open_task(model)
    assert list(table["record_id"]) == list(tables["untrained"]["record_id"]) == splits["test"].records.record_ids
    simple = probe_simple_features(task, splits, read_contract(str(model)).sampling_rate)["test"]
    scores = {"pretrained": "probe", "untrained twin": "untrained"}
    found = {name: np.asarray(tables[key].filter(regex="^score_")) for name, key in scores.items()}
    targets = np.asarray(table.filter(regex="^target_"))
    return task.labels, targets, list(table["patient_id"]), {**found, "simple features": simple}


def open_task(model: Path) -> tuple["Task", dict[str, "LabelledSplit"]]:
    """Opens the demonstration's task with the splits that the probes were fitted and scored on."""
    from ecg_hf.corpora.loading import open_corpus
    from ecg_hf.data.targets import read_splits
    from ecg_hf.evaluation.inputs import read_contract
    from ecg_hf.registry import TASKS, load

    corpus = open_corpus("synthetic", **CORPUS)
    task, splits, _ = read_splits(corpus, load(TASKS, "synthetic"), read_contract(str(model)))
    return task, splits


def draw(path: Path) -> None:
    """Draws the first ECG of the test split on paper."""
    from ecg_hf.corpora.loading import load_corpus
    from ecg_hf.output.figures import save_figure
    from ecg_hf.signals.ecg_plot import plot_ecg
    from ecg_hf.signals.row import row_to_signal

    row = next(iter(load_corpus("synthetic", split="test", streaming=True, **CORPUS)))
    save_figure(plot_ecg(row_to_signal(row), row["sampling_rate"], title=row["report"]), path)
