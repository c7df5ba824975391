"""What code and what corpora stand behind a run; written into run.json and results.json."""

import datetime
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from ecg_hf.corpus import EcgCorpus
from ecg_hf.prepared import PreparedSplit
from ecg_hf.version import VERSION

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy", "safetensors")


def describe_code() -> dict[str, Any]:
    """Names the versions of the library, of Python and of what the library stands on, and the time (UTC)."""
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {
        "ecg_hf": VERSION,
        "versions": {"python": platform.python_version(), **versions},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def describe_corpus(corpus: EcgCorpus, splits: Sequence[PreparedSplit], weight: float = 1.0) -> dict[str, Any]:
    """Says what a card must know of a corpus that a model saw: source, licence, access, counts, fingerprint.

    Args:
        corpus: Its builder.
        splits: What was read of it, the training split first, whose patients' sex and age are summarised.
        weight: Its share in a mixture, in any unit.
    """
    return {
        "name": corpus.dataset_name,
        "config": corpus.config.name,
        "data_version": corpus.data_version,
        "unit": corpus.unit,
        "licence": corpus.licence,
        "licence_url": corpus.licence_url,
        "access": corpus.access,
        "homepage": corpus.homepage,
        "citation": corpus.citation,
        "patient_level": corpus.patient_level,
        "splits": {split.name: split.counts() for split in splits},
        "demographics": splits[0].demographics(),
        "fingerprint": corpus.fingerprint,
        "weight": weight,
    }
