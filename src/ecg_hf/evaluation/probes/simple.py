"""A linear probe on hand-crafted features, the baseline that needs no network."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from ecg_hf.data.targets import LabelledSplit
from ecg_hf.evaluation.bootstrap import Values
from ecg_hf.evaluation.probes.frozen_features import FrozenFeatures
from ecg_hf.evaluation.probes.linear import predict_records, solve_head
from ecg_hf.evaluation.probes.tiles import FeatureTiles
from ecg_hf.models.heads import LinearHead
from ecg_hf.signals.simple_features import simple_features
from ecg_hf.tasks.base import Task


def probe_simple_features(task: Task, splits: dict[str, LabelledSplit], sampling_rate: float) -> dict[str, Values]:
    """Fits a linear probe to the simple features of whole records.

    Args:
        task: Task, with its outputs known.
        splits: Splits by name; those of `task.splits`.
        sampling_rate: Sampling rate of the splits' signals, in Hz.

    Returns:
        The scores (R, C) of the validation and the test split.
    """
    tiles = {name: FeatureTiles(split, _features(split, sampling_rate)) for name, split in splits.items()}
    width = tiles[task.splits[0]].features.values.shape[1]
    config: Any = SimpleNamespace(hidden_size=width, id2label=dict(enumerate(task.labels)))
    head = LinearHead(config)
    solve_head(head, tiles[task.splits[0]], tiles[task.splits[1]], task.problem_type)
    return {name: predict_records(head, tiles[name], task.problem_type) for name in task.splits[1:]}


def _features(split: LabelledSplit, sampling_rate: float) -> FrozenFeatures:
    number = len(split.records)
    values = np.stack([simple_features(split.records.signal(index), sampling_rate) for index in range(number)])
    return FrozenFeatures(values.astype(np.float32), np.arange(number), np.ones(number, np.int64))
