"""The evaluation, as a grid defines it for all its runs."""

from dataclasses import dataclass

from ecg_hf.scaling.table.row import EVAL_GROUPS


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that every run of a grid gets: its loss in distribution, or probes of its frozen backbone.

    Args:
        name: Name of the evaluation, which becomes `eval_id` in the run table.
        group: "id" for the loss on the pretraining corpora; "ood_seen" or "ood_unseen" for probes on another
            population, for labels that supervised runs learned, or did not learn, in pretraining.
        split: Split to evaluate on.
        max_records: Largest number of records of each corpus, in distribution only; None for all records.
        task: Name of the probes' task; None in distribution.
        labels: Labels of the task to evaluate; all of them if empty.
        corpus_config: Config of the task's corpus; the task's own if None.
        data_dir: Folder, zip or URL of that corpus, or the folder where it was built.
        corpus_fields: Fields of the builder of a computed corpus, each name=value.
        unlabelled: Treatment of records without a label, "drop" or "zero"; the task's own if None.
        probe_sizes: Numbers of records to fit probes on; 0 for all records.
        probe_seeds: Seeds of the choice of these records.
        probe_dims: Numbers of features to project to; 0 keeps the model's own.
        per_label: Whether each label gets rows of its own, beside the mean over labels.

    Raises:
        ValueError: If the group is unknown, or a probe lacks a task, or an evaluation in distribution has one.

    Example:
        >>> from ecg_hf.scaling.sweep.evaluations.question import Evaluation
        >>> probe = Evaluation("other-hospital", "ood_seen", task="synthetic", labels=("AFIB", "PVC"))
        >>> probe.contradicts(asked={"AFIB", "PVC"}, learned={"AFIB", "NORM"})
        {'PVC'}
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
        """Returns the evaluated labels that contradict the group of the evaluation.

        Args:
            asked: Labels that the evaluation asks for.
            learned: Labels that a supervised run learned in pretraining.

        Returns:
            Labels of "ood_seen" that were not learned, or labels of "ood_unseen" that were.
        """
        return asked - learned if self.group == "ood_seen" else asked & learned
