"""Inputs of a fine-tuning run: finds the task, the model's feature extractor and the corpus, raw or built."""

import logging
from dataclasses import replace
from typing import Any, cast

from transformers import AutoFeatureExtractor

from ecg_hf.corpora.base import Corpus
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.built import BuiltCorpus, is_built
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.registry import CORPORA, TASKS, load
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.tasks.base import Task
from ecg_hf.training.recipes import parse_fields

logger = logging.getLogger(__name__)


def find_task(arguments: FinetuningArguments) -> Task:
    """Loads the task of a run; the run's "vocabulary", if given, replaces the records over which labels are counted."""
    task: Task = load(TASKS, arguments.task)
    if task.vocabulary is None or arguments.vocabulary is None:
        return task
    return replace(task, vocabulary=replace(task.vocabulary, counted=cast(Any, arguments.vocabulary)))


def read_contract(model: str) -> EcgFeatureExtractor:
    """Loads the feature extractor of a model, which is its input contract: how a signal is prepared for the model.

    Args:
        model: Folder of the model, or its name on the Hub.

    Raises:
        ValueError: If the feature extractor has no `num_samples`, the length of a crop.
    """
    extractor: EcgFeatureExtractor = AutoFeatureExtractor.from_pretrained(model)
    if extractor.num_samples is None:
        raise ValueError(f"the input contract of {model} has no num_samples; set it to the samples of a crop")
    return extractor


def open_task_corpus(arguments: FinetuningArguments, task: Task) -> Corpus:
    """Opens the corpus of a task, from its raw data or from the folder where it was built.

    Args:
        arguments: Arguments of the run.
        task: Task of the run.

    Returns:
        The corpus, of the run's config if given, else the task's, else the corpus' default.

    Raises:
        ValueError: If fields of a builder are given for a corpus that is already built.
        EcgIntegrityError: If the folder holds another built corpus, or another config of the corpus.
    """
    config, place = arguments.corpus_config or task.config, arguments.data_dir
    if place is None or not is_built(place):
        return open_corpus(task.corpus, config, place, **parse_fields(arguments.corpus_fields))
    if arguments.corpus_fields:
        raise ValueError(f"{place} is already built; leave out corpus_fields, got {arguments.corpus_fields}")
    built = BuiltCorpus(place)
    if built.dataset_name != task.corpus:
        raise EcgIntegrityError(
            f"{place} holds {built.dataset_name}, expected {task.corpus}, which {task.name} asks about; pass its folder"
        )
    config = config or load(CORPORA, task.corpus).DEFAULT_CONFIG_NAME or "default"
    if built.facts["config"] != config:
        raise EcgIntegrityError(
            f"{place} was built of the config {built.facts['config']!r}, expected {config!r}; build this config, or "
            f"set corpus_config to {built.facts['config']!r}"
        )
    if left_out := built.manifest["left_out"]:
        logger.warning("%d records of %s were left out when it was built", left_out, place)
    return built
