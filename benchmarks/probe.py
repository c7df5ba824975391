"""How fast probes are that are trained for epochs.

OMP_NUM_THREADS=1 python benchmarks/probe.py

Whole runs of `finetune`, with evaluation and 100 bootstrap resamples, on the embedded corpus: such as run the backbone
over a random crop of each record in every epoch, such as compute and cache the features of all tiles first, and such as
find them. They take turns; a ratio is the median over rounds of the first one's CPU time by the run's in the same
round. The corpus is prepared, and the untrained model made, before. "training" is what all epochs took, with their
evaluation.
Last, the attention head alone, forward and backward over 64 crops of 300 tokens of width 512, against the same
attention with a key and a value for each token, as scaled_dot_product_attention takes them.
With --uncached_epochs 1, runs without cache have one epoch, and its time counts --epochs times: "extrapolated".
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import numpy as np
import torch
from transformers import Trainer
from transformers.utils import logging as transformers_logging

from ecg_hf import FinetuningArguments, PretrainingArguments, finetune, pretrain, untrained_twin
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.models.backbones.s4 import EcgS4Config
from ecg_hf.models.heads import AttentionHead

RUNS = ("backbone in each epoch", "features cached first", "features found")


def run(name: str, model: Path, folder: Path, arguments: argparse.Namespace, mode: str) -> tuple[float, float, int]:
    """Gives the CPU time of a run, that of its epochs alone, and its training records."""
    cache = folder / f"features-{mode}"
    if name == RUNS[1]:
        shutil.rmtree(cache, ignore_errors=True)
    uncached = name == RUNS[0]
    epochs = arguments.uncached_epochs if uncached and arguments.uncached_epochs else arguments.epochs
    training: list[float] = []
    train = Trainer.train

    def timed(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        before = time.process_time()
        output = train(self, *args, **kwargs)
        training.append(time.process_time() - before)
        return output

    started = time.process_time()
    with mock.patch.object(Trainer, "train", timed):
        finetune(
            FinetuningArguments(
                model=str(model),
                task="synthetic",
                output_dir=str(folder / "probe"),
                mode=mode,
                corpus_fields=[f"num_records={arguments.records}"],
                epochs=epochs,
                solver="adamw",
                frozen_features="none" if uncached else arguments.features,
                feature_cache=str(cache),
                num_resamples=100,
            )
        )
    seconds = time.process_time() - started
    report = json.loads((folder / "probe/run.json").read_text())
    epoch = training[0] / epochs
    whole = seconds + (arguments.epochs - epochs) * epoch
    return whole, arguments.epochs * epoch, report["examples_seen"] // epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="20k", help="of the s4 backbone")
    parser.add_argument("--modes", nargs="+", default=["linear", "frozen"])
    parser.add_argument("--features", default="float32", choices=["float32", "float16"])
    parser.add_argument("--uncached_epochs", type=int, default=0)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_model(folder / "model", arguments)
        print("| probe | run | CPU seconds | ratio | training | records/s in training |\n|---|---|---|---|---|---|")
        for mode in arguments.modes:
            compare(mode, model, folder, arguments)
    compare_heads(5 * arguments.rounds)


def make_model(folder: Path, arguments: argparse.Namespace) -> Path:
    """Writes an untrained model, in the folder that a single step of pretraining leaves."""
    fields = [f"num_records={arguments.records}"]
    pretrain(PretrainingArguments(str(folder), size=arguments.size, corpus_fields=fields, max_steps=1))
    untrained_twin(folder, open_corpus("synthetic", num_records=arguments.records)).save_pretrained(folder)
    return folder


def compare(mode: str, model: Path, folder: Path, arguments: argparse.Namespace) -> None:
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in RUNS}
    for _ in range(arguments.rounds):
        for name in RUNS:
            found[name].append(run(name, model, folder, arguments, mode))
    first = np.array([seconds for seconds, _, _ in found[RUNS[0]]])
    for name, rounds in found.items():
        seconds, training, records = (np.array(column) for column in zip(*rounds, strict=True))
        ratio, speed = np.median(first / seconds), np.median(arguments.epochs * records / training)
        label = f"{name}, extrapolated" if name == RUNS[0] and arguments.uncached_epochs else name
        print(
            f"| {mode} | {label} | {np.median(seconds):.1f} | {ratio:.1f} | {np.median(training):.1f} | {speed:,.0f} |"
        )


def attend(head: AttentionHead, tokens: torch.Tensor) -> torch.Tensor:
    """The head as it is usually written."""

    def split(values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(2, (head.num_heads, -1)).transpose(1, 2)

    query = split(head.q_proj(head.query)).expand(len(tokens), -1, -1, -1)
    keys, values = split(head.k_proj(tokens)), split(head.v_proj(tokens))
    pooled = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
    return head.out_proj(pooled.transpose(1, 2).flatten(1))


def compare_heads(rounds: int) -> None:
    torch.manual_seed(0)
    head, tokens = AttentionHead(EcgS4Config(hidden_size=512, num_labels=71)), torch.randn(64, 300, 512)
    head.reset()
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for own, forward in zip(times, (lambda tokens: attend(head, tokens), head), strict=True):
            started = time.process_time()
            forward(tokens).sum().backward()
            own.append(time.process_time() - started)
    usual, ours = np.array(times)
    error = (attend(head, tokens) - head(tokens)).abs().max() / head(tokens).abs().max()
    print(
        f"\nAttention head: {1000 * np.median(usual):.0f} ms as usual, {1000 * np.median(ours):.0f} ms here, ratio "
        f"{np.median(usual / ours):.1f}; the logits differ by {error:.0e} of the largest."
    )


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
