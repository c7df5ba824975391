"""Arguments of a pretraining run, as a command line, a YAML recipe or code gives them."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ecg_hf.training.flags import option

# Arguments that may differ between a run and its continuation without changing a number of it.
FREE_ARGUMENTS = {
    "output_dir",
    "data_dir",
    "resume",
    "trackers",
    "num_workers",
    "checkpoint_steps",
    "num_checkpoints",
    "max_nonfinite_steps",
    "on_collapse",
    "on_damage",  # skipped shards change the fingerprint of the data
    "timeout_s",
    "dry_run",
    # only the product of these and the number of processes counts, see Pretrainer
    "batch_size",
    "gradient_accumulation_steps",
}


# Allowed ranges of the numbers, checked before any data are opened.
RANGES: list[tuple[str, Callable[[float], bool], str]] = [
    (
        "max_steps batch_size gradient_accumulation_steps max_validation_records checkpoint_steps num_checkpoints "
        "max_nonfinite_steps collapse_patience",
        lambda value: value >= 1,
        "at least 1",
    ),
    (
        "warmup_steps weight_decay max_grad_norm seed num_workers validation_steps early_stopping_patience",
        lambda value: value >= 0,
        "at least 0",
    ),
    ("learning_rate sampling_rate crop_duration_s timeout_s", lambda value: 0 < value < math.inf, "above 0"),
]


@dataclass
class PretrainingArguments:
    """Arguments of a pretraining run; saved in the model folder as part of run.json.

    `ecg-hf pretrain --help` explains each of them.

    Raises:
        ValueError: If a value is not allowed, or arguments do not fit each other.

    Example:
        >>> arguments = PretrainingArguments("my-model", pair="s4-cpc", size="63k", max_steps=20)
        >>> arguments.learning_rate
        0.001
    """

    output_dir: str = option(
        text="Folder of the trained model: weights, config, input contract, run.json.", group="Run"
    )
    pair: str = option("s4-cpc", "Backbone and objective, such as s4-jepa or resnet-supervised.", group="Model")
    size: str = option("2m", "Size of the backbone by its parameters: 20k, 63k, ... 200m, or paper-a.")
    model_fields: list[str] = option([], "Further fields of the model's config, each name=value.")
    corpus: list[str] = option(["synthetic"], "Corpora to learn from: names, or folders of built ones.", group="Data")
    corpus_config: list[str] = option([], "Config of each corpus; the default config of each if not given.")
    corpus_weights: list[float] = option([], "Weight of each corpus in the mixture; by its size if not given.")
    sample_by: str = option("record", "Unit that an epoch draws one crop from: record or patient.")
    data_dir: list[str] = option([], "Folder, zip or URL of each corpus that needs data, in the order of --corpus.")
    corpus_fields: list[str] = option([], "Fields of the builder of a computed corpus, each name=value.")
    fraction: float = option(1.0, "Fraction of the training patients; a larger one contains every smaller one.")
    fraction_seed: int = option(0, "Seed of the choice of these patients; --seed does not change it.")
    task: str | None = option(None, "Task whose labels a supervised objective learns.")
    labels: list[str] = option([], "Labels of the task to learn; all of them if not given.")
    sampling_rate: float = option(240.0, "Sampling rate of the model's input, in Hz.", group="Input")
    crop_duration_s: float = option(2.5, "Length of a crop, in seconds.")
    normalization: str = option("none", "Normalisation of the input: none, record, or corpus (statistics of PTB-XL).")
    max_steps: int = option(1000, "Number of optimizer steps.", group="Optimisation")
    batch_size: int = option(64, "Crops per process and micro-batch.")
    gradient_accumulation_steps: int = option(1, "Micro-batches per optimizer step.")
    learning_rate: float = option(1e-3, "Peak learning rate.")
    learning_rate_scales: str = option("uniform", "uniform, or study_a: objective 1, layers 0.1, stem 0.01.")
    schedule: str = option("cosine", "Schedule after the warm-up: cosine or constant.")
    warmup_steps: int = option(100, "Steps of linear warm-up.")
    weight_decay: float = option(1e-3, "Weight decay of AdamW; norms, biases and state spaces are spared.")
    max_grad_norm: float = option(1.0, "Norm that gradients are clipped to; 0 does not clip.")
    mixed_precision: str = option("no", "Mixed precision: no, bf16 or fp16.")
    compile: bool = option(False, "Whether to compile the model with torch.compile.")
    gradient_checkpointing: bool = option(False, "Whether to recompute activations of the backbone to save memory.")
    seed: int = option(0, "Seed of weights, order, crops, dropout and negatives.")
    num_workers: int = option(0, "Loader processes per training process.")
    validation_steps: int = option(100, "Steps between validations; 0 validates at the end only.", group="Validation")
    max_validation_records: int = option(512, "Largest number of records to validate on.")
    early_stopping_patience: int = option(0, "Validations without a better loss before the run stops; 0: never.")
    checkpoint_steps: int = option(500, "Steps between checkpoints.", group="Checkpoints and failures")
    num_checkpoints: int = option(2, "Number of checkpoints to keep.")
    max_nonfinite_steps: int = option(10, "Steps in a row with a non-finite gradient before the run stops.")
    on_collapse: str = option("warn", "Reaction when representations collapse: warn, stop or ignore.")
    on_damage: str = option("stop", "Reaction to missing or changed shards of a built corpus: stop or skip.")
    collapse_patience: int = option(100, "Steps in a row that count as a collapse.")
    timeout_s: float = option(600.0, "Seconds after which a process that does not answer ends the run.")
    dry_run: bool = option(False, "Only report what the run needs: model, memory, time, data.", group="What to do")
    resume: bool = option(False, "Resume from the newest whole checkpoint in --output_dir, if there is one.")
    trackers: list[str] = option([], "Experiment trackers: any of tensorboard, trackio, wandb.")

    def __post_init__(self) -> None:
        choices = {
            "learning_rate_scales": ("uniform", "study_a"),
            "schedule": ("cosine", "constant"),
            "mixed_precision": ("no", "bf16", "fp16"),
            "normalization": ("none", "record", "corpus"),
            "on_collapse": ("warn", "stop", "ignore"),
            "on_damage": ("stop", "skip"),
            "sample_by": ("record", "patient"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        for names, in_range, said in RANGES:
            for name in names.split():
                if not in_range(getattr(self, name)):
                    raise ValueError(f"{name} must be {said}, got {getattr(self, name)!r}")
        check_fraction(self.fraction)
        if self.labels and self.task is None:
            raise ValueError(f"labels belong to a task, got {self.labels} without one; name the task too")
        for name in ("corpus_config", "corpus_weights"):
            given = getattr(self, name)
            if given and len(given) != len(self.corpus):
                raise ValueError(f"{name} needs one value for each of {self.corpus}, got {given}")

    def identity(self) -> dict[str, Any]:
        """Returns the arguments that a continuation of the run must repeat."""
        return {name: value for name, value in asdict(self).items() if name not in FREE_ARGUMENTS}


def check_fraction(fraction: float) -> None:
    """Checks a fraction of the patients.

    Raises:
        ValueError: If it is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")
