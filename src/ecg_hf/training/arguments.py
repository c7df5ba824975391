"""What can be said of a run, on a command line or in a YAML recipe: one dataclass per script."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

# What may differ between a run and its continuation without changing a single number of it.
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
    "on_damage",  # what is left out changes the fingerprint of the data
    "timeout_s",
    "dry_run",
    # how a step's crops are shared out: of these only the product counts, see Pretrainer
    "batch_size",
    "gradient_accumulation_steps",
}


# What numbers may be, checked before anything is opened.
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


def option(default: Any, text: str) -> Any:
    """A field with a default and the line that `--help` shows for it."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class PretrainingArguments:
    """Everything that decides a pretraining run; saved beside its weights."""

    output_dir: str = field(metadata={"help": "Folder that becomes the model: weights, config, contract, run.json."})
    pair: str = option("s4-cpc", "Backbone and objective, a key of ecg_hf.PAIRS.")
    size: str = option("2m", "One of the backbone's sizes.")
    model_fields: list[str] = option([], "Further fields of the model's config, each name=value.")
    corpus: list[str] = option(["synthetic"], "Corpora to learn from: registered names, or folders of built ones.")
    corpus_config: list[str] = option([], "A config for each corpus; its default where this is empty.")
    corpus_weights: list[float] = option([], "How often to draw from each corpus; by what sample_by counts if empty.")
    sample_by: str = option("record", "record or patient: of what an epoch has one crop each.")
    data_dir: list[str] = option([], "Folder, zip or URL of each corpus that needs data, in their order.")
    corpus_fields: list[str] = option([], "Fields for the builder of a computed corpus, each name=value.")
    fraction: float = option(1.0, "Share of the training patients to use; a larger share contains a smaller one.")
    fraction_seed: int = option(0, "Of their choice, which the run's own seed does not touch.")
    task: str | None = option(None, "Task whose labels a supervised objective learns.")
    labels: list[str] = option([], "Only these of the task's labels; all of them where this is empty.")
    sampling_rate: float = option(240.0, "Rate of the model's input, in Hz.")
    crop_duration_s: float = option(2.5, "Length of a crop, in seconds.")
    normalization: str = option("none", "Input normalisation: none, record, or corpus (PTB-XL's statistics).")
    max_steps: int = option(1000, "Optimizer steps.")
    batch_size: int = option(64, "Crops per process and micro-batch.")
    gradient_accumulation_steps: int = option(1, "Micro-batches per optimizer step.")
    learning_rate: float = option(1e-3, "Peak learning rate.")
    learning_rate_scales: str = option("uniform", "uniform, or study_a: objective 1, trunk 0.1, stem 0.01.")
    schedule: str = option("cosine", "cosine or constant, after the warm-up.")
    warmup_steps: int = option(100, "Steps of linear warm-up.")
    weight_decay: float = option(1e-3, "AdamW's decay of what decays.")
    max_grad_norm: float = option(1.0, "Gradients are clipped to this norm; 0 does not clip.")
    mixed_precision: str = option("no", "no, bf16 or fp16.")
    compile: bool = option(False, "Whether to compile the model with torch.compile.")
    gradient_checkpointing: bool = option(False, "Whether to trade time for memory in the backbone.")
    seed: int = option(0, "Decides weights, order, crops, dropout and negatives.")
    num_workers: int = option(0, "Loader processes per rank.")
    validation_steps: int = option(100, "Steps between validations; 0 validates at the end only.")
    max_validation_records: int = option(512, "Validate on at most so many records.")
    early_stopping_patience: int = option(0, "Stop after so many validations without a better loss; 0 never stops.")
    checkpoint_steps: int = option(500, "Steps between checkpoints.")
    num_checkpoints: int = option(2, "How many checkpoints to keep.")
    max_nonfinite_steps: int = option(10, "Stop after so many steps in a row whose gradient is not finite.")
    on_collapse: str = option("warn", "When representations no longer differ: warn, stop or ignore.")
    on_damage: str = option("stop", "When shards of a built corpus are missing or have changed: stop, or skip them.")
    collapse_patience: int = option(100, "Steps in a row after which that is so.")
    timeout_s: float = option(600.0, "Seconds after which a process that does not answer ends the run.")
    dry_run: bool = option(False, "Only say what the run would be and take: model, memory, time, data.")
    resume: bool = option(False, "Continue from the newest whole checkpoint in output_dir, if there is one.")
    trackers: list[str] = option([], "Any of tensorboard, trackio, wandb.")

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
            raise ValueError(f"labels are those of a task, got {self.labels} without one; name it in task")
        for name in ("corpus_config", "corpus_weights"):
            given = getattr(self, name)
            if given and len(given) != len(self.corpus):
                raise ValueError(f"{name} needs one value for each of {self.corpus}, got {given}")

    def identity(self) -> dict[str, Any]:
        """Gives the arguments that a continuation of the run must repeat."""
        return {name: value for name, value in asdict(self).items() if name not in FREE_ARGUMENTS}


def check_fraction(fraction: float) -> None:
    """Checks a fraction of the patients.

    Raises:
        ValueError: If it is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")
