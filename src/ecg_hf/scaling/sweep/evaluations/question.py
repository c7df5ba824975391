"""What every run of a grid is evaluated on, as the grid says it."""

from dataclasses import dataclass

from ecg_hf.scaling.table.row import EVAL_GROUPS


@dataclass(frozen=True)
class Evaluation:
    """Something every run of a grid is evaluated on.

    Args:
        name: Becomes `eval_id`.
        group: "id": the pretraining corpora's own loss; "ood_seen" and "ood_unseen": probes of another population,
            for labels that supervised runs had, and had not, in pretraining.
        split: Which split is evaluated.
        max_records: In distribution, at most so many records of each corpus; None for all.
        task: What a probe asks.
        labels: Only these labels of the task; all of them if empty.
        corpus_config: Of the task's corpus; the task's own if None.
        data_dir: Where that corpus is, or was built.
        corpus_fields: Fields for the builder of a computed corpus, each name=value.
        unlabelled: "drop" or "zero"; the task's own if None.
        probe_sizes: Records that a probe is fitted on; 0 for all.
        probe_seeds: Of their choice.
        probe_dims: Widths that features are projected to; 0 keeps the model's own.
        per_label: Whether each label gets rows of its own, beside their mean.
    """

    name: str
    group: str
    split: str = "test"
    max_records: int | None = None
    task: str | None = None
    labels: tuple[str, ...] = ()
    corpus_config: str | None = None
    data_dir: str | None = None
    corpus_fields: tuple[str, ...] = ()
    unlabelled: str | None = None
    probe_sizes: tuple[int, ...] = (500,)
    probe_seeds: tuple[int, ...] = (0,)
    probe_dims: tuple[int, ...] = (0,)
    per_label: bool = False

    def __post_init__(self) -> None:
        if self.group not in EVAL_GROUPS:
            raise ValueError(f"group of {self.name} must be one of {', '.join(EVAL_GROUPS)}, got {self.group!r}")
        if (self.group == "id") != (self.task is None):
            raise ValueError(f"{self.name} must name a task if, and only if, it is a probe, got task {self.task!r}")

    def contradicts(self, asked: set[str], learned: set[str]) -> set[str]:
        """Says which of the labels that it asks do not belong to its group if these were learned in pretraining."""
        return asked - learned if self.group == "ood_seen" else asked & learned
