"""A corpus with values to predict. It has a file of its own because datasets patches the module of a corpus."""

from dataclasses import replace
from typing import ClassVar

from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.roots.base import CorpusRoot
from ecg_hf.corpora.sources.synthetic import Synthetic


class Aged(Synthetic):
    """The made-up ECGs, two in three with the age as a value to be predicted."""

    label_sets: ClassVar[dict[str, tuple[str, ...]]] = {**Synthetic.label_sets, "value": ("age",)}

    def read_index(self, root: CorpusRoot | None) -> list[Entry]:
        """Lists the records."""
        return [
            replace(entry, labels=(*entry.labels, ("value", "age", entry.age or 0.0))) if index % 3 else entry
            for index, entry in enumerate(super().read_index(root))
        ]
