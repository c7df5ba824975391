"""The splits of a task with what is asked of each record: outputs by rule, filters, values on one scale."""

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
        records: The records, ready to crop.
        targets: Shape (R, C).
        num_dropped: Records left out because they have no label of the task.
    """

    records: Split
    targets: NDArray[np.float32]
    num_dropped: int = 0

    def counts(self) -> dict[str, Any]:
        """Counts records, patients, those left out, and the positives of each label."""
        positives = [int(count) for count in np.nansum(self.targets > 0, axis=0)]
        return self.records.counts() | {"num_unlabelled_dropped": self.num_dropped, "num_positive": positives}


@dataclass(frozen=True)
class Scale:
    """How values in their units become targets, from what the train split says; one number per output.

    Args:
        low: Smaller values count as unknown.
        high: Larger values count as unknown.
        mean: Subtracted.
        std: Divided by.
    """

    low: Row
    high: Row
    mean: Row
    std: Row

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scales values (R, C), NaN where unknown."""
        inside = (values >= self.low) & (values <= self.high)
        return (np.where(inside, values, np.float32(np.nan)) - self.mean) / self.std

    def as_dict(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Gives the numbers by output, for JSON; a bound that does not exist is left out."""
        columns = {"low": self.low, "high": self.high, "mean": self.mean, "std": self.std}
        return {
            name: {key: float(column[index]) for key, column in columns.items() if np.isfinite(column[index])}
            for index, name in enumerate(names)
        }


def find_scale(values: NDArray[np.float32], task: Task) -> Scale | None:
    """Finds the scale of a regression from the values (R, C) of its train split; None if it is asked as it is.

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
    """Finds the outputs of a task whose vocabulary is a rule; another task is returned as it is.

    Args:
        task: The task.
        corpora: Where its labels come from, prepared.
        train: Their train splits, as the task asks for them.

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
    """Keeps the records that a task asks for: long enough, with enough leads, with what it requires.

    Raises:
        EcgIntegrityError: If none is left.
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
    """Gives the records of a split their targets.

    Args:
        records: The records that the task asks for.
        task: The task, with its outputs known.
        unlabelled: "drop" leaves out records without any label of the task's set; "zero" keeps them.
        scale: Of a regression's values.

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
    """Reads the splits of a task.

    Args:
        corpus: The builder of the task's corpus, or what was built of it.
        task: The task.
        extractor: The input contract.
        unlabelled: Instead of the task's own "drop" or "zero", if given.

    Returns:
        The task with its outputs known, its splits by name, and how values were scaled, by output.

    Raises:
        EcgIntegrityError: If a split has no record or the rules find no output.
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
    """Checks that the validation split can tell one epoch from another.

    Raises:
        EcgIntegrityError: If none of its labels is both present and absent, or none of its values is known.
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
    """Chooses a random share of the patients with all their records; a larger share contains a smaller one.

    A record whose patient is not known counts as a patient of its own.

    Args:
        records: Of the training split.
        fraction: Share of its patients, above 0 and at most 1.
        seed: Of the choice.

    Returns:
        Which records are kept, in their order.
    """
    owners = [
        patient if patient is not None else record
        for patient, record in zip(records.patient_ids, records.record_ids, strict=True)
    ]
    patients, owner = np.unique(owners, return_inverse=True)
    chosen = np.random.default_rng(seed).permutation(len(patients))[: max(1, round(fraction * len(patients)))]
    return np.flatnonzero(np.isin(owner, chosen))


def keep_fraction(split: LabelledSplit, fraction: float, seed: int) -> LabelledSplit:
    """Keeps a share of the patients, see `fraction_of_patients`."""
    if fraction == 1:
        return split
    kept = fraction_of_patients(split.records, fraction, seed)
    return LabelledSplit(split.records.select(kept), split.targets[kept], split.num_dropped)


def choose_labels(task: Task, labels: Sequence[str]) -> Task:
    """Asks for some of a task's outputs only; for all if none is named.

    Raises:
        ValueError: If the task does not have one of them.
    """
    unknown = [label for label in labels if label not in task.labels]
    if unknown:
        raise ValueError(f"{task.name} has no label {unknown[0]!r}; choose from {', '.join(task.labels)}")
    return replace(task, labels=tuple(labels) or task.labels)


def sort_by_record(split: LabelledSplit) -> LabelledSplit:
    """Puts the records in the order of their names: a run is then the same wherever and however its rows are kept."""
    order = np.argsort(split.records.record_ids)
    return LabelledSplit(split.records.select(order), split.targets[order], split.num_dropped)
