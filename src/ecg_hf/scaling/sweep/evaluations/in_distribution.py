"""The evaluation in distribution, which computes the loss of a run on unseen patients of its own corpora."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForPreTraining

from ecg_hf.data.crops import tile
from ecg_hf.data.opening import open_split
from ecg_hf.data.split import Split, require_disjoint
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.bootstrap import Values, cluster_by_patient
from ecg_hf.evaluation.examples import number_tiles
from ecg_hf.evaluation.probes.frozen_features import find_device
from ecg_hf.evaluation.probes.logistic import log_losses
from ecg_hf.evaluation.trainer import by_record
from ecg_hf.models.pairs import Pair
from ecg_hf.output.files import read_json
from ecg_hf.registry import TASKS, load
from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.evaluations.scores import Answers, clustered_error
from ecg_hf.tasks.base import Task
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.batch_norms import NUM_BATCHES, regather
from ecg_hf.training.pretrain import make_crops, make_extractor, open_corpora

NUM_TILES = 64  # number of tiles after which a batch ends, as soon as its last patient is complete
# Metric of the run table by objective; every other self-supervised objective has the metric "loss".
METRICS = {"masked": "mse"}


def evaluate_in_distribution(folder: Path, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Computes the loss of a self-supervised objective, or nll, ne and auroc of a supervised run's own head.

    Losses of runs with the same feature extractor differ by the models alone: their batches hold the same crops, and
    a self-supervised objective draws hidden parts or negatives with a generator that is seeded again for every batch.

    Args:
        folder: Folder of the run.
        evaluation: Evaluation to make.

    Returns:
        Rows with the columns of the run table that hold the result.

    Raises:
        EcgIntegrityError: If a patient of the split was trained on, or a label has one class in all training records.
    """
    arguments = PretrainingArguments(**read_json(folder / "run.json")["arguments"])
    extractor = make_extractor(arguments)
    num_samples = extractor.num_samples or 0
    opened = [[open_split(corpus, name, extractor) for name in ("train", evaluation.split)]
              for corpus in open_corpora(arguments)]  # fmt: skip
    for train, test in opened:
        require_disjoint(train, test)
    tests = [_by_patient(test, evaluation.max_records) for _, test in opened]
    pair: Any = AutoModelForPreTraining.from_pretrained(folder).eval()
    pair.to(find_device())
    if arguments.task is None:
        gather_hidden(pair, arguments, [train for train, _ in opened])
        objective = arguments.pair.partition("-")[2]
        return [_own_loss(pair, tests, num_samples, evaluation.name, METRICS.get(objective, "loss"))]
    task = replace(load(TASKS, arguments.task), labels=tuple((pair.config.id2label or {}).values()), vocabulary=None)
    answers = _answers(pair, task, [train for train, _ in opened], tests, num_samples)
    return answers.rows(evaluation.name, evaluation.per_label)


def gather_hidden(pair: Pair, arguments: PretrainingArguments, trains: list[Split]) -> None:
    """Replaces the statistics of batch norms by those of partly hidden signals, which the objective's loss is about.

    A trained model has the statistics of whole signals. They raise the loss of a residual network by more than a step
    in size or data lowers it, while networks without batch norms are not affected.

    Args:
        pair: Pair whose backbone is changed.
        arguments: Arguments of the run.
        trains: Training split of each corpus.
    """
    batches = make_crops(arguments, trains).first_batches(NUM_BATCHES, arguments.batch_size)
    regather(pair.backbone, (batch["signal"].to(pair.device) for batch in batches), pair)


def _by_patient(split: Split, limit: int | None) -> Split:
    """Sorts records so that those of a patient are adjacent, in an order that depends only on names."""
    order = np.argsort(split.record_ids)
    split = split.select(order[: len(order) if limit is None else limit])
    return split.select(np.argsort([str(patient) for patient in split.patient_ids], kind="stable"))


def _owners(split: Split) -> list[str]:
    """Lists the patient of each record, unique over corpora; a record without a patient is a patient of its own."""
    ids = zip(split.patient_ids, split.record_ids, strict=True)
    return [f"{split.corpus} {record if patient is None else patient}" for patient, record in ids]


def tiles_of_patients(split: Split, num_samples: int) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Yields the tiles of a split, (B, L, T), and the record index of each, (B,), in batches of whole patients.

    Args:
        split: Split in which the records of a patient are adjacent.
        num_samples: Length of a tile, in samples.
    """
    owners = _owners(split)
    signals: list[NDArray[np.float32]] = []
    records: list[int] = []
    for index, owner in enumerate(owners):
        if len(signals) >= NUM_TILES and owner != owners[index - 1]:
            yield torch.from_numpy(np.stack(signals)), np.array(records)
            signals, records = [], []
        tiles = tile(split.signal(index), num_samples)
        signals.extend(tiles)
        records.extend([index] * len(tiles))
    yield torch.from_numpy(np.stack(signals)), np.array(records)


@torch.inference_mode()
def _own_loss(pair: Pair, tests: list[Split], num_samples: int, name: str, metric: str) -> dict[str, Any]:
    """Computes the mean loss over tiles; its standard error takes batches, which hold whole patients, as clusters."""
    losses, sizes = [], []
    for split in tests:
        for signal, _ in tiles_of_patients(split, num_samples):
            losses.append(float(pair(signal.to(pair.device)).loss))
            sizes.append(len(signal))
    weights, value = np.array(sizes, np.float64), float(np.average(losses, weights=sizes))
    influences = (np.array(losses) - value) * weights / weights.mean()
    return {
        "eval_id": name,
        "metric": metric,
        "value": value,
        "value_se": clustered_error(influences, cluster_by_patient(None, len(losses))) if len(losses) > 1 else None,
        "n_eval": sum(len(split) for split in tests),
    }


def _answers(pair: Pair, task: Task, trains: list[Split], tests: list[Split], num_samples: int) -> Answers:
    known = [split.targets(task) for split in trains]
    prior = np.asarray(np.nanmean(np.concatenate(known), axis=0, dtype=np.float64))
    if flat := [name for name, positive in zip(task.labels, prior, strict=True) if not 0 < positive < 1]:
        raise EcgIntegrityError(f"labels {flat} have one class in all training records of {task.name}; leave them out")
    targets = np.concatenate([split.targets(task) for split in tests])
    read = [_read(pair, split, split.targets(task), num_samples) for split in tests]
    losses, scores = (np.concatenate(parts) for parts in zip(*read, strict=True))
    owners = [owner for split in tests for owner in _owners(split)]
    return Answers(task.labels, targets, losses, scores, prior, owners)


@torch.inference_mode()
def _read(pair: Pair, split: Split, targets: NDArray[np.float32], num_samples: int) -> tuple[Values, Values]:
    """Computes loss and probability of each label of each record, (R, C) each, averaged over the record's tiles."""
    head: Any = pair.objective.head
    found = []
    for signal, _ in tiles_of_patients(split, num_samples):
        tokens = pair.backbone(signal.to(pair.device)).last_hidden_state
        found.append(head(tokens).double().cpu().numpy())
    logits = np.concatenate(found)
    record, _ = number_tiles(split.lengths // num_samples)
    losses = log_losses(targets[record], logits)
    return by_record(losses, record), by_record(1 / (1 + np.exp(-logits)), record)
