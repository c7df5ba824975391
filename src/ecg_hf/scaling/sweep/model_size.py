"""Numbers of parameters and FLOPs of a model, computed without allocating its weights."""

import functools
import json
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ecg_hf.data.targets import choose_labels
from ecg_hf.models.pairs import Pair
from ecg_hf.registry import TASKS, load
from ecg_hf.tasks.base import Task
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.pretrain import make_extractor, make_pair


@dataclass(frozen=True)
class ModelSize:
    """Numbers of trained parameters of a pair, one for each definition of N in the run table.

    Args:
        n_params: Number of parameters of the backbone.
        n_params_nonembed: Number of parameters of the backbone without its stem.
        n_params_total: Number of parameters of backbone and objective, with the head of a supervised one. Where a rule
            finds the labels in the data, the head counts only if the arguments list them.
    """

    n_params: int
    n_params_nonembed: int
    n_params_total: int


def measure(arguments: PretrainingArguments) -> ModelSize:
    """Computes the sizes of the pair that a run's arguments describe.

    Args:
        arguments: Arguments of the run.

    Raises:
        KeyError: If the pair, its size or the task does not exist.
        ValueError: If arguments do not fit each other.
    """
    return _measure(_shape(arguments))


def count_flops(arguments: PretrainingArguments) -> int:
    """Counts the floating-point operations of a forward pass of a run's backbone over one crop."""
    return _count_flops(_shape(arguments), make_extractor(arguments).num_samples or 0)


def _shape(arguments: PretrainingArguments) -> str:
    """Returns the arguments that determine the size of a pair, as JSON, which a cache can hash."""
    return json.dumps({name: getattr(arguments, name) for name in ("pair", "size", "model_fields", "task", "labels")})


@functools.lru_cache(maxsize=1024)
def _measure(shape: str) -> ModelSize:
    pair = _build(shape)
    trained = _count(pair.backbone)
    return ModelSize(trained, trained - _count(pair.backbone.stem), _count(pair))


@functools.lru_cache(maxsize=1024)
def _count_flops(shape: str, num_samples: int) -> int:
    backbone: Any = _build(shape).backbone
    return int(backbone.forward_flops(num_samples))


def _build(shape: str) -> Pair:
    arguments = PretrainingArguments(output_dir="", **json.loads(shape))
    task: Task | None = load(TASKS, arguments.task) if arguments.task else None
    if task is not None and task.labels:
        task = choose_labels(task, arguments.labels)
    elif task is not None:  # a rule needs the data, and decides only the head
        task = replace(task, labels=tuple(arguments.labels))
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a head without labels
        return make_pair(arguments, task)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
