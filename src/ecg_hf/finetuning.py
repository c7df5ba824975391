"""A pretrained model on a task: probe or fine-tune it with Trainer, then score it record by record."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from ecg_hf.arguments import FinetuningArguments, parse_fields
from ecg_hf.classification import EcgForSequenceClassification
from ecg_hf.crops import average_by_record, crop_draws, crop_starts, tile
from ecg_hf.loading import open_corpus
from ecg_hf.metrics import point_score
from ecg_hf.optimization import LEARNING_RATE_SCALES, parameter_groups
from ecg_hf.provenance import describe_code, describe_corpus
from ecg_hf.registry import TASKS, load
from ecg_hf.results import LabelledSplit, Predictions, base_run, save_results
from ecg_hf.runs import label_fields, save_run
from ecg_hf.targets import read_splits, require_both_classes, share_of_patients
from ecg_hf.tasks.base import Task

HEAD_OF_MODE = {"linear": "linear", "frozen": "attention", "finetune": "linear", "scratch": "linear"}


class RandomCrops(torch.utils.data.Dataset[dict[str, Any]]):
    """One random crop of every record, another one in each epoch: a function of seed, epoch and record."""

    def __init__(self, split: LabelledSplit, num_samples: int, seed: int):
        self.split, self.num_samples, self.seed, self.epoch = split, num_samples, seed, 0

    def __len__(self) -> int:
        return len(self.split.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        position, records, which = self.epoch * len(self) + index, self.split.records, np.array([index])
        starts = crop_starts(crop_draws(self.seed, position, position + 1), records.lengths[which], self.num_samples)
        crop = records.crops(which, starts, self.num_samples)[0]
        return {"signal": torch.from_numpy(crop), "labels": torch.from_numpy(self.split.targets[index])}


class Tiles(torch.utils.data.Dataset[dict[str, Any]]):
    """The disjoint tiles of every record, each with the index of its record."""

    def __init__(self, split: LabelledSplit, num_samples: int):
        self.split, self.num_samples = split, num_samples
        counts = split.records.lengths // num_samples
        self.record = np.repeat(np.arange(len(counts)), counts)
        self.tile = np.concatenate([np.arange(count) for count in counts])

    def __len__(self) -> int:
        return len(self.record)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.record[index]
        crop = tile(self.split.records.signal(record), self.num_samples)[self.tile[index]]
        target = torch.from_numpy(self.split.targets[record])
        return {"signal": torch.tensor(crop), "labels": target, "record": torch.tensor(record)}


class EpochOfCrops(TrainerCallback):
    """Tells the crops which epoch it is."""

    def __init__(self, crops: RandomCrops):
        self.crops = crops

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Runs before the first batch of an epoch is drawn."""
        self.crops.epoch = round(state.epoch or 0)


def finetune(arguments: FinetuningArguments) -> Path:
    """Trains a readout, or all of a model, on a task and scores the epoch that is best on the validation split.

    Args:
        arguments: What decides the run.

    Returns:
        `arguments.output_dir`: a model folder with run.json, results.json, predictions.parquet and plots.

    Raises:
        KeyError: If the task is not registered.
        EcgError: If the data are not what they should be.
    """
    code = describe_code()
    task = find_task(arguments)
    extractor = AutoFeatureExtractor.from_pretrained(arguments.model)
    corpus = open_corpus(
        task.corpus, arguments.corpus_config or task.config, arguments.data_dir, **parse_fields(arguments.corpus_fields)
    )
    task, splits, scale = read_splits(corpus, task, extractor, arguments.unlabelled)
    train, validation, _ = task.splits
    splits[train] = share_of_patients(splits[train], arguments.fraction, arguments.seed)
    require_both_classes(splits[validation], task)
    set_seed(arguments.seed)
    model = make_classifier(arguments, task)
    trainer = make_trainer(arguments, task, model, splits[train], splits[validation], extractor.num_samples)
    folder = Path(arguments.output_dir)
    last = get_last_checkpoint(str(folder / "trainer")) if arguments.resume and (folder / "trainer").exists() else None
    trainer.train(resume_from_checkpoint=last)
    predictions = {
        name: Predictions(split, predict(trainer, task, split, extractor.num_samples))
        for name, split in splits.items()
        if name != train
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


def find_task(arguments: FinetuningArguments) -> Task:
    """Gives the task that a run names, its labels counted where the run says."""
    task: Task = load(TASKS, arguments.task)
    if task.vocabulary is None or arguments.vocabulary is None:
        return task
    return replace(task, vocabulary=replace(task.vocabulary, counted=cast(Any, arguments.vocabulary)))


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
    """Loads the backbone, or draws a new one for mode "scratch", and puts a fresh head on it."""
    config = AutoConfig.from_pretrained(
        arguments.model,
        **label_fields(task),
        head=HEAD_OF_MODE[arguments.mode],
    )
    model: EcgForSequenceClassification = AutoModelForSequenceClassification.from_config(config)
    if arguments.mode != "scratch":
        model.backbone = model.backbone_class.from_pretrained(arguments.model, config=config)
    if arguments.mode in ("linear", "frozen"):
        model.freeze_backbone()
    return model


def make_trainer(
    arguments: FinetuningArguments,
    task: Task,
    model: EcgForSequenceClassification,
    train: LabelledSplit,
    validation: LabelledSplit,
    num_samples: int,
) -> Trainer:
    """Builds the Trainer: a random crop per record and epoch, evaluation on averaged tiles, the best epoch kept."""
    crops = RandomCrops(train, num_samples, arguments.seed)
    scales = LEARNING_RATE_SCALES["study_a" if arguments.mode == "finetune" else "uniform"]
    groups = parameter_groups(model, arguments.learning_rate, arguments.weight_decay, scales)
    callbacks: list[TrainerCallback] = [EpochOfCrops(crops)]
    if arguments.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    return Trainer(
        model=model,
        args=_training_arguments(arguments, task),
        train_dataset=crops,
        eval_dataset=Tiles(validation, num_samples),
        compute_metrics=lambda prediction: {task.metric: _score_records(prediction, task)},
        optimizers=(torch.optim.AdamW(groups), None),
        callbacks=callbacks,
    )


def _training_arguments(arguments: FinetuningArguments, task: Task) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(Path(arguments.output_dir) / "trainer"),
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=arguments.batch_size,
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


def predict(trainer: Trainer, task: Task, split: LabelledSplit, num_samples: int) -> NDArray[np.float64]:
    """Scores every record of a split, shape (R, C), with the model that the trainer holds."""
    return _probabilities(trainer.predict(Tiles(split, num_samples)), task.problem_type)
