"""Opens a split of any corpus, raw or built, under an input contract."""

from ecg_hf.corpora.base import Corpus, EcgCorpus
from ecg_hf.data.built import BuiltCorpus, BuiltSplit
from ecg_hf.data.prepared import PreparedSplit
from ecg_hf.data.split import Split
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor


def open_split(corpus: Corpus, name: str, extractor: EcgFeatureExtractor) -> Split:
    """Opens the records of a split that are long enough for a crop.

    Args:
        corpus: A builder of raw records, or a built corpus.
        name: Name of the split.
        extractor: The input contract; its `num_samples` is the length of a crop.

    Raises:
        TypeError: If the corpus is neither.
        EcgError: If the records cannot be read as the contract asks, or none is left.
    """
    length = extractor.num_samples or 0
    if isinstance(corpus, BuiltCorpus):
        return BuiltSplit(corpus, name, extractor, length)
    if isinstance(corpus, EcgCorpus):
        return PreparedSplit(corpus, name, extractor, length)
    raise TypeError(f"expected an EcgCorpus or a BuiltCorpus, got a {type(corpus).__name__}; open it with open_corpus")
