"""Forecasts of pretraining runs from a few of their steps: size, FLOPs, memory, time and data."""

import os
import statistics
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from ecg_hf.output.text_table import make_table
from ecg_hf.training.pretrain import OpenRun

STEPS = 4  # steps that a forecast runs; the first one is not timed


@dataclass(frozen=True)
class Forecast:
    """The expected size and cost of a run; `str` renders it as text.

    Args:
        numbers: Values as text, by name, in the order in which they are shown.
        corpora: Table of the corpora as text: a header, then one row for each corpus.
    """

    numbers: dict[str, str]
    corpora: list[list[str]]

    def __str__(self) -> str:
        numbers = make_table([[f"{name}:", value] for name, value in self.numbers.items()])
        return f"{numbers}\n{make_table(self.corpora)}"


def forecast(opened: OpenRun) -> Forecast:
    """Runs a few steps of a run, without writing anything, and estimates the cost of the whole run.

    Args:
        opened: Opened run; it cannot be trained afterwards, because its weights have moved.

    Returns:
        The forecast.
    """
    trainer, arguments = opened.trainer, opened.trainer.arguments
    seconds, activations = _time_steps(opened)
    pair, crops = trainer.step.pair, trainer.batch_size
    flops = 3 * pair.backbone.forward_flops(trainer.num_samples) * crops
    fixed, per_crop = _fixed_bytes(opened), activations / arguments.batch_size
    free = _free_bytes(trainer.accelerator.device)
    epoch = sum(len(split) for split in trainer.train.splits)
    numbers = {
        "pair": f"{arguments.pair}, size {arguments.size}, {_count_parameters(pair.backbone)} parameters, "
        f"{_count_parameters(pair)} with the objective",
        "step": f"{crops} crops of {arguments.crop_duration_s:g} s, {trainer.accelerator.num_processes} processes, "
        f"{flops / 1e9:.1f} GFLOP (three forward passes of the backbone)",
        "run": f"{arguments.max_steps:,} steps, {arguments.max_steps * crops:,} crops, "
        f"{arguments.max_steps * crops / epoch:.1f} epochs, {flops * arguments.max_steps:.2e} FLOP",
        "memory of a process": f"{_show_bytes(fixed + activations)}, of which {_show_bytes(fixed)} for weights, "
        f"gradients and optimizer, and {_show_bytes(per_crop)} for each crop of a micro-batch",
        "largest batch": f"about {max(0, int((0.9 * free - fixed) / per_crop)):,} crops in 90 % of the "
        f"{_show_bytes(free)} of free memory",
        "time": f"{seconds:.3f} s per step, {crops / seconds:,.0f} crops/s, "
        f"{_show_time(seconds * arguments.max_steps)} in total on {_device_name(trainer.accelerator.device)}, without "
        "validations",
    }
    return Forecast(numbers, _corpus_rows(opened))


def _time_steps(opened: OpenRun) -> tuple[float, float]:
    """Returns the seconds of a step, and the bytes that a micro-batch's forward pass keeps for its backward pass."""
    trainer, times, kept = opened.trainer, [], 0.0
    loader = trainer.batches(range(STEPS))
    for step in range(STEPS):
        counter = _KeptBytes()
        started = time.perf_counter()
        batches, _ = next(loader)
        with counter if step == 0 else torch.enable_grad():
            trainer.step.run(step, batches).read()
        times.append(time.perf_counter() - started)
        kept = max(kept, counter.total / len(batches))
    return statistics.median(times[1:]), kept


class _KeptBytes(torch.autograd.graph.saved_tensors_hooks):
    """A counter of the bytes kept for a backward pass; memory that several operations keep counts once."""

    def __init__(self) -> None:
        self.total, self._seen = 0, set[int]()
        super().__init__(self._count, lambda kept: kept)

    def _count(self, value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if not isinstance(value, torch.nn.Parameter) and storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return value


def _fixed_bytes(opened: OpenRun) -> int:
    """Adds up the bytes of weights, buffers, gradients and the two moments of the optimizer."""
    pair: Any = opened.trainer.step.pair
    held = sum(value.nbytes for value in (*pair.parameters(), *pair.buffers()))
    return int(held + 3 * sum(value.nbytes for value in pair.parameters() if value.requires_grad))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _corpus_rows(opened: OpenRun) -> list[list[str]]:
    rows = [["corpus", "unit", "share", "records", "patients", "hours", "validation records"]]
    total = sum(opened.weights())
    for corpus, split, validation, weight in zip(
        opened.corpora, opened.trainer.train.splits, opened.validation, opened.weights(), strict=True
    ):
        counts, hours = split.counts(), split.lengths.sum() / opened.trainer.arguments.sampling_rate / 3600
        patients = counts["num_patients"]
        rows.append(
            [
                str(corpus.facts["name"]),
                str(corpus.facts["unit"]),
                f"{weight / total:.1%}",
                f"{counts['num_records']:,}",
                "?" if patients is None else f"{patients:,}",
                f"{hours:,.1f}",
                f"{len(validation):,}",
            ]
        )
    return rows


def _count_parameters(model: Any) -> str:
    return f"{sum(value.numel() for value in model.parameters() if value.requires_grad):,}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


def _show_bytes(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def _show_time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
