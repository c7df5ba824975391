"""`open_split`, the function that opens a split of any corpus, raw or built, for a feature extractor."""

from ecg_hf.corpora.base import Corpus, EcgCorpus
from ecg_hf.data.built import BuiltCorpus, BuiltSplit
from ecg_hf.data.prepared import PreparedSplit
from ecg_hf.data.split import Split
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor


def open_split(corpus: Corpus, name: str, extractor: EcgFeatureExtractor) -> Split:
    """Opens the records of a split that are long enough for a crop.

    Args:
        corpus: Builder of a raw corpus, or a built corpus.
        name: Name of the split.
        extractor: Feature extractor of the model, which is its input contract; `num_samples` is the length of a crop.

    Returns:
        A `PreparedSplit` of a raw corpus, or a `BuiltSplit` of a built one.

    Raises:
        TypeError: If the corpus is of neither kind.
        EcgError: If the feature extractor refuses the records, or no record is long enough.

    Example:
        >>> import tempfile
        >>> from ecg_hf import EcgFeatureExtractor
        >>> from ecg_hf.corpora.loading import open_corpus
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     corpus = open_corpus("synthetic", cache_dir=folder, num_records=20)
        ...     split = open_split(corpus, "test", EcgFeatureExtractor(sampling_rate=240, num_samples=600))
        >>> len(split), split.signal(0).shape
        (4, (12, 2400))
    """
    length = extractor.num_samples or 0
    if isinstance(corpus, BuiltCorpus):
        return BuiltSplit(corpus, name, extractor, length)
    if isinstance(corpus, EcgCorpus):
        return PreparedSplit(corpus, name, extractor, length)
    raise TypeError(f"expected an EcgCorpus or a BuiltCorpus, got a {type(corpus).__name__}; open it with open_corpus")
