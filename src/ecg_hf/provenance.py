"""What code and what corpora stand behind a run; written into run.json and results.json."""

import datetime
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from ecg_hf.built import BuiltCorpus
from ecg_hf.corpus import EcgCorpus
from ecg_hf.split import Split
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


def describe_corpus(corpus: EcgCorpus | BuiltCorpus, splits: Sequence[Split], weight: float = 1.0) -> dict[str, Any]:
    """Says what a card must know of a corpus that a model saw: source, licence, access, counts, fingerprint.

    Args:
        corpus: Its builder, or what was built of it.
        splits: What was read of it, the training split first, whose patients' sex and age are summarised.
        weight: Its share in a mixture, in any unit.
    """
    return {
        **corpus.facts,
        "splits": {split.name: split.counts() for split in splits},
        "demographics": splits[0].demographics(),
        "fingerprint": corpus.fingerprint,
        "weight": weight,
    }
