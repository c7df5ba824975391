"""What a downstream question is made of."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Task:
    """A downstream question on a corpus: data only, no code.

    Args:
        name: Its key in the registry.
        corpus: The corpus' key in the registry.
        label_set: Which of the corpus' label sets it asks for, such as "superdiagnostic".
        labels: Names of the outputs, in order, C of them.
        config: Which config of the corpus to read, such as "500hz"; the corpus' default if None.
        splits: Names of the train, validation and test split.
        problem_type: As in transformers.
        metric: Which score selects the best epoch and heads the results; a key of `metrics.evaluate_predictions`.
        unlabelled: What becomes of a record that has no label of the set: "drop" it, or keep it with all "zero".
        source: Where the question comes from.
    """

    name: str
    corpus: str
    label_set: str
    labels: tuple[str, ...]
    config: str | None = None
    splits: tuple[str, str, str] = ("train", "validation", "test")
    problem_type: Literal["multi_label_classification", "regression"] = "multi_label_classification"
    metric: str = "macro_auroc"
    unlabelled: Literal["drop", "zero"] = "drop"
    source: str = field(default="", kw_only=True)
