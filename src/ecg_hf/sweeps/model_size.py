"""How large a model is, by each of the definitions of the run table, without making it."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ecg_hf.arguments import PretrainingArguments
from ecg_hf.registry import TASKS, load
from ecg_hf.runs import make_extractor, make_pair
from ecg_hf.targets import choose_labels
from ecg_hf.tasks.base import Task


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a pair that count what is trained.

    Args:
        n_params: Of the backbone.
        n_params_nonembed: Of the backbone without its stem.
        n_params_total: With the objective.
        flops_fwd: Floating-point operations of a forward pass of the backbone over one crop.
    """

    n_params: int
    n_params_nonembed: int
    n_params_total: int
    flops_fwd: int


def measure(arguments: PretrainingArguments) -> ModelSize:
    """Gives the sizes of the pair that a run's arguments describe.

    Raises:
        KeyError: If the pair, its size or the task does not exist.
        ValueError: If arguments do not fit each other.
    """
    wanted = ("pair", "size", "model_fields", "task", "labels", "sampling_rate", "crop_duration_s")
    return _measure(json.dumps({name: getattr(arguments, name) for name in wanted}))


@functools.lru_cache(maxsize=256)
def _measure(said: str) -> ModelSize:
    arguments = PretrainingArguments(output_dir="", **json.loads(said))
    task: Task | None = load(TASKS, arguments.task) if arguments.task else None
    if task is not None and task.labels:  # a rule would need the data, and decides nothing but the head
        task = choose_labels(task, arguments.labels)
    with torch.device("meta"):
        pair = make_pair(arguments, task)
    backbone: Any = pair.backbone
    trained = _count(backbone)
    num_samples = make_extractor(arguments).num_samples or 0
    return ModelSize(trained, trained - _count(backbone.stem), _count(pair), backbone.forward_flops(num_samples))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
