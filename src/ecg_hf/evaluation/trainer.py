"""The iterative modes of fine-tuning: transformers' Trainer, scores by record, the best epoch kept."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ecg_hf.data.crops import average_by_record
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.evaluation.examples import EpochOfExamples, Examples, OnePerRecord
from ecg_hf.evaluation.metrics import point_score
from ecg_hf.evaluation.resumption import newest_whole_checkpoint
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.output.console import Progress
from ecg_hf.tasks.base import Task
from ecg_hf.training.optimization import LEARNING_RATE_SCALES, parameter_groups


def make_trainer(
    arguments: FinetuningArguments,
    task: Task,
    model: EcgForSequenceClassification,
    learner: nn.Module,
    examples: OnePerRecord,
    validation: Examples,
) -> Trainer:
    """Builds a Trainer that learns one example per record and epoch and keeps the epoch that validates best.

    Args:
        arguments: Arguments of the run.
        task: Task, with its outputs known.
        model: Classifier whose parameters are optimised.
        learner: Module that is trained: the classifier, or a probe that shares its head.
        examples: Training examples.
        validation: Tiles of the validation records, which are scored by record.
    """
    scales = LEARNING_RATE_SCALES["study_a" if arguments.mode == "finetune" else "uniform"]
    groups = parameter_groups(model, arguments.learning_rate, arguments.weight_decay, scales)
    callbacks: list[TrainerCallback] = [EpochOfExamples(examples), _EpochBar(arguments.mode, task.metric)]
    if arguments.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    trainer = Trainer(
        model=learner,
        args=_training_arguments(arguments, task, validation.scoring_batch(arguments.batch_size)),
        data_collator=_as_is,
        train_dataset=examples,
        eval_dataset=validation,
        compute_metrics=lambda prediction: {task.metric: _score_records(prediction, task)},
        optimizers=(torch.optim.AdamW(groups), None),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def checkpoint_to_resume(folder: Path, resume: bool) -> str | None:
    """Finds the checkpoint to resume from; without `resume` deletes the checkpoints of earlier runs."""
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    found = newest_whole_checkpoint(folder)
    return None if found is None else str(found)


def predict(trainer: Trainer, task: Task, tiles: Examples) -> NDArray[np.float64]:
    """Scores every record of a split, shape (R, C), with the model that the trainer holds."""
    return _probabilities(trainer.predict(tiles), task.problem_type)


def by_record(values: NDArray[Any], record: NDArray[np.int64]) -> NDArray[np.float64]:
    """Averages outputs (num_tiles, C) over the tiles of each record: (R, C), in the order of the records."""
    records, averaged = average_by_record(values, record)
    return averaged[np.argsort(records)]


def _as_is(batch: Any) -> Any:
    return batch  # the examples are batches already


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
        disable_tqdm=True,
        report_to="none",
    )


def _probabilities(prediction: Any, problem_type: str) -> NDArray[np.float64]:
    logits = prediction.predictions.astype(np.float64)
    return by_record(logits if problem_type == "regression" else expit(logits), prediction.label_ids[1])


def _score_records(prediction: Any, task: Task) -> float:
    targets = by_record(prediction.label_ids[0], prediction.label_ids[1])
    return point_score(targets, _probabilities(prediction, task.problem_type), task.metric)


class _EpochBar(TrainerCallback):
    """One bar over the epochs, with the score of the last validation."""

    def __init__(self, mode: str, metric: str):
        self.title, self.metric = f"training ({mode})", metric
        self.bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        done, shown = round(state.epoch or 0), state.is_world_process_zero
        self.bar = Progress(self.title, round(args.num_train_epochs), "epoch", initial=done, shown=shown)
        self.bar.__enter__()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        score = kwargs["metrics"].get(f"eval_{self.metric}")
        if self.bar is not None and score is not None:
            self.bar.update(1, **{self.metric: f"{score:.3f}"})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
            self.bar = None
