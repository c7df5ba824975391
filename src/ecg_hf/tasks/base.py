"""The description of a downstream task as data, and the rule for tasks whose outputs are found in the data."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Vocabulary:
    """A rule that selects the outputs of a task: the names of a label set that enough records have, sorted.

    Args:
        min_count: Number of records that must have a name; if 0, records are not counted and all names are kept.
        counted: Records that are counted: "train", those of the train split that the task asks for, or, as in study A,
            "all" records of the corpus, of any length and split, which uses the test split to choose the outputs.
        prefix: Prefix that a name must have.
        without_prefix: Prefix that a name must not have; empty to exclude no name.

    Source:
        arXiv:2605.12241: 10 records, counted over all.
    """

    min_count: int = 10
    counted: Literal["train", "all"] = "train"
    prefix: str = ""
    without_prefix: str = ""

    def allows(self, name: str) -> bool:
        """Returns whether a name has the required prefix and not the excluded one."""
        return name.startswith(self.prefix) and not (self.without_prefix and name.startswith(self.without_prefix))


@dataclass(frozen=True)
class Task:
    """A downstream question that is asked of a corpus, described by data only.

    Args:
        name: Name of the task in the registry.
        corpus: Name of the corpus in the registry.
        label_set: Name of the corpus' label set that the task predicts, such as "superdiagnostic".
        labels: Names of the outputs, in order, C of them; empty if `vocabulary` finds them in the data.
        config: Name of the corpus' config, such as "500hz"; the corpus' default if None.
        splits: Names of the train, validation and test splits.
        problem_type: Type of the problem, named as in transformers.
        metric: Score that selects the best epoch and heads the results; a key of `evaluation.metrics.METRICS`.
        unlabelled: Treatment of a record without any label of the set: "drop" it, or keep it with "zero" targets.
        vocabulary: Rule that finds the outputs; None if they are listed in `labels`.
        absent: Meaning of a label that a record lacks: "negative", while every label it has is positive, whatever its
            value; or "unknown", while a label of value 0 is negative.
        min_duration_s: Shortest duration of a record in s; shorter records are left out, whatever the crop length.
        min_leads: Smallest number of standard leads; records with fewer are left out.
        required: Label set and name of each label that a record must have; an empty name allows any name of the set.
        required_to_evaluate: Further required labels for the validation and test splits only.
        trim: Fraction of the train split's values, at either end, beyond which a regression's values are unknown.
        standardise: Whether a regression's values are z-scored by mean and standard deviation of the train split.
        num_outputs: Number of outputs that the source reports; None if it reports none.
        num_records: Number of records per split according to the published tables; None if unknown.
        source: Publication of the task, with any difference from it.

    Example:
        >>> from ecg_hf.registry import TASKS, load
        >>> task = load(TASKS, "ptbxl_superdiagnostic")
        >>> task.corpus, task.labels
        ('ptbxl', ('CD', 'HYP', 'MI', 'NORM', 'STTC'))
        >>> task.metric, task.unlabelled, task.num_records
        ('macro_auroc', 'drop', (17084, 2146, 2158))
    """

    name: str
    corpus: str
    label_set: str
    labels: tuple[str, ...] = ()
    config: str | None = None
    splits: tuple[str, str, str] = ("train", "validation", "test")
    problem_type: Literal["multi_label_classification", "regression"] = "multi_label_classification"
    metric: str = "macro_auroc"
    unlabelled: Literal["drop", "zero"] = "drop"
    vocabulary: Vocabulary | None = field(default=None, kw_only=True)
    absent: Literal["negative", "unknown"] = field(default="negative", kw_only=True)
    min_duration_s: float = field(default=0.0, kw_only=True)
    min_leads: int = field(default=0, kw_only=True)
    required: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    required_to_evaluate: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    trim: float = field(default=0.0, kw_only=True)
    standardise: bool = field(default=False, kw_only=True)
    num_outputs: int | None = field(default=None, kw_only=True)
    num_records: tuple[int, int, int] | None = field(default=None, kw_only=True)
    source: str = field(default="", kw_only=True)
