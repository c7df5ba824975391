"""Arguments of a fine-tuning run, as a command line, a YAML recipe or code gives them."""

from dataclasses import dataclass

from ecg_hf.training.arguments import check_fraction
from ecg_hf.training.flags import option


@dataclass
class FinetuningArguments:
    """Arguments of a fine-tuning run; saved in the model folder as part of run.json.

    `ecg-hf finetune --help` explains each of them.

    Raises:
        ValueError: If a value is not allowed.

    Example:
        >>> FinetuningArguments("my-model", task="synthetic", output_dir="my-probe").mode
        'linear'
    """

    model: str = option(text="Folder or Hub name of a pretrained model.", group="Run")
    task: str = option(text="Task to learn; `ecg-hf tasks` lists them.")
    output_dir: str = option(text="Folder for the model, results.json, predictions.parquet and plots.")
    mode: str = option("linear", "Mode: linear or frozen (attention) probe, finetune, or scratch.")
    untrained: bool = option(False, "Whether to evaluate the untrained twin of the model, the null that it must beat.")
    data_dir: str | None = option(
        None, "Folder, zip or URL of the task's corpus, or the folder it was built in.", group="Data"
    )
    corpus_config: str | None = option(None, "Config of the corpus; that of the task if not given.")
    corpus_fields: list[str] = option([], "Fields of the builder of a computed corpus, each name=value.")
    unlabelled: str | None = option(
        None, "Records without a label of the task: drop or zero; as the task says if not given."
    )
    vocabulary: str | None = option(
        None, "Records whose labels are counted where labels must be frequent: train or all (study A)."
    )
    fraction: float = option(1.0, "Fraction of the training patients; a larger one contains every smaller one.")
    solver: str = option("optimum", "Solver of a linear probe: optimum, or adamw as in study A.", group="Optimisation")
    epochs: int = option(100, "Passes over the training records, with one random crop (or cached tile) of each.")
    batch_size: int = option(64, "Crops per step.")
    learning_rate: float = option(
        1e-3, "Learning rate of the head; finetune uses a tenth for layers, a hundredth for the stem."
    )
    weight_decay: float = option(1e-3, "Weight decay of AdamW; norms, biases and state spaces are spared.")
    max_grad_norm: float = option(0.0, "Norm that gradients are clipped to; 0 does not clip.")
    early_stopping_patience: int = option(0, "Epochs without a better score before the run stops; 0: never.")
    seed: int = option(0, "Seed of the head, order, crops, dropout and the fraction.")
    frozen_features: str = option(
        "float32",
        "Storage of a probe's features: float32, float16, or none (train by AdamW, the backbone runs in each epoch).",
        group="Probes",
    )
    feature_cache: str | None = option(
        None, "Folder of these features, reused by later runs; in the datasets cache if not given."
    )
    num_resamples: int = option(1000, "Bootstrap resamples of the patients behind each interval.", group="Evaluation")
    resume: bool = option(False, "Resume from the last epoch in --output_dir, if there is one.", group="What to do")

    def __post_init__(self) -> None:
        if self.mode not in ("linear", "frozen", "finetune", "scratch"):
            raise ValueError(f"mode must be linear, frozen, finetune or scratch, got {self.mode!r}")
        if self.solver not in ("optimum", "adamw"):
            raise ValueError(f"solver must be optimum or adamw, got {self.solver!r}")
        if self.untrained and self.mode == "scratch":
            raise ValueError("mode scratch trains a new network anyway; leave out untrained, or choose another mode")
        check_fraction(self.fraction)
        if self.unlabelled not in (None, "drop", "zero"):
            raise ValueError(f"unlabelled must be drop or zero, got {self.unlabelled!r}")
        if self.vocabulary not in (None, "train", "all"):
            raise ValueError(f"vocabulary must be train or all, got {self.vocabulary!r}")
        if self.frozen_features not in ("float32", "float16", "none"):
            raise ValueError(f"frozen_features must be float32, float16 or none, got {self.frozen_features!r}")

    @property
    def solved(self) -> bool:
        """Whether the run is a convex problem that is solved to its optimum, instead of trained for epochs."""
        return self.mode == "linear" and self.solver == "optimum" and self.frozen_features != "none"
