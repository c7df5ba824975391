"""Splits with the targets of a task: the task's filters of records, its outputs, and the scale of its values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.base import Corpus
from ecg_hf.data.opening import open_split
from ecg_hf.data.split import Split, count_labels, require_disjoint
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.tasks.base import Task

Row = NDArray[np.float32]


@dataclass
class LabelledSplit:
    """A split with a task's targets.

    Args:
        records: Split of the records.
        targets: Targets of the records, shape (R, C).
        num_dropped: Number of records that were left out because they have no label of the task.
    """

    records: Split
    targets: NDArray[np.float32]
    num_dropped: int = 0

    def counts(self) -> dict[str, Any]:
        """Counts the records, their patients, the records left out, and the positive records of each label."""
        positives = [int(count) for count in np.nansum(self.targets > 0, axis=0)]
        return self.records.counts() | {"num_unlabelled_dropped": self.num_dropped, "num_positive": positives}


@dataclass(frozen=True)
class Scale:
    """The scale of a regression, taken from the train split: it turns values in their units into targets.

    Args:
        low: Lower bound of each output, shape (C,); smaller values count as unknown.
        high: Upper bound of each output, shape (C,); larger values count as unknown.
        mean: Mean of each output, shape (C,), which is subtracted.
        std: Standard deviation of each output, shape (C,), which values are divided by.
    """

    low: Row
    high: Row
    mean: Row
    std: Row

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scales values, shape (R, C); unknown values are NaN."""
        inside = (values >= self.low) & (values <= self.high)
        return (np.where(inside, values, np.float32(np.nan)) - self.mean) / self.std

    def as_dict(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Returns the numbers by name of the output, for JSON; infinite bounds are left out."""
        columns = {"low": self.low, "high": self.high, "mean": self.mean, "std": self.std}
        return {
            name: {key: float(column[index]) for key, column in columns.items() if np.isfinite(column[index])}
            for index, name in enumerate(names)
        }


def find_scale(values: NDArray[np.float32], task: Task) -> Scale | None:
    """Computes the scale of a regression from the values of its train split.

    Args:
        values: Values of the train split, shape (R, C), NaN where unknown.
        task: Task of the values.

    Returns:
        The scale; None if the task is not a regression, or neither trims nor standardises its values.

    Raises:
        EcgIntegrityError: If an output has fewer than two different values.
    """
    if task.problem_type != "regression" or not (task.trim or task.standardise):
        return None
    num_outputs = len(task.labels)
    low, high = np.full(num_outputs, -np.inf, np.float32), np.full(num_outputs, np.inf, np.float32)
    mean, std = np.zeros(num_outputs, np.float32), np.ones(num_outputs, np.float32)
    for index, name in enumerate(task.labels):
        known = values[~np.isnan(values[:, index]), index].astype(np.float64)
        if len(np.unique(known)) < 2:
            raise EcgIntegrityError(
                f"expected several values of {name!r} among the training records of {task.name}, got {len(known)} that "
                "do not differ; use more records"
            )
        if task.trim:
            low[index], high[index] = np.quantile(known, (task.trim, 1 - task.trim))
            known = known[(known >= low[index]) & (known <= high[index])]
        if task.standardise:
            mean[index], std[index] = known.mean(), known.std()
    return Scale(low, high, mean, std)


def resolve_labels(task: Task, corpora: Sequence[Corpus], train: Sequence[Split]) -> Task:
    """Finds the outputs of a task whose vocabulary is a rule; any other task is returned unchanged.

    Args:
        task: Task to complete.
        corpora: Corpora that the task's labels come from, prepared.
        train: Train split of each corpus; a rule that counts over "train" counts its records.

    Returns:
        The task with the names of its outputs in `labels`.

    Raises:
        EcgIntegrityError: If no name of the label set is frequent enough.
    """
    rule = task.vocabulary
    if rule is None:
        return task
    counted = [split.rows for split in train]
    if rule.counted == "all":
        counted = [rows for corpus in corpora for rows in corpus.as_dataset().values()]
    counts: Counter[str] = sum((count_labels(rows, task) for rows in counted if rule.min_count), Counter())
    names = {name for corpus in corpora for name in corpus.label_sets.get(task.label_set, ())}
    labels = tuple(sorted(name for name in names if rule.allows(name) and counts[name] >= rule.min_count))
    if not labels:
        raise EcgIntegrityError(
            f"expected labels of {task.label_set!r} in at least {rule.min_count} records ({rule.counted}) for "
            f"{task.name}, got none among {len(names)}; use more records"
        )
    return replace(task, labels=labels)


def asked_for(records: Split, task: Task) -> Split:
    """Keeps the records that a task asks for: long enough, with enough leads and with the required labels.

    Raises:
        EcgIntegrityError: If no record is left.
    """
    name = records.name
    if task.min_duration_s:
        records = records.where(records.durations() >= task.min_duration_s, f"shorter than {task.min_duration_s:g} s")
    if task.min_leads:
        records = records.where(records.lead_counts() >= task.min_leads, f"with fewer than {task.min_leads} leads")
    evaluated = name != task.splits[0]
    for label_set, label in (*task.required, *(task.required_to_evaluate if evaluated else ())):
        records = records.where(records.has(label_set, label), f"without {label_set} {label}".strip())
    if len(records) == 0:
        raise EcgIntegrityError(f"{task.name} asks for no record of split {name!r}; check data_dir and its filters")
    return records


def labelled_split(records: Split, task: Task, unlabelled: str, scale: Scale | None = None) -> LabelledSplit:
    """Builds the targets of a split.

    Args:
        records: Records that the task asks for, see `asked_for`.
        task: Task whose outputs are known, see `resolve_labels`.
        unlabelled: "drop" leaves out records without any label of the task's set; "zero" keeps them.
        scale: Scale of a regression's values, see `find_scale`.

    Raises:
        EcgIntegrityError: If no record is left.
    """
    num_read = len(records)
    if unlabelled == "drop":
        records = records.select(np.flatnonzero(records.has(task.label_set)).tolist())
    if len(records) == 0:
        raise EcgIntegrityError(
            f"no record of split {records.name!r} has a label of {task.name}; check data_dir, or keep them with "
            "unlabelled=zero"
        )
    targets = records.targets(task)
    return LabelledSplit(records, targets if scale is None else scale.apply(targets), num_read - len(records))


def read_splits(
    corpus: Corpus, task: Task, extractor: EcgFeatureExtractor, unlabelled: str | None = None
) -> tuple[Task, dict[str, LabelledSplit], dict[str, Any]]:
    """Opens the splits of a task and builds their targets.

    Args:
        corpus: Corpus of the task, raw or built.
        task: Task to read.
        extractor: Feature extractor of the model, which is its input contract.
        unlabelled: "drop" or "zero", which replaces the task's own choice; None keeps the task's own.

    Returns:
        The task with its outputs known, its labelled splits by name, and the scale of each output by name.

    Raises:
        EcgIntegrityError: If a split has no record, the train split shares a patient with another split, or the rule
            of the vocabulary finds no output.
    """
    records = {name: asked_for(open_split(corpus, name, extractor), task) for name in task.splits}
    train = records[task.splits[0]]
    for name in task.splits[1:]:
        require_disjoint(train, records[name])
    task = resolve_labels(task, [corpus], [train])
    scale = find_scale(train.targets(task), task)
    splits = {
        name: labelled_split(found, task, unlabelled or task.unlabelled, scale) for name, found in records.items()
    }
    return task, splits, {} if scale is None else scale.as_dict(task.labels)


def require_both_classes(split: LabelledSplit, task: Task) -> None:
    """Checks that the targets of a validation split can distinguish a better epoch from a worse one.

    Raises:
        EcgIntegrityError: If no label is both present and absent, or no value is known.
    """
    positive, negative = (split.targets > 0).any(axis=0), (split.targets <= 0).any(axis=0)
    if task.problem_type != "regression" and not (positive & negative).any():
        raise EcgIntegrityError(
            f"no label of {task.name} has both classes among the {len(split.targets)} records of split "
            f"{split.records.name!r}, so no epoch can be chosen; use more records"
        )
    if np.isnan(split.targets).all():
        raise EcgIntegrityError(
            f"no record of split {split.records.name!r} has a value of {task.name}, so no epoch can be chosen; "
            "use more records"
        )


def fraction_of_patients(records: Split, fraction: float, seed: int) -> NDArray[np.int64]:
    """Chooses a random fraction of the patients, with all their records; a larger fraction contains a smaller one.

    A record whose patient is unknown counts as a patient of its own.

    Args:
        records: Train split.
        fraction: Fraction of the patients, above 0 and at most 1.
        seed: Seed of the choice.

    Returns:
        Indices of the records that are kept, in increasing order.
    """
    owners = [
        patient if patient is not None else record
        for patient, record in zip(records.patient_ids, records.record_ids, strict=True)
    ]
    patients, owner = np.unique(owners, return_inverse=True)
    chosen = np.random.default_rng(seed).permutation(len(patients))[: max(1, round(fraction * len(patients)))]
    return np.flatnonzero(np.isin(owner, chosen))


def keep_fraction(split: LabelledSplit, fraction: float, seed: int) -> LabelledSplit:
    """Keeps a random fraction of the patients, see `fraction_of_patients`."""
    if fraction == 1:
        return split
    kept = fraction_of_patients(split.records, fraction, seed)
    return LabelledSplit(split.records.select(kept), split.targets[kept], split.num_dropped)


def choose_labels(task: Task, labels: Sequence[str]) -> Task:
    """Restricts a task to some of its outputs.

    Args:
        task: Task whose outputs are known.
        labels: Names of the outputs to keep; all outputs stay if it is empty.

    Raises:
        ValueError: If the task has no output of one of these names.
    """
    unknown = [label for label in labels if label not in task.labels]
    if unknown:
        raise ValueError(f"{task.name} has no label {unknown[0]!r}; choose from {', '.join(task.labels)}")
    return replace(task, labels=tuple(labels) or task.labels)


def sort_by_record(split: LabelledSplit) -> LabelledSplit:
    """Sorts the records by id, so that a run does not depend on the order in which a corpus stores its rows."""
    order = np.argsort(split.records.record_ids)
    return LabelledSplit(split.records.select(order), split.targets[order], split.num_dropped)
