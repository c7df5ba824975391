"""Fine-tuning: a pretrained model on a task, by a probe or by training all of it, scored record by record."""

import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, Trainer, set_seed

from ecg_hf.data.split import Split
from ecg_hf.data.targets import LabelledSplit, keep_fraction, read_splits, require_both_classes, sort_by_record
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.evaluation.bootstrap import Values
from ecg_hf.evaluation.examples import Examples, OnePerRecord, RandomCrops, Tiles
from ecg_hf.evaluation.inputs import find_task, open_task_corpus, read_contract
from ecg_hf.evaluation.probes.frozen_features import FrozenFeatures, cache_features, default_root
from ecg_hf.evaluation.probes.linear import predict_records, solve_head
from ecg_hf.evaluation.probes.tiles import FeatureTiles, Probe, RandomTiles
from ecg_hf.evaluation.results import Predictions, save_results
from ecg_hf.evaluation.trainer import checkpoint_to_resume, make_trainer, predict
from ecg_hf.evaluation.untrained import make_twin
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.tasks.base import Task
from ecg_hf.training.run_folder import base_run, describe_code, describe_corpus, label_fields, save_run

HEAD_OF_MODE = {"linear": "linear", "frozen": "attention", "finetune": "linear", "scratch": "linear"}
PROBES = ("linear", "frozen")

Splits = dict[str, LabelledSplit]


def finetune(arguments: FinetuningArguments) -> Path:
    """Trains a head, or all of a model, on a task and scores it on the validation and test splits.

    A linear probe is a convex problem and is solved to its optimum. The other modes are trained for a number of
    epochs, of which the one that is best on the validation split is kept.

    Args:
        arguments: Arguments of the run.

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
    model = make_classifier(arguments, task, splits[train].records)
    learn = solve_probe if arguments.solved else train_epochs
    scores, outcome = learn(arguments, task, model, splits, extractor)
    predictions = {name: Predictions(splits[name], found) for name, found in scores.items()}
    base = base_run(arguments.model)
    run = code | {
        "kind": "finetuning",
        "pair": model.config.model_type.removeprefix("ecg-"),
        "size": base["size"] if base else None,
        "seed": arguments.seed,
        **outcome,
        "parameters": model.num_parameters(only_trainable=True),
        "arguments": asdict(arguments),
        "base": None if arguments.mode == "scratch" or arguments.untrained else base,
        "corpora": [describe_corpus(corpus, [split.records for split in splits.values()])],
        "target_scale": scale,
    }
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_results(folder, run, task, splits[train], predictions)
    save_run(folder, model, extractor, run)
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    return folder


def make_classifier(
    arguments: FinetuningArguments, task: Task, train: Split | None = None
) -> EcgForSequenceClassification:
    """Loads the backbone and puts a fresh head on it.

    The backbone is drawn anew for mode "scratch", and is that of the untrained twin if the arguments ask for it. A
    width that the config's number of attention heads does not divide gets fewer heads, as many as divide both.
    """
    config = AutoConfig.from_pretrained(arguments.model, **label_fields(task), head=HEAD_OF_MODE[arguments.mode])
    config.head_num_heads = math.gcd(config.head_num_heads, config.hidden_size)
    model: EcgForSequenceClassification = AutoModelForSequenceClassification.from_config(config)
    if arguments.untrained:
        assert train is not None
        model.backbone.load_state_dict(make_twin(arguments.model, train).backbone.state_dict())
    elif arguments.mode != "scratch":
        model.backbone = model.backbone_class.from_pretrained(arguments.model, config=config)
    if arguments.mode in PROBES:
        model.freeze_backbone()
    return model


def solve_probe(
    arguments: FinetuningArguments,
    task: Task,
    model: EcgForSequenceClassification,
    splits: Splits,
    extractor: EcgFeatureExtractor,
) -> tuple[dict[str, Values], dict[str, Any]]:
    """Solves a linear probe.

    Returns:
        The scores (R, C) of each split but the first, and what run.json says of the solution.
    """
    started = time.perf_counter()
    features = cache_all(arguments, model, splits, extractor)
    tiles = {name: FeatureTiles(split, features[name]) for name, split in splits.items()}
    head: Any = model.head
    solution = solve_head(head, tiles[task.splits[0]], tiles[task.splits[1]], task.problem_type)
    scores = {name: predict_records(head, tiles[name], task.problem_type) for name in task.splits[1:]}
    return scores, {
        "steps": 0,
        "examples_seen": len(splits[task.splits[0]].records),
        "seconds": time.perf_counter() - started,
        "best_epoch": None,
        "solution": solution,
    }


def train_epochs(
    arguments: FinetuningArguments,
    task: Task,
    model: EcgForSequenceClassification,
    splits: Splits,
    extractor: EcgFeatureExtractor,
) -> tuple[dict[str, Values], dict[str, Any]]:
    """Trains a head, or all of the model, epoch by epoch.

    Returns:
        The scores (R, C) of each split but the first, and what run.json says of the training.
    """
    train, validation, _ = task.splits
    learner, examples, tiles = make_examples(arguments, model, splits, train, extractor)
    trainer = make_trainer(arguments, task, model, learner, examples, tiles[validation])
    resumed = checkpoint_to_resume(Path(arguments.output_dir) / "trainer", arguments.resume)
    trainer.train(resume_from_checkpoint=resumed)
    scores = {name: predict(trainer, task, tiles[name]) for name in task.splits[1:]}
    return scores, describe_training(trainer, len(splits[train].records))


def describe_training(trainer: Trainer, num_records: int) -> dict[str, Any]:
    """Returns what run.json says of a finished Trainer."""
    state = trainer.state
    metric = f"eval_{trainer.args.metric_for_best_model}"
    scores = [row[metric] for row in state.log_history if metric in row]
    return {
        "steps": state.global_step,
        "examples_seen": num_records * round(state.epoch or 0),
        "seconds": next((row["train_runtime"] for row in state.log_history if "train_runtime" in row), None),
        "best_epoch": 1 + scores.index(state.best_metric) if state.best_metric in scores else None,
        "validation_scores": scores,
    }


def cache_all(
    arguments: FinetuningArguments, model: EcgForSequenceClassification, splits: Splits, extractor: EcgFeatureExtractor
) -> dict[str, FrozenFeatures]:
    """Computes the frozen features of all splits, or reads them back from the cache."""
    root = default_root() if arguments.feature_cache is None else Path(arguments.feature_cache)
    settings = (extractor, root, arguments.frozen_features, arguments.batch_size)
    return {name: cache_features(model, split.records, *settings) for name, split in splits.items()}


def make_examples(
    arguments: FinetuningArguments,
    model: EcgForSequenceClassification,
    splits: Splits,
    train: str,
    extractor: EcgFeatureExtractor,
) -> tuple[nn.Module, OnePerRecord, dict[str, Examples]]:
    """Builds the module that learns, its training examples, and the examples it is scored on.

    Args:
        arguments: Arguments of the run.
        model: Classifier; if it is a probe whose features are cached, only its head learns.
        splits: Splits by name.
        train: Name of the training split.
        extractor: Feature extractor, the input contract of the model.

    Returns:
        The module to train, one example per record and epoch, and the tiles of the other splits.
    """
    others = {name: split for name, split in splits.items() if name != train}
    if arguments.mode in PROBES and arguments.frozen_features != "none":
        features = cache_all(arguments, model, splits, extractor)
        examples = RandomTiles(splits[train], features[train], arguments.seed)
        return Probe(model), examples, {name: FeatureTiles(split, features[name]) for name, split in others.items()}
    num_samples = extractor.num_samples or 0
    crops = RandomCrops(splits[train], num_samples, arguments.seed)
    return model, crops, {name: Tiles(split, num_samples) for name, split in others.items()}
