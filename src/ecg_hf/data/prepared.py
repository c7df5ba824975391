"""Splits of raw corpora: features that are computed once and kept by `datasets` in a memory-mapped file."""

import functools
import json
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.corpora.code_hash import code_hash
from ecg_hf.data.columns import Column
from ecg_hf.data.split import Split, check_unit
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

logger = logging.getLogger(__name__)


class PreparedSplit(Split):
    """A split of a raw corpus, with the features of all its records in a memory-mapped file.

    The file is cached under a hash of the data, the feature extractor and its code: a second run reads it back.

    Args:
        corpus: Builder of the raw corpus.
        split: Name of the split.
        extractor: Feature extractor of the model.
        num_samples: Minimum length of a record, T; shorter records are left out, counted and logged.
    """

    def __init__(self, corpus: EcgCorpus, split: str, extractor: EcgFeatureExtractor, num_samples: int = 0):
        check_unit(corpus.dataset_name, corpus.unit, extractor)
        corpus.download_and_prepare()
        rows = corpus.as_dataset(split=split)
        kept = [name for name in rows.column_names if name not in ("signal", "gain", "baseline", "leads", "report")]
        table = rows.map(
            _features,
            fn_kwargs={"contract": json.dumps(extractor.to_dict(), sort_keys=True), "code": _code_hash()},
            remove_columns=[name for name in rows.column_names if name not in kept],
            desc=f"preparing {corpus.dataset_name} {split}",
        )
        super().__init__(corpus.dataset_name, split, corpus.fingerprint, table, num_samples)
        self.num_leads = len(extractor.leads)
        self.signals = Column(table, "signal")

    def signal(self, index: int) -> NDArray[np.float32]:
        """Returns the features of a record, shape (L, T)."""
        values = self.signals[int(self.places[index])]
        return values.view(np.float32).reshape(self.num_leads, -1)

    def crops(self, indices: NDArray[np.int64], starts: NDArray[np.int64], num_samples: int) -> NDArray[np.float32]:
        """Cuts one crop out of each of several records, see `Split.crops`."""
        out = np.empty((len(indices), self.num_leads, num_samples), np.float32)
        for crop, index, start in zip(out, indices.tolist(), starts.tolist(), strict=True):
            crop[:] = self.signal(index)[:, start : start + num_samples]
        return out


@functools.lru_cache(maxsize=8)
def _extractor(contract: str) -> EcgFeatureExtractor:
    return EcgFeatureExtractor(**json.loads(contract))


@functools.cache
def _code_hash() -> str:
    """Returns a hash of the code that computes features, so that features of older code are not read back."""
    return code_hash([EcgFeatureExtractor.__module__])


def _features(row: dict[str, Any], contract: str, code: str) -> dict[str, Any]:
    signal = _extractor(contract).process_row(row)
    recorded = {"duration_s": row["num_samples"] / row["sampling_rate"], "num_leads": len(row["leads"])}
    return {"signal": signal.tobytes(), "num_samples": signal.shape[1], **recorded}
