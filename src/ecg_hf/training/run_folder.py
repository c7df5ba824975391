"""Descriptions of the code and corpora of a run, for run.json and results.json, and the writer of model folders."""

import datetime
import platform
from collections.abc import Sequence
from importlib import metadata
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.utils.hub import cached_file

from ecg_hf.corpora.base import Corpus
from ecg_hf.data.split import Split
from ecg_hf.errors import EcgCheckpointError
from ecg_hf.output.files import partial_folder, read_json, replace_folder, write_json
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.tasks.base import Task

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy", "safetensors")


def describe_code() -> dict[str, Any]:
    """Describes the code: versions of the library, of Python and of the main dependencies, and the time (UTC)."""
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {
        "ecg_hf": version("ecg_hf"),
        "versions": {"python": platform.python_version(), **versions},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def describe_corpus(corpus: Corpus, splits: Sequence[Split], weight: float = 1.0) -> dict[str, Any]:
    """Describes a corpus for a model card: source, licence, access, counts, sex and age, fingerprint.

    Args:
        corpus: Corpus that the model was trained or evaluated on, raw or built.
        splits: Splits that were read, the train split first; sex and age are summarised over the first split.
        weight: Sampling weight of the corpus in a mixture, in any unit.
    """
    return {
        **corpus.facts,
        "splits": {split.name: split.counts() for split in splits},
        "demographics": splits[0].demographics(),
        "fingerprint": corpus.fingerprint,
        "weight": weight,
    }


def base_run(model: str) -> dict[str, Any] | None:
    """Reads the run.json of a model folder or Hub repository; returns None if there is none."""
    path = cached_file(model, "run.json", _raise_exceptions_for_missing_entries=False)
    run: dict[str, Any] | None = None if path is None else read_json(Path(path))
    return run


def label_fields(task: Task) -> dict[str, Any]:
    """Returns the config fields that name a task's outputs."""
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
        "problem_type": task.problem_type,
    }


def save_run(folder: Path, model: Any, extractor: EcgFeatureExtractor, run: dict[str, Any]) -> None:
    """Writes a model folder; run.json comes last and marks the folder as complete.

    Args:
        folder: Path of the model folder.
        model: Model to save.
        extractor: Feature extractor of the model, which is its input contract.
        run: Content of run.json.

    Raises:
        EcgCheckpointError: If the folder cannot be written.
    """
    try:
        partial = partial_folder(folder / "model")
        model.save_pretrained(partial)
        extractor.save_pretrained(partial)
        write_json(partial / "run.json", run)
        replace_folder(partial, folder, last="run.json")
    except (OSError, SafetensorError) as error:
        raise EcgCheckpointError(
            f"the model could not be written to {folder} ({error}); free some space or choose another disk, and resume"
        ) from error
