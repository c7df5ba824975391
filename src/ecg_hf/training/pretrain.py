"""`pretrain`, which turns arguments into a model folder, and the functions that open the data and pair of a run."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from transformers import set_seed

from ecg_hf.corpora.base import Corpus
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.batches import MixedCrops
from ecg_hf.data.built import BuiltCorpus
from ecg_hf.data.opening import open_split
from ecg_hf.data.split import Split, require_disjoint
from ecg_hf.data.targets import choose_labels, fraction_of_patients, resolve_labels
from ecg_hf.models.pairs import PAIRS, Pair
from ecg_hf.registry import CORPORA, TASKS, load
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD, EcgFeatureExtractor
from ecg_hf.tasks.base import Task
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.recipes import parse_fields
from ecg_hf.training.run_folder import describe_code, describe_corpus, label_fields, save_run
from ecg_hf.training.run_log import plot_run
from ecg_hf.training.trainer import Pretrainer

SPLITS = ("train", "validation")


def pretrain(arguments: PretrainingArguments) -> Path:
    """Pretrains a pair on one corpus or several corpora.

    Args:
        arguments: Arguments of the run.

    Returns:
        `arguments.output_dir`, a model folder: weights, config, feature extractor (the model's input contract),
        run.json, metrics.jsonl and loss.png.

    Raises:
        KeyError: If the pair, a corpus or the task is not registered.
        ValueError: If the arguments contradict each other.
        EcgError: If the data or the checkpoint to resume from are missing, damaged, or do not belong to the run.
        SystemExit: After SIGINT or SIGTERM, with a checkpoint written.

    Example:
        >>> import tempfile
        >>> from transformers import AutoModel
        >>> from ecg_hf import PretrainingArguments, pretrain
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     arguments = PretrainingArguments(
        ...         output_dir=folder, size="20k", corpus_fields=["num_records=20"], max_steps=1, batch_size=2
        ...     )
        ...     model = AutoModel.from_pretrained(pretrain(arguments))
        >>> type(model).__name__
        'EcgS4CPCBackbone'
    """
    if arguments.dry_run:
        raise ValueError("a dry run trains nothing; leave out dry_run, or call forecast(open_run(arguments))")
    code = describe_code()
    opened = open_run(arguments)
    trainer = opened.trainer
    pair = trainer.fit()
    run = code | describe_run(arguments, trainer, pair) | {"corpora": opened.describe_corpora()}
    folder = Path(arguments.output_dir)
    if trainer.main:
        save_run(folder, pair, opened.extractor, run)
        plot_run(trainer.log.curve, folder / "loss.png")
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return folder


class OpenRun(NamedTuple):
    """A run that is ready to train.

    Args:
        trainer: Training loop, with the pair, the training crops and the validation records.
        extractor: Feature extractor of the run.
        corpora: Corpora of the run.
        validation: Validation split of each corpus.
    """

    trainer: Pretrainer
    extractor: EcgFeatureExtractor
    corpora: list[Corpus]
    validation: list[Split]

    def weights(self) -> list[float]:
        """Returns the sampling weight of each corpus, in any unit."""
        return list(self.trainer.arguments.corpus_weights or self.trainer.train.order.sizes)

    def describe_corpora(self) -> list[dict[str, Any]]:
        """Describes each corpus for a model card."""
        parts = zip(self.corpora, self.trainer.train.splits, self.validation, self.weights(), strict=True)
        return [describe_corpus(corpus, splits, weight) for corpus, *splits, weight in parts]


def open_run(arguments: PretrainingArguments) -> OpenRun:
    """Opens the data of a run and builds its pair; raises the same errors as `pretrain`."""
    task = load(TASKS, arguments.task) if arguments.task else None
    extractor = make_extractor(arguments)
    corpora = open_corpora(arguments)
    num_samples = extractor.num_samples
    assert num_samples is not None
    opened = [open_splits(corpus, extractor) for corpus in corpora]
    train = [split for split, _ in opened]
    # labels are counted before patients are left out, so that every fraction of the patients has the same outputs
    task = task and choose_labels(resolve_labels(task, corpora, train), arguments.labels)
    crops = make_crops(arguments, train, task)
    validation = [split.select(range(min(len(split), arguments.max_validation_records))) for _, split in opened]
    set_seed(arguments.seed)
    trainer = Pretrainer(
        arguments,
        make_pair(arguments, task),
        crops,
        MixedCrops(validation, num_samples, arguments.seed, targets=_targets(validation, task)),
    )
    return OpenRun(trainer, extractor, corpora, validation)


def describe_run(arguments: PretrainingArguments, trainer: Pretrainer, pair: Pair) -> dict[str, Any]:
    """Describes a finished run, for run.json."""
    state, examples = trainer.state, trainer.state.step * trainer.batch_size
    return {
        "kind": "pretraining",
        "pair": arguments.pair,
        "size": arguments.size,
        "seed": arguments.seed,
        "steps": state.step,
        "skipped_steps": state.skipped,
        "examples_seen": examples,
        "seconds": state.seconds,
        "parameters": pair.backbone.num_parameters(only_trainable=True),
        # A backward pass costs as much as two forward passes; the cost of the objective itself is not counted.
        "flops": 3 * pair.backbone.forward_flops(trainer.num_samples) * examples,
        "validation_loss": state.best_loss,
        "validation_step": state.best_step,
        "arguments": asdict(arguments),
    }


def make_extractor(arguments: PretrainingArguments) -> EcgFeatureExtractor:
    """Builds the feature extractor that the arguments of a run describe."""
    statistics = (PTBXL_MEAN, PTBXL_STD) if arguments.normalization == "corpus" else (None, None)
    return EcgFeatureExtractor(
        sampling_rate=arguments.sampling_rate,
        num_samples=round(arguments.crop_duration_s * arguments.sampling_rate),
        normalization=arguments.normalization,
        mean=statistics[0],
        std=statistics[1],
        missing_leads="derive",
        missing_samples="interpolate",
    )


def open_splits(corpus: Corpus, extractor: EcgFeatureExtractor) -> tuple[Split, Split]:
    """Opens the train and validation split of a corpus, and checks that they share no patient."""
    train, validation = (open_split(corpus, split, extractor) for split in SPLITS)
    require_disjoint(train, validation)
    return train, validation


def choose_fraction(split: Split, arguments: PretrainingArguments) -> Split:
    """Restricts a train split to the fraction of the patients that a run is trained on."""
    if arguments.fraction == 1:
        return split
    return split.select(fraction_of_patients(split, arguments.fraction, arguments.fraction_seed))


def make_crops(arguments: PretrainingArguments, train: Sequence[Split], task: Task | None = None) -> MixedCrops:
    """Builds the training crops of a run, by their position.

    Args:
        arguments: Arguments of the run.
        train: Train split of each corpus, with all patients.
        task: Task that a supervised run learns; None for a self-supervised run.
    """
    train = [choose_fraction(split, arguments) for split in train]
    return MixedCrops(
        train,
        round(arguments.crop_duration_s * arguments.sampling_rate),
        arguments.seed,
        weights=list(arguments.corpus_weights) or None,
        sample_by=arguments.sample_by,
        targets=_targets(train, task),
    )


def open_corpora(arguments: PretrainingArguments) -> list[Corpus]:
    """Opens the corpora of a run: registered corpora, with their configs and data, and folders of built corpora.

    Raises:
        KeyError: If a corpus is neither registered nor a folder.
        ValueError: If there is not one data_dir for each registered corpus that needs data.
        EcgError: If a folder holds no built corpus.
    """
    skip = arguments.on_damage == "skip"
    folders = [name for name in arguments.corpus if name not in CORPORA and Path(name).is_dir()]
    built = {name: BuiltCorpus(name, skip_damaged=skip) for name in folders}
    for corpus in built.values():
        corpus.check()
    needing = [name for name in arguments.corpus if name not in built and load(CORPORA, name).needs_data_dir]
    if len(arguments.data_dir) != len(needing):
        raise ValueError(
            f"data_dir must name a place for each of {needing}, got {arguments.data_dir}; give them in this order"
        )
    places = dict(zip(needing, arguments.data_dir, strict=True))
    configs = arguments.corpus_config or [""] * len(arguments.corpus)
    fields = parse_fields(arguments.corpus_fields)
    return [
        built.get(name) or open_corpus(name, config or None, places.get(name), **({} if name in places else fields))
        for name, config in zip(arguments.corpus, configs, strict=True)
    ]


def make_pair(arguments: PretrainingArguments, task: Task | None) -> Pair:
    """Builds a new pair of the size and with the fields that the arguments of a run name.

    Args:
        arguments: Arguments of the run.
        task: Task that a supervised run learns; None for a self-supervised run.

    Raises:
        KeyError: If the pair or its size does not exist.
        ValueError: If a supervised pair has no task, or another pair has one.
    """
    if arguments.pair not in PAIRS:
        raise KeyError(f"pair {arguments.pair!r} is not registered; choose one of {sorted(PAIRS)}")
    pair = PAIRS[arguments.pair]
    if (task is None) == pair.objective_class.uses_labels:
        raise ValueError(
            f"{arguments.pair} learns {'labels' if task is None else 'without labels'}, got task={arguments.task!r}; "
            f"{'name' if task is None else 'leave out'} the task, or choose another pair"
        )
    sizes = pair.backbone_class.sizes
    if arguments.size not in sizes:
        raise KeyError(f"{arguments.pair} has no size {arguments.size!r}; choose one of {sorted(sizes)}")
    fields = {**sizes[arguments.size], **parse_fields(arguments.model_fields)}
    if task is not None:
        fields |= label_fields(task)
    model = pair(pair.config_class(**fields))
    if arguments.gradient_checkpointing:
        # transformers renamed this method after 5.17, and warns of the old name
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable()
    return model


def _targets(splits: Sequence[Split], task: Task | None) -> list[Any] | None:
    return None if task is None else [split.targets(task) for split in splits]
