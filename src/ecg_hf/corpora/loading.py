"""Functions that open a registered corpus: as a builder, as rows, and through `datasets.load_dataset`."""

from pathlib import Path
from typing import Any

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.registry import CORPORA, load


def open_corpus(name: str, config: str | None = None, data_dir: str | Path | None = None, **options: Any) -> EcgCorpus:
    """Returns the builder of a registered corpus, which lists its records and reads them one by one.

    Args:
        name: Name of the corpus in the registry, such as "ptbxl".
        config: Name of the config; the corpus' default if None.
        data_dir: Folder, zip archive or http(s) address of the files; None for a corpus without files.
        options: Fields of the corpus' config, such as `allow_missing=True`, and `cache_dir`.

    Raises:
        KeyError: If there is no such corpus.

    Example:
        >>> from ecg_hf.corpora.loading import open_corpus
        >>> corpus = open_corpus("synthetic", num_records=20)
        >>> corpus.licence, corpus.unit, corpus.patient_level
        ('CC0-1.0', 'mV', True)
        >>> corpus.entries()["test"][0].record_id  # the index is read now, but no signal
        '0-00000009'
    """
    builder: EcgCorpus = load(CORPORA, name)(
        dataset_name=name, config_name=config, data_dir=data_dir and str(data_dir), **options
    )
    return builder


def load_corpus(
    name: str,
    config: str | None = None,
    data_dir: str | Path | None = None,
    split: str | None = None,
    *,
    streaming: bool = False,
    num_proc: int | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> Any:
    """Loads a corpus as `datasets.load_dataset("ecg_hf/<name>")` does, without any call to the Hub.

    Args:
        name: Name of the corpus in the registry, such as "ptbxl".
        config: Name of the config; the corpus' default if None.
        data_dir: Folder, zip archive or http(s) address of the files; None for a corpus without files.
        split: Name of the split; all splits, as a dict, if None.
        streaming: Whether to read records during iteration instead of preparing Arrow files first.
        num_proc: Number of processes that prepare the Arrow files.
        cache_dir: Folder of the Arrow files; the cache of datasets if None.
        options: Fields of the corpus' config, such as `allow_missing=True`.

    Returns:
        A Dataset or, if streaming, an IterableDataset; without `split` a dict of them.

    Raises:
        KeyError: If there is no such corpus.
        ValueError: If `num_proc` is given although streaming.

    Example:
        >>> from ecg_hf import load_corpus, row_to_signal
        >>> row = next(iter(load_corpus("synthetic", split="test", streaming=True, num_records=20)))
        >>> row["record_id"], row["age"], [label["name"] for label in row["labels"]]
        ('0-00000009', 50.0, ['NORM'])
        >>> row_to_signal(row).shape  # 12 leads, 10 s at 500 Hz, in mV
        (12, 5000)
    """
    if streaming and num_proc is not None:
        raise ValueError(
            f"streaming reads in the workers of the loader, so num_proc={num_proc} has no meaning; leave it out"
        )
    builder = open_corpus(name, config, data_dir, cache_dir=cache_dir, **options)
    if streaming:
        return builder.as_streaming_dataset(split)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset(split)
