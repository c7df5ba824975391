"""Arguments of a fine-tuning run."""

from dataclasses import dataclass, field

from ecg_hf.training.arguments import check_fraction, option


@dataclass
class FinetuningArguments:
    """Everything that decides a fine-tuning run; saved beside its results."""

    model: str = field(metadata={"help": "Folder or Hub name of a pretrained model."})
    task: str = field(metadata={"help": "A key of ecg_hf.registry.TASKS."})
    output_dir: str = field(metadata={"help": "Folder for the model, results.json and predictions.parquet."})
    mode: str = option("linear", "linear, frozen (attention probe), finetune or scratch.")
    data_dir: str | None = option(None, "Folder, zip or URL of the task's corpus, or the folder where it was built.")
    corpus_config: str | None = option(None, "Config of the corpus; the task's default if not given.")
    corpus_fields: list[str] = option([], "Fields for the builder of a computed corpus, each name=value.")
    unlabelled: str | None = option(None, "drop or zero: records without a label of the task; the task's default.")
    vocabulary: str | None = option(None, "train or all (study A): where labels are counted that must be frequent.")
    epochs: int = option(100, "Passes over the training records, one random crop (cached probes: tile) of each.")
    fraction: float = option(1.0, "Share of the training patients to use; a larger share contains a smaller one.")
    frozen_features: str = option(
        "float32", "How a probe keeps its features: float32, float16, or none, to run the backbone in each epoch."
    )
    feature_cache: str | None = option(None, "Folder for these, which later runs reuse; in the datasets cache if None.")
    batch_size: int = option(64, "Crops per step.")
    learning_rate: float = option(1e-3, "Of the head; finetune uses a tenth for the trunk, a hundredth for the stem.")
    weight_decay: float = option(1e-3, "AdamW's decay of what decays.")
    max_grad_norm: float = option(0.0, "Gradients are clipped to this norm; 0 does not clip.")
    early_stopping_patience: int = option(0, "Stop after so many epochs without a better score; 0 never stops.")
    num_resamples: int = option(1000, "Bootstrap resamples of patients behind each interval.")
    seed: int = option(0, "Decides the head, order, crops, dropout and the fraction.")
    resume: bool = option(False, "Continue from the last epoch in output_dir, if there is one.")

    def __post_init__(self) -> None:
        if self.mode not in ("linear", "frozen", "finetune", "scratch"):
            raise ValueError(f"mode must be linear, frozen, finetune or scratch, got {self.mode!r}")
        check_fraction(self.fraction)
        if self.unlabelled not in (None, "drop", "zero"):
            raise ValueError(f"unlabelled must be drop or zero, got {self.unlabelled!r}")
        if self.vocabulary not in (None, "train", "all"):
            raise ValueError(f"vocabulary must be train or all, got {self.vocabulary!r}")
        if self.frozen_features not in ("float32", "float16", "none"):
            raise ValueError(f"frozen_features must be float32, float16 or none, got {self.frozen_features!r}")
