"""A pretrained model on a task: probe or fine-tune it with Trainer, then score it record by record."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from ecg_hf.data.crops import average_by_record
from ecg_hf.data.targets import LabelledSplit, keep_fraction, read_splits, require_both_classes, sort_by_record
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.evaluation.examples import EpochOfExamples, Examples, OnePerRecord, RandomCrops, Tiles
from ecg_hf.evaluation.frozen_features import cache_features, default_root
from ecg_hf.evaluation.inputs import find_task, open_task_corpus, read_contract
from ecg_hf.evaluation.metrics import point_score
from ecg_hf.evaluation.probing import FeatureTiles, Probe, RandomTiles
from ecg_hf.evaluation.results import Predictions, save_results
from ecg_hf.evaluation.resumption import newest_whole_checkpoint
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.tasks.base import Task
from ecg_hf.training.optimization import LEARNING_RATE_SCALES, parameter_groups
from ecg_hf.training.run_folder import base_run, describe_code, describe_corpus, label_fields, save_run

HEAD_OF_MODE = {"linear": "linear", "frozen": "attention", "finetune": "linear", "scratch": "linear"}
PROBES = ("linear", "frozen")


def finetune(arguments: FinetuningArguments) -> Path:
    """Trains a readout, or all of a model, on a task and scores the epoch that is best on the validation split.

    Args:
        arguments: What decides the run.

    Returns:
        `arguments.output_dir`: a model folder with run.json, results.json, predictions.parquet and plots.

    Raises:
        KeyError: If the task is not registered.
        ValueError: If arguments do not fit each other or the data.
        EcgError: If the data are not what they should be.
    """
    code = describe_code()
    task = find_task(arguments)
    extractor = read_contract(arguments.model)
    corpus = open_task_corpus(arguments, task)
    task, splits, scale = read_splits(corpus, task, extractor, arguments.unlabelled)
    train, validation, _ = task.splits
    splits[train] = sort_by_record(keep_fraction(splits[train], arguments.fraction, arguments.seed))
    require_both_classes(splits[validation], task)
    set_seed(arguments.seed)
    model = make_classifier(arguments, task)
    learner, examples, tiles = make_examples(arguments, model, splits, train, extractor)
    trainer = make_trainer(arguments, task, model, learner, examples, tiles[validation])
    folder = Path(arguments.output_dir)
    trainer.train(resume_from_checkpoint=_resume_from(folder / "trainer", arguments.resume))
    predictions = {
        name: Predictions(split, predict(trainer, task, tiles[name])) for name, split in splits.items() if name != train
    }
    run = (
        code
        | describe_run(arguments, model, trainer, len(splits[train].records))
        | {"corpora": [describe_corpus(corpus, [split.records for split in splits.values()])], "target_scale": scale}
    )
    save_results(folder, run, task, splits[train], predictions)
    save_run(folder, model, extractor, run)
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    return folder


def _resume_from(folder: Path, resume: bool) -> str | None:
    """Finds the checkpoint to go on from; checkpoints of a run that is not gone on with are deleted."""
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    found = newest_whole_checkpoint(folder)
    return None if found is None else str(found)


def describe_run(
    arguments: FinetuningArguments, model: EcgForSequenceClassification, trainer: Trainer, num_records: int
) -> dict[str, Any]:
    """Says what was done, for run.json."""
    state, base = trainer.state, base_run(arguments.model)
    metric = f"eval_{trainer.args.metric_for_best_model}"
    scores = [row[metric] for row in state.log_history if metric in row]
    return {
        "kind": "finetuning",
        "pair": model.config.model_type.removeprefix("ecg-"),
        "size": base["size"] if base else None,
        "seed": arguments.seed,
        "steps": state.global_step,
        "examples_seen": num_records * round(state.epoch or 0),
        "seconds": next((row["train_runtime"] for row in state.log_history if "train_runtime" in row), None),
        "best_epoch": 1 + scores.index(state.best_metric) if state.best_metric in scores else None,
        "validation_scores": scores,
        "parameters": model.num_parameters(only_trainable=True),
        "arguments": asdict(arguments),
        "base": None if arguments.mode == "scratch" else base,
    }


def make_classifier(arguments: FinetuningArguments, task: Task) -> EcgForSequenceClassification:
    """Loads the backbone, or draws a new one for mode "scratch", and puts a fresh head on it.

    A width that the config's number of attention heads does not divide gets fewer, as many as divide both.
    """
    config = AutoConfig.from_pretrained(
        arguments.model,
        **label_fields(task),
        head=HEAD_OF_MODE[arguments.mode],
    )
    config.head_num_heads = math.gcd(config.head_num_heads, config.hidden_size)
    model: EcgForSequenceClassification = AutoModelForSequenceClassification.from_config(config)
    if arguments.mode != "scratch":
        model.backbone = model.backbone_class.from_pretrained(arguments.model, config=config)
    if arguments.mode in PROBES:
        model.freeze_backbone()
    return model


def make_examples(
    arguments: FinetuningArguments,
    model: EcgForSequenceClassification,
    splits: dict[str, LabelledSplit],
    train: str,
    extractor: EcgFeatureExtractor,
) -> tuple[nn.Module, OnePerRecord, dict[str, Examples]]:
    """Says what learns, from what, and by what it is scored.

    Args:
        arguments: What decides the run.
        model: The classifier; if it is a probe whose features are cached, its head alone learns.
        splits: By name.
        train: The name of the split to learn from.
        extractor: The input contract.

    Returns:
        The module to train, one example per record and epoch, and the tiles of the other splits.
    """
    if arguments.mode in PROBES and arguments.frozen_features != "none":
        root = default_root() if arguments.feature_cache is None else Path(arguments.feature_cache)
        settings = (extractor, root, arguments.frozen_features, arguments.batch_size)
        features = {name: cache_features(model, split.records, *settings) for name, split in splits.items()}
        return (
            Probe(model),
            RandomTiles(splits[train], features[train], arguments.seed),
            {name: FeatureTiles(split, features[name]) for name, split in splits.items() if name != train},
        )
    num_samples = extractor.num_samples or 0
    return (
        model,
        RandomCrops(splits[train], num_samples, arguments.seed),
        {name: Tiles(split, num_samples) for name, split in splits.items() if name != train},
    )


def make_trainer(
    arguments: FinetuningArguments,
    task: Task,
    model: EcgForSequenceClassification,
    learner: nn.Module,
    examples: OnePerRecord,
    validation: Examples,
) -> Trainer:
    """Builds the Trainer: an example per record and epoch, evaluation on averaged tiles, the best epoch kept."""
    scales = LEARNING_RATE_SCALES["study_a" if arguments.mode == "finetune" else "uniform"]
    groups = parameter_groups(model, arguments.learning_rate, arguments.weight_decay, scales)
    callbacks: list[TrainerCallback] = [EpochOfExamples(examples)]
    if arguments.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    return Trainer(
        model=learner,
        args=_training_arguments(arguments, task, validation.scoring_batch(arguments.batch_size)),
        data_collator=_as_is,
        train_dataset=examples,
        eval_dataset=validation,
        compute_metrics=lambda prediction: {task.metric: _score_records(prediction, task)},
        optimizers=(torch.optim.AdamW(groups), None),
        callbacks=callbacks,
    )


def _as_is(batch: Any) -> Any:
    return batch  # the examples give batches


def _training_arguments(arguments: FinetuningArguments, task: Task, scoring_batch: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(Path(arguments.output_dir) / "trainer"),
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=scoring_batch,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=arguments.max_grad_norm,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=task.metric,
        greater_is_better=task.problem_type != "regression",
        label_names=["labels", "record"],
        remove_unused_columns=False,
        seed=arguments.seed,
        dataloader_pin_memory=torch.accelerator.is_available(),
        report_to="none",
    )


def by_record(values: NDArray[Any], record: NDArray[np.int64]) -> NDArray[np.float64]:
    """Averages what tiles give, (num_tiles, C), over those of each record, to (R, C) in the order of the records."""
    records, averaged = average_by_record(values, record)
    return averaged[np.argsort(records)]


def _probabilities(prediction: Any, problem_type: str) -> NDArray[np.float64]:
    logits = prediction.predictions.astype(np.float64)
    return by_record(logits if problem_type == "regression" else expit(logits), prediction.label_ids[1])


def _score_records(prediction: Any, task: Task) -> float:
    targets = by_record(prediction.label_ids[0], prediction.label_ids[1])
    return point_score(targets, _probabilities(prediction, task.problem_type), task.metric)


def predict(trainer: Trainer, task: Task, tiles: Examples) -> NDArray[np.float64]:
    """Scores every record of a split, shape (R, C), with the model that the trainer holds."""
    return _probabilities(trainer.predict(tiles), task.problem_type)
