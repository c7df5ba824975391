"""The untrained twin of a model: the fair null that a pretrained model has to beat."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForPreTraining, set_seed

from ecg_hf.corpora.base import Corpus
from ecg_hf.data.batches import MixedCrops
from ecg_hf.data.opening import open_split
from ecg_hf.data.split import Split
from ecg_hf.models.pairs import Pair
from ecg_hf.training.batch_norms import NUM_BATCHES, regather
from ecg_hf.training.run_folder import base_run

BATCH_SIZE = 64


def untrained_twin(model: str | Path, corpus: Corpus, *, seed: int | None = None) -> Pair:
    """Builds the network that a pretrained model was before its first step.

    The twin has the same architecture and the same initial weights. Its batch norms know the statistics of the
    corpus' training signals, as those of a pretrained model do: a twin whose running statistics are untouched would be
    an unfair null, because it sees its input on another scale.

    Args:
        model: Folder or Hub name of a pretrained pair.
        corpus: Corpus whose split "train" gives the statistics of the batch norms.
        seed: Seed of the weights; that of the model's own run if None, and 0 if that is not recorded.

    Returns:
        The pair, in evaluation mode.

    Raises:
        EcgError: If the corpus cannot be read as the model's input contract asks.

    Example:
        >>> import tempfile
        >>> import ecg_hf
        >>> from ecg_hf.corpora.loading import open_corpus
        >>> folder, fields = tempfile.mkdtemp(), ["num_records=20"]
        >>> arguments = ecg_hf.PretrainingArguments(
        ...     folder, size="20k", corpus_fields=fields, max_steps=1, batch_size=2, validation_steps=0
        ... )
        >>> _ = ecg_hf.pretrain(arguments)  # doctest: +SKIP
        >>> twin = ecg_hf.untrained_twin(folder, open_corpus("synthetic", num_records=20))  # doctest: +SKIP
        >>> type(twin).__name__  # doctest: +SKIP
        'EcgS4ForCPC'
    """
    extractor = AutoFeatureExtractor.from_pretrained(model)
    return make_twin(model, open_split(corpus, "train", extractor), seed)


def make_twin(model: str | Path, train: Split, seed: int | None = None) -> Pair:
    """Builds an untrained twin, see `untrained_twin`, with the statistics of a split that is already open."""
    run = base_run(str(model)) or {}
    set_seed(int(run.get("seed", 0)) if seed is None else seed)
    config: Any = AutoConfig.from_pretrained(model)
    twin: Pair = AutoModelForPreTraining.from_config(config)
    num_samples = AutoFeatureExtractor.from_pretrained(model).num_samples
    crops = MixedCrops([train], num_samples, 0)
    regather(twin.backbone, (batch["signal"] for batch in crops.first_batches(NUM_BATCHES, BATCH_SIZE)))
    twin.eval()
    return twin
