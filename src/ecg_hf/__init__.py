"""Electrocardiogram (ECG) foundation models as Hugging Face citizens.

Importing the package costs almost nothing: its models enter the Auto classes of transformers when these are first
used, its corpora enter `datasets.load_dataset` when datasets is imported, and its public names are loaded when they
are first asked for.

An ECG takes one road through the folders, from top to bottom of this list:

    signals      one ECG: record, units, quality, the feature extractor that is a model's input contract
    corpora      sources of ECGs: one file or folder for each public corpus, and for records of your own
    tasks        questions that are asked of a corpus: labels, splits, metric
    data         from rows to batches: splits, crops, built shards, the order of the records
    models       backbones, objectives, and their pairs: each a `PreTrainedModel`
    training     a pretraining run: loop, checkpoints, logs
    evaluation   fine-tuning, probes, scores with intervals
    scaling      laws over many runs, and the sweeps that make them
    hub          cards and publishing
    commands     the command line, `ecg-hf`

Beside the road stand `errors`, `registry` (every kind by its name) and `output` (files, figures, terminal).

Example:
    >>> import ecg_hf
    >>> row = next(iter(ecg_hf.load_corpus("synthetic", split="test", streaming=True, num_records=20)))
    >>> ecg_hf.row_to_signal(row).shape  # 12 leads, 10 s at 500 Hz, in mV
    (12, 5000)
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ecg_hf.errors import EcgError
from ecg_hf.registry import register_corpora, register_models

if TYPE_CHECKING:
    from ecg_hf.corpora.loading import load_corpus
    from ecg_hf.evaluation.arguments import FinetuningArguments
    from ecg_hf.evaluation.finetune import finetune
    from ecg_hf.evaluation.metrics import Score, evaluate_predictions
    from ecg_hf.evaluation.untrained import untrained_twin
    from ecg_hf.hub.publishing import publish
    from ecg_hf.models.classification import CLASSIFIERS
    from ecg_hf.models.pairs import PAIRS
    from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
    from ecg_hf.signals.record import LEADS, Record
    from ecg_hf.signals.row import row_to_signal
    from ecg_hf.training.arguments import PretrainingArguments
    from ecg_hf.training.pretrain import pretrain

_MODULES = {
    "CLASSIFIERS": "models.classification",
    "LEADS": "signals.record",
    "PAIRS": "models.pairs",
    "EcgFeatureExtractor": "signals.feature_extraction",
    "FinetuningArguments": "evaluation.arguments",
    "PretrainingArguments": "training.arguments",
    "Record": "signals.record",
    "Score": "evaluation.metrics",
    "evaluate_predictions": "evaluation.metrics",
    "finetune": "evaluation.finetune",
    "load_corpus": "corpora.loading",
    "pretrain": "training.pretrain",
    "publish": "hub.publishing",
    "row_to_signal": "signals.row",
    "untrained_twin": "evaluation.untrained",
}

__version__ = version("ecg_hf")

__all__ = [
    "CLASSIFIERS",
    "LEADS",
    "PAIRS",
    "EcgError",
    "EcgFeatureExtractor",
    "FinetuningArguments",
    "PretrainingArguments",
    "Record",
    "Score",
    "__version__",
    "evaluate_predictions",
    "finetune",
    "load_corpus",
    "pretrain",
    "publish",
    "register_corpora",
    "row_to_signal",
    "untrained_twin",
]

register_corpora()
register_models()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ecg_hf' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"ecg_hf.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
