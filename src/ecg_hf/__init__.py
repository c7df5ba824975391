"""Electrocardiogram foundation models as Hugging Face citizens.

Importing the package registers its models with the Auto classes of transformers and its corpora with
`datasets.load_dataset`.
"""

from importlib.metadata import version

from ecg_hf.corpora.loading import load_corpus, register_corpora
from ecg_hf.errors import EcgError
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.evaluation.finetune import finetune
from ecg_hf.evaluation.metrics import Score, evaluate_predictions
from ecg_hf.hub.publishing import publish
from ecg_hf.models.classification import CLASSIFIERS
from ecg_hf.models.pairs import PAIRS
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor
from ecg_hf.signals.record import LEADS, Record
from ecg_hf.signals.row import row_to_signal
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.pretrain import pretrain

__version__ = version("ecg_hf")
register_corpora()

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
]
