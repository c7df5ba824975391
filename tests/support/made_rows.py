"""Splits of made-up records with labels and without signals."""

from types import SimpleNamespace

import datasets
import numpy as np

from ecg_hf.data.prepared import PreparedSplit
from ecg_hf.signals.row import row_features


def rows_of(labels, durations=None, leads=None):
    """Rows as PreparedSplit keeps them, without signals; `labels` are (set, name) or (set, name, value)."""
    structs = [[dict(zip(("set", "name", "value"), (*label, 1.0), strict=False)) for label in own] for own in labels]
    number = len(labels)
    columns = {
        "record_id": [str(index) for index in range(number)],
        "patient_id": [None] * number,
        "labels": structs,
        "duration_s": durations or [10.0] * number,
        "num_leads": leads or [12] * number,
        "signal": [b""] * number,
    }
    features = {name: datasets.Value("string") for name in ("record_id", "patient_id")}
    features |= {"duration_s": datasets.Value("float64"), "num_leads": datasets.Value("int64")}
    features |= {"labels": row_features()["labels"], "signal": datasets.Value("binary")}
    return datasets.Dataset.from_dict(columns, datasets.Features({name: features[name] for name in columns}))


def split_of(name, labels, **facts):
    split = object.__new__(PreparedSplit)
    split.corpus, split.name, split.fingerprint, split.num_unfit, split.num_too_short = "made", name, "", 0, 0
    split.rows = split.table = rows_of(labels, **facts)
    split.places = split.lengths = np.arange(len(labels))
    return split


def made_corpus(labels_by_split):
    """What `resolve_labels` asks of a corpus, and its splits."""
    splits = {name: split_of(name, labels) for name, labels in labels_by_split.items()}
    found = {label[:2] for labels in labels_by_split.values() for own in labels for label in own}
    sets = {kind: tuple(sorted(name for other, name in found if other == kind)) for kind, _ in found}
    rows = {name: split.rows for name, split in splits.items()}
    return SimpleNamespace(label_sets=sets, as_dataset=lambda: rows), splits
