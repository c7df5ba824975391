"""What a downstream question is made of."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Vocabulary:
    """Outputs by rule: the names of a label set that enough records have, in alphabetical order.

    Args:
        min_count: How many records must have a name. Nothing is counted, and no name left out, if it is 0.
        counted: Over which records: those of the "train" split that the task asks for, or, as in study A, "all" of the
            corpus, whatever its length and split. The latter looks at the test split to choose the outputs.
        prefix: What a name must begin with.
        without_prefix: What a name must not begin with; any may if it is empty.

    Source:
        arXiv:2605.12241: 10 records, counted over all.
    """

    min_count: int = 10
    counted: Literal["train", "all"] = "train"
    prefix: str = ""
    without_prefix: str = ""

    def allows(self, name: str) -> bool:
        """Says whether a name begins as it should."""
        return name.startswith(self.prefix) and not (self.without_prefix and name.startswith(self.without_prefix))


@dataclass(frozen=True)
class Task:
    """A downstream question on a corpus: data only, no code.

    Args:
        name: Its key in the registry.
        corpus: The corpus' key in the registry.
        label_set: Which of the corpus' label sets it asks for, such as "superdiagnostic".
        labels: Names of the outputs, in order, C of them; empty where `vocabulary` finds them in the data.
        config: Which config of the corpus to read, such as "500hz"; the corpus' default if None.
        splits: Names of the train, validation and test split.
        problem_type: As in transformers.
        metric: Which score selects the best epoch and heads the results; a key of `metrics.METRICS`.
        unlabelled: What becomes of a record that has no label of the set: "drop" it, or keep it with all "zero".
        vocabulary: The rule that finds the outputs; None where they are listed in `labels`.
        absent: What it means that a record lacks a label: that it is "negative", whatever the value of those it has;
            or that it is "unknown", and a label of value 0 is negative.
        min_duration_s: Shorter records are left out, whatever the length of a crop.
        min_leads: Records with fewer of the standard leads are left out.
        required: Label set and name of labels that a record must have; any name of the set will do if it is "".
        required_to_evaluate: The same for the validation and test splits only, in addition.
        trim: Share of a regression's values at either end of the train split; what lies beyond counts as unknown.
        standardise: Whether a regression's values are z-scored by mean and standard deviation of the train split.
        num_outputs: How many outputs the source of the question reports; None if it does not say.
        num_records: How many records it has in each split by the published tables; None if that is not known.
        source: Where the question comes from.
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
