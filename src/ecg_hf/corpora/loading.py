"""The ways to a registered corpus: its builder, its rows, and `datasets.load_dataset("ecg_hf/<name>")`."""

from functools import wraps
from pathlib import Path
from typing import Any

import datasets
import datasets.inspect
import datasets.load

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.registry import CORPORA, load

PREFIX = "ecg_hf/"  # no account of the Hub can have this name, so nothing there is shadowed


def open_corpus(name: str, config: str | None = None, data_dir: str | Path | None = None, **options: Any) -> EcgCorpus:
    """Builds the builder of a registered corpus, without reading it yet.

    Args:
        name: Its key in the registry, such as "ptbxl".
        config: Which of its configs; its default one if None.
        data_dir: The folder, zip archive or http(s) address of its files, if it needs any.
        options: Fields of the corpus' config, such as `allow_missing=True`, and `cache_dir`.

    Raises:
        KeyError: If there is no such corpus.
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
    """Loads a corpus as `datasets.load_dataset("ecg_hf/<name>")` does, without passing through the Hub's machinery.

    Args:
        name: Its key in the registry, such as "ptbxl".
        config: Which of its configs; its default one if None.
        data_dir: The folder, zip archive or http(s) address of its files, if it needs any.
        split: Which split; all of them, as a dict, if None.
        streaming: Whether to read records as they are asked for instead of preparing Arrow files first.
        num_proc: How many processes prepare the Arrow files.
        cache_dir: Where the Arrow files go; the place that datasets uses if None.
        options: Fields of the corpus' config, such as `allow_missing=True`.

    Returns:
        A Dataset or, if streaming, an IterableDataset; without `split` a dict of them.
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


def register_corpora() -> None:
    """Lets `datasets.load_dataset("ecg_hf/<key>", data_dir=...)` find the corpora of the registry."""
    original = datasets.load.dataset_module_factory
    if hasattr(original, "ecg_hf_original"):
        return

    @wraps(original)
    def _find(path: str, *args: Any, **kwargs: Any) -> Any:
        name = str(path).removeprefix(PREFIX)
        if name == str(path) or name not in CORPORA:
            return original(path, *args, **kwargs)
        if kwargs.get("data_files") is not None:
            raise ValueError(
                f"{path} finds its own files; pass the place of the corpus as data_dir instead of data_files"
            )
        module = load(CORPORA, name).__module__
        return datasets.load.DatasetModule(module, "", {"dataset_name": name})

    _find.ecg_hf_original = original  # type: ignore[attr-defined]
    for module in (datasets.load, datasets.inspect):
        module.dataset_module_factory = _find
