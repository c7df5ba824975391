"""What a linear map of a frozen backbone's features tells of another population."""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForSequenceClassification

from ecg_hf.data.targets import LabelledSplit, choose_labels, read_splits, sort_by_record
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.evaluation.bootstrap import Values
from ecg_hf.evaluation.examples import number_tiles
from ecg_hf.evaluation.inputs import find_task, open_task_corpus, read_contract
from ecg_hf.evaluation.probes.frozen_features import cache_features
from ecg_hf.evaluation.probes.logistic import fit_logistic, log_losses, require_both_classes
from ecg_hf.evaluation.trainer import by_record
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.evaluations.scores import Answers
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.tasks.base import Task
from ecg_hf.training.run_folder import label_fields


@dataclass(frozen=True)
class Probed:
    """The records of a split, with the features of a frozen backbone and the targets of a task.

    Args:
        features: Features, shape (R, D).
        targets: Targets, shape (R, C).
        patients: Patient of each record.
    """

    features: Values
    targets: NDArray[np.float32]
    patients: list[Hashable]

    def take(self, rows: NDArray[np.int64]) -> "Probed":
        """Returns some of the records, by their positions."""
        return Probed(self.features[rows], self.targets[rows], [self.patients[row] for row in rows])


def evaluate_probes(folder: Path, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Fits probes on records of a task's training split and computes nll, ne and auroc on another split.

    Features are averaged over tokens and tiles, and standardised by the records that the probe is fitted on.

    Args:
        folder: Folder of the run.
        evaluation: Evaluation that the probes are fitted for.

    Raises:
        ValueError: If the task's answers are no labels, or a label does not exist.
        EcgIntegrityError: If there are too few records.
    """
    task, train, test = read_probed(folder, evaluation)
    prior = np.asarray(np.nanmean(train.targets, axis=0, dtype=np.float64))
    rows = []
    asked = product(evaluation.probe_sizes, evaluation.probe_seeds, evaluation.probe_dims)
    for size, seed, dim in asked:
        chosen = train.take(choose_records(train.patients, size, seed))
        learned, held = project(*standardise(chosen.features, test.features), dim)
        codes = np.unique([str(patient) for patient in chosen.patients], return_inverse=True)[1]
        logits = fit_logistic(learned, chosen.targets, codes, seed).logits(held)
        losses = log_losses(test.targets, logits)
        answers = Answers(task.labels, test.targets, losses, logits, prior, test.patients)
        about = {"probe": "linear", "probe_n": len(chosen.targets), "probe_seed": seed, "probe_dim": dim or None}
        rows += [row | about for row in answers.rows(evaluation.name, evaluation.per_label)]
    return rows


def check_probe(evaluation: Evaluation, extractor: EcgFeatureExtractor) -> str:
    """Checks, before there is a model, that the records can be had which probes will be fitted and evaluated on.

    Args:
        evaluation: What will be asked.
        extractor: The input contract.

    Returns:
        On what the probes are.

    Raises:
        ValueError: If the task's answers are no labels, or a label or the split does not exist.
        EcgIntegrityError: If there are too few records, or too few of a class among them.
    """
    task, train, test = open_asked(evaluation, extractor)
    owners = find_owners(train)
    for size, seed in product(evaluation.probe_sizes, evaluation.probe_seeds):
        require_both_classes(train.targets[choose_records(owners, size, seed)], task.labels)
    return f"{len(task.labels)} labels of {task.name}, {len(owners)} records to fit, {len(test.targets)} to evaluate"


def read_probed(folder: Path, evaluation: Evaluation) -> tuple[Task, Probed, Probed]:
    """Returns a task with the labels of the evaluation, its training records and the records to evaluate."""
    extractor = read_contract(str(folder))
    task, *splits = open_asked(evaluation, extractor)
    model = make_encoder(folder, task)
    train, test = (encode(model, split, extractor, folder / "features") for split in splits)
    return task, train, test


def open_asked(evaluation: Evaluation, extractor: EcgFeatureExtractor) -> tuple[Task, LabelledSplit, LabelledSplit]:
    """Returns a task with the labels of the evaluation, its training split and the split to evaluate."""
    task, splits = open_probed(evaluation, extractor)
    names = task.splits[0], evaluation.split
    if missing := set(names) - splits.keys():
        raise ValueError(f"{task.name} has the splits {', '.join(splits)}, not {missing.pop()!r}; choose one of these")
    chosen = choose_labels(task, evaluation.labels)
    columns = [task.labels.index(label) for label in chosen.labels]
    ordered = [sort_by_record(splits[name]) for name in names]
    train, test = (LabelledSplit(one.records, one.targets[:, columns], one.num_dropped) for one in ordered)
    return chosen, train, test


def open_probed(evaluation: Evaluation, extractor: EcgFeatureExtractor) -> tuple[Task, dict[str, LabelledSplit]]:
    """Opens the data of a probe: its task with all labels, and the splits by name."""
    arguments = FinetuningArguments(
        model="",
        task=str(evaluation.task),
        output_dir="",
        data_dir=evaluation.data_dir,
        corpus_config=evaluation.corpus_config,
        corpus_fields=list(evaluation.corpus_fields),
        unlabelled=evaluation.unlabelled,
    )
    task = find_task(arguments)
    if task.problem_type != "multi_label_classification":
        raise ValueError(f"a probe asks for labels, got {task.name}, a {task.problem_type}; choose another task")
    task, splits, _ = read_splits(open_task_corpus(arguments, task), task, extractor, arguments.unlabelled)
    return task, splits


def make_encoder(folder: Path, task: Task) -> EcgForSequenceClassification:
    """Loads the backbone of a run under a head that averages tokens."""
    config = AutoConfig.from_pretrained(folder, **label_fields(task), head="linear")
    model: EcgForSequenceClassification = AutoModelForSequenceClassification.from_config(config)
    model.backbone = model.backbone_class.from_pretrained(folder, config=config)
    return model


def encode(
    model: EcgForSequenceClassification,
    split: LabelledSplit,
    extractor: EcgFeatureExtractor,
    cache: Path,
) -> Probed:
    """Computes the features of each record: the mean over its tiles."""
    features = cache_features(model, split.records, extractor, cache)
    record, number = number_tiles(features.counts)
    values = features.values[features.first[record] + number].astype(np.float64)
    return Probed(by_record(values, record), split.targets, find_owners(split))


def find_owners(split: LabelledSplit) -> list[Hashable]:
    """Returns the patient of each record; a record of an unknown patient counts as a patient of its own."""
    ids = zip(split.records.patient_ids, split.records.record_ids, strict=True)
    return [own if patient is None else patient for patient, own in ids]


def choose_records(patients: list[Hashable], size: int, seed: int) -> NDArray[np.int64]:
    """Chooses records patient by patient, in their order; a larger choice contains a smaller one.

    Args:
        patients: Patient of each record.
        size: Number of records; 0 for all. Some records of the patient chosen last may be left out.
        seed: Seed of the choice.

    Raises:
        EcgIntegrityError: If there are fewer records.
    """
    if size > len(patients):
        raise EcgIntegrityError(
            f"a probe asks for {size} training records, got {len(patients)}; ask for fewer, or 0 for all"
        )
    _, codes = np.unique([str(patient) for patient in patients], return_inverse=True)
    rank = np.random.default_rng(seed).permutation(codes.max() + 1)[codes]
    order = np.argsort(rank, kind="stable")
    return np.sort(order[: size or len(order)])


def standardise(learned: Values, held: Values) -> tuple[Values, Values]:
    """Scales features by the mean and deviation of the first array; a feature that is constant there becomes zero."""
    mean, deviation = learned.mean(axis=0), learned.std(axis=0)
    varies = deviation > 1e-9 * np.maximum(1.0, abs(mean))
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    return (learned - mean) * scale, (held - mean) * scale


def project(learned: Values, held: Values, dim: int) -> tuple[Values, Values]:
    """Projects features to the first `dim` principal components of the first array.

    Features are returned unchanged if `dim` is 0 or at least their width: zeros beside them would change no probe.
    """
    if not 0 < dim < learned.shape[1]:
        return learned, held
    components = np.linalg.svd(learned, full_matrices=False)[2][:dim]
    return learned @ components.T, held @ components.T
