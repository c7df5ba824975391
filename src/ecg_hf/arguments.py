"""What can be said of a run, on a command line or in a YAML recipe: one dataclass per script."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from transformers import HfArgumentParser

Arguments = TypeVar("Arguments")

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


def _say(default: Any, text: str) -> Any:
    """A field with a default and the line that `--help` shows for it."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class PretrainingArguments:
    """Everything that decides a pretraining run; saved beside its weights."""

    output_dir: str = field(metadata={"help": "Folder that becomes the model: weights, config, contract, run.json."})
    pair: str = _say("s4-cpc", "Backbone and objective, a key of ecg_hf.PAIRS.")
    size: str = _say("2m", "One of the backbone's sizes.")
    model_fields: list[str] = _say([], "Further fields of the model's config, each name=value.")
    corpus: list[str] = _say(["synthetic"], "Corpora to learn from: registered names, or folders of built ones.")
    corpus_config: list[str] = _say([], "A config for each corpus; its default where this is empty.")
    corpus_weights: list[float] = _say([], "How often to draw from each corpus; by what sample_by counts if empty.")
    sample_by: str = _say("record", "record or patient: of what an epoch has one crop each.")
    data_dir: list[str] = _say([], "Folder, zip or URL of each corpus that needs data, in their order.")
    corpus_fields: list[str] = _say([], "Fields for the builder of a computed corpus, each name=value.")
    fraction: float = _say(1.0, "Share of the training patients to use; a larger share contains a smaller one.")
    fraction_seed: int = _say(0, "Of their choice, which the run's own seed does not touch.")
    task: str | None = _say(None, "Task whose labels a supervised objective learns.")
    labels: list[str] = _say([], "Only these of the task's labels; all of them where this is empty.")
    sampling_rate: float = _say(240.0, "Rate of the model's input, in Hz.")
    crop_duration_s: float = _say(2.5, "Length of a crop, in seconds.")
    normalization: str = _say("none", "Input normalisation: none, record, or corpus (PTB-XL's statistics).")
    max_steps: int = _say(1000, "Optimizer steps.")
    batch_size: int = _say(64, "Crops per process and micro-batch.")
    gradient_accumulation_steps: int = _say(1, "Micro-batches per optimizer step.")
    learning_rate: float = _say(1e-3, "Peak learning rate.")
    learning_rate_scales: str = _say("uniform", "uniform, or study_a: objective 1, trunk 0.1, stem 0.01.")
    schedule: str = _say("cosine", "cosine or constant, after the warm-up.")
    warmup_steps: int = _say(100, "Steps of linear warm-up.")
    weight_decay: float = _say(1e-3, "AdamW's decay of what decays.")
    max_grad_norm: float = _say(1.0, "Gradients are clipped to this norm; 0 does not clip.")
    mixed_precision: str = _say("no", "no, bf16 or fp16.")
    compile: bool = _say(False, "Whether to compile the model with torch.compile.")
    gradient_checkpointing: bool = _say(False, "Whether to trade time for memory in the backbone.")
    seed: int = _say(0, "Decides weights, order, crops, dropout and negatives.")
    num_workers: int = _say(0, "Loader processes per rank.")
    validation_steps: int = _say(100, "Steps between validations; 0 validates at the end only.")
    max_validation_records: int = _say(512, "Validate on at most so many records.")
    early_stopping_patience: int = _say(0, "Stop after so many validations without a better loss; 0 never stops.")
    checkpoint_steps: int = _say(500, "Steps between checkpoints.")
    num_checkpoints: int = _say(2, "How many checkpoints to keep.")
    max_nonfinite_steps: int = _say(10, "Stop after so many steps in a row whose gradient is not finite.")
    on_collapse: str = _say("warn", "When representations no longer differ: warn, stop or ignore.")
    on_damage: str = _say("stop", "When shards of a built corpus are missing or have changed: stop, or skip them.")
    collapse_patience: int = _say(100, "Steps in a row after which that is so.")
    timeout_s: float = _say(600.0, "Seconds after which a process that does not answer ends the run.")
    dry_run: bool = _say(False, "Only say what the run would be and take: model, memory, time, data.")
    resume: bool = _say(False, "Continue from the newest whole checkpoint in output_dir, if there is one.")
    trackers: list[str] = _say([], "Any of tensorboard, trackio, wandb.")

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
        _check_fraction(self.fraction)
        if self.labels and self.task is None:
            raise ValueError(f"labels are those of a task, got {self.labels} without one; name it in task")
        for name in ("corpus_config", "corpus_weights"):
            given = getattr(self, name)
            if given and len(given) != len(self.corpus):
                raise ValueError(f"{name} needs one value for each of {self.corpus}, got {given}")

    def identity(self) -> dict[str, Any]:
        """Gives the arguments that a continuation of the run must repeat."""
        return {name: value for name, value in asdict(self).items() if name not in FREE_ARGUMENTS}


@dataclass
class FinetuningArguments:
    """Everything that decides a fine-tuning run; saved beside its results."""

    model: str = field(metadata={"help": "Folder or Hub name of a pretrained model."})
    task: str = field(metadata={"help": "A key of ecg_hf.registry.TASKS."})
    output_dir: str = field(metadata={"help": "Folder for the model, results.json and predictions.parquet."})
    mode: str = _say("linear", "linear, frozen (attention probe), finetune or scratch.")
    data_dir: str | None = _say(None, "Folder, zip or URL of the task's corpus, or the folder where it was built.")
    corpus_config: str | None = _say(None, "Config of the corpus; the task's default if not given.")
    corpus_fields: list[str] = _say([], "Fields for the builder of a computed corpus, each name=value.")
    unlabelled: str | None = _say(None, "drop or zero: records without a label of the task; the task's default.")
    vocabulary: str | None = _say(None, "train or all (study A): where labels are counted that must be frequent.")
    epochs: int = _say(100, "Passes over the training records, one random crop (cached probes: tile) of each.")
    fraction: float = _say(1.0, "Share of the training patients to use; a larger share contains a smaller one.")
    frozen_features: str = _say(
        "float32", "How a probe keeps its features: float32, float16, or none, to run the backbone in each epoch."
    )
    feature_cache: str | None = _say(None, "Folder for these, which later runs reuse; in the datasets cache if None.")
    batch_size: int = _say(64, "Crops per step.")
    learning_rate: float = _say(1e-3, "Of the head; finetune uses a tenth for the trunk, a hundredth for the stem.")
    weight_decay: float = _say(1e-3, "AdamW's decay of what decays.")
    max_grad_norm: float = _say(0.0, "Gradients are clipped to this norm; 0 does not clip.")
    early_stopping_patience: int = _say(0, "Stop after so many epochs without a better score; 0 never stops.")
    num_resamples: int = _say(1000, "Bootstrap resamples of patients behind each interval.")
    seed: int = _say(0, "Decides the head, order, crops, dropout and the fraction.")
    resume: bool = _say(False, "Continue from the last epoch in output_dir, if there is one.")

    def __post_init__(self) -> None:
        if self.mode not in ("linear", "frozen", "finetune", "scratch"):
            raise ValueError(f"mode must be linear, frozen, finetune or scratch, got {self.mode!r}")
        _check_fraction(self.fraction)
        if self.unlabelled not in (None, "drop", "zero"):
            raise ValueError(f"unlabelled must be drop or zero, got {self.unlabelled!r}")
        if self.vocabulary not in (None, "train", "all"):
            raise ValueError(f"vocabulary must be train or all, got {self.vocabulary!r}")
        if self.frozen_features not in ("float32", "float16", "none"):
            raise ValueError(f"frozen_features must be float32, float16 or none, got {self.frozen_features!r}")


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")


def parse_arguments(kind: type[Arguments], argv: Sequence[str]) -> Arguments:
    """Reads arguments from flags, or from a YAML recipe that flags after it override.

    Args:
        kind: A dataclass of this module.
        argv: Command line without the script's name; its first word may be a recipe's path. What a recipe does not say,
            the recipe that it names as its `base` does, a path from its own folder.

    Raises:
        ValueError: If a recipe names a field that does not exist, or a value is not allowed.
    """
    flags = list(argv)
    if flags and flags[0].endswith((".yaml", ".yml")):
        flags = [*_read_recipe(Path(flags[0]), kind), *flags[1:]]
    parser = HfArgumentParser(cast(Any, kind), description=kind.__doc__)
    (arguments,) = parser.parse_args_into_dataclasses(flags)
    parsed: Arguments = arguments
    return parsed


def make_arguments(kind: type[Arguments], values: Mapping[str, Any], where: str = "the arguments") -> Arguments:
    """Makes arguments of values by name, as a YAML file holds them, under the rules of the command line.

    Args:
        kind: A dataclass of this module.
        values: By name of the field.
        where: Names their source in an error.

    Raises:
        ValueError: If a field does not exist, or a value is not allowed.
    """
    return parse_arguments(kind, _as_flags(values, kind, where))


def _read_recipe(path: Path, kind: Any) -> list[str]:
    """Turns a recipe, after its base if it has one, into flags."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} must map names of {kind.__name__} to values, got {recipe}")
    base = recipe.pop("base", None)
    return [*(_read_recipe(path.parent / base, kind) if base else []), *_as_flags(recipe, kind, str(path))]


def _as_flags(values: Mapping[str, Any], kind: Any, where: str) -> list[str]:
    known = {entry.name for entry in fields(kind)}
    if odd := sorted(values.keys() - known):
        raise ValueError(f"{where} must map names of {kind.__name__} to values, got {odd}; choose from {sorted(known)}")
    flags = []
    for name, value in values.items():
        words = value if isinstance(value, list) else [] if value is None else [value]
        flags += [f"--{name}", *map(str, words)] if words else []
    return flags


def parse_fields(pairs: Sequence[str]) -> dict[str, Any]:
    """Reads `name=value` words, values as in YAML: `["dropout=0.1", "causal=true"]`.

    Raises:
        ValueError: If a word has no "=".
    """
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"expected name=value, got {pair!r}; write for example dropout=0.1")
    return {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in pairs)}
