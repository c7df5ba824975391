"""The base class of all corpora: their facts, their index, their rows of one schema and their splits."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import datasets
from datasets.exceptions import DatasetGenerationError

from ecg_hf.corpora.code_hash import code_hash, sha256_of_texts
from ecg_hf.corpora.index import SPLITS, Entry, check_index, encode_row
from ecg_hf.corpora.roots.base import CorpusRoot, MissingFileError
from ecg_hf.corpora.roots.empty import EmptyRoot
from ecg_hf.corpora.roots.open import open_root
from ecg_hf.errors import EcgAccessError, EcgError, EcgIntegrityError
from ecg_hf.signals.record import Record
from ecg_hf.signals.row import row_features

SHARD_SIZE = 100  # records per shard, the unit that is distributed over workers, nodes and processes

logger = logging.getLogger(__name__)


@dataclass
class CorpusConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """Configuration of a corpus: which version of it is read, and how.

    Args:
        allow_missing: Whether records with missing files are left out, counted and logged, instead of raising an error.
    """

    allow_missing: bool = False


class Corpus(Protocol):
    """The interface of a corpus for training and evaluation: a builder of raw records, or a built corpus."""

    @property
    def dataset_name(self) -> str:
        """Name of the corpus in the registry."""

    @property
    def unit(self) -> str:
        """Unit of the signals; only "mV" is a known voltage."""

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for a card or a manifest: name, version, unit, licence, access and citation."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data, which is the same for the same data on every machine."""

    @property
    def label_sets(self) -> dict[str, tuple[str, ...]]:
        """Names of the labels in each label set, in order."""

    def as_dataset(self, split: str | None = None) -> Any:
        """Returns the rows of a split, or of all splits as a dict."""


class EcgCorpus(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """Base class of all corpora: a builder of the datasets library that lists records and decodes them one by one.

    A subclass states its facts and implements `read_index`, `read_record` and `write_example`. Facts: `licence` (an
    SPDX id) and `licence_url`; `access`, what a user needs to get the data; `homepage`, `citation`, `description`,
    `data_version`; `patient_level`, whether splits are known to be disjoint by patient; `label_sets`, the names in each
    label set, in order; `needs_data_dir`, whether there are files to read; `marker`, a file that is only in the top
    folder of the corpus; `unit` of the signals, a known voltage only if "mV"; published `num_records`, `num_patients`.

    Example:
        >>> from ecg_hf.corpora.loading import open_corpus
        >>> corpus = open_corpus("synthetic", num_records=20)
        >>> {split: len(entries) for split, entries in corpus.entries().items()}
        {'train': 15, 'validation': 1, 'test': 4}
        >>> corpus.read(corpus.entries()["test"][0]).signal.shape  # leads, samples; in mV
        (12, 5000)
    """

    BUILDER_CONFIG_CLASS = CorpusConfig
    DEFAULT_WRITER_BATCH_SIZE = SHARD_SIZE

    licence: ClassVar[str]
    licence_url: ClassVar[str]
    access: ClassVar[Literal["open", "restricted", "credentialed"]]
    homepage: ClassVar[str]
    citation: ClassVar[str]
    description: ClassVar[str]
    data_version: ClassVar[str]
    patient_level: ClassVar[bool]
    label_sets: ClassVar[dict[str, tuple[str, ...]]]
    needs_data_dir: ClassVar[bool] = True
    marker: ClassVar[str] = ""
    unit: ClassVar[Literal["mV", "uncertain mV", "z-score"]] = "mV"
    num_records: ClassVar[int | None] = None
    num_patients: ClassVar[int | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.VERSION = datasets.Version(cls.data_version)
        for config in cls.BUILDER_CONFIGS:
            config.version = cls.VERSION

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._root: CorpusRoot | None = None
        self._index: dict[str, list[Entry]] | None = None
        self._code = code_hash(base.__module__ for base in type(self).__mro__ if issubclass(base, EcgCorpus))
        self._fingerprint = self._stamps = ""
        self._missing: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def read_index(self, root: CorpusRoot) -> list[Entry]:
        """Lists the records in the corpus' own order, without reading any signal.

        Args:
            root: Place of the corpus' files.
        """
        raise NotImplementedError

    def read_record(self, root: CorpusRoot, entry: Entry) -> Record:
        """Reads and decodes one record."""
        raise NotImplementedError

    @classmethod
    def write_example(cls, folder: Path, num_records: int = 20) -> None:
        """Writes a tiny synthetic corpus in the official layout, for tests."""
        raise NotImplementedError

    def record_files(self, entry: Entry) -> tuple[str, ...]:
        """Lists the paths of a record's files, relative to the root."""
        return (entry.path,) if entry.path else ()

    def canonical_id(self, entry: Entry) -> str:
        """Returns the name that a recording has in every corpus that holds it, such as "ptbxl:123"."""
        return f"{self.name}:{entry.record_id}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the index, which is the same for the same data on every machine."""
        self._entries()
        return self._fingerprint

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.description,
            features=row_features(),
            homepage=self.homepage,
            license=self.licence,
            citation=self.citation,
        )

    def _build_cache_dir(self) -> str:
        # datasets names the folder by the arguments alone and would serve an old cache after data or code have changed
        if self.config.data_dir is not None or not self.needs_data_dir:
            self._entries()
            self.hash = sha256_of_texts([self._code, self._fingerprint, self._stamps])
        return str(super()._build_cache_dir())

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for a card or a manifest: name, version, unit, licence, access and citation."""
        names = ("data_version", "description", "unit", "licence", "licence_url", "access", "homepage", "citation")
        facts = {name: getattr(self, name) for name in (*names, "patient_level")}
        return {"name": self.dataset_name, "config": self.config.name, **facts}

    @property
    def options(self) -> dict[str, Any]:
        """Fields of the corpus' config, without those that every config of datasets has."""
        return _own_fields(self.config)

    @property
    def published(self) -> tuple[int | None, int | None]:
        """Published numbers of records and of patients in this config; each is None if unknown."""
        return self.num_records, self.num_patients

    def entries(self) -> dict[str, list[Entry]]:
        """Returns the entries of each split in the corpus' own order, without records whose files are missing.

        Raises:
            MissingFileError: If a record lacks files and `allow_missing` is false, or if all records lack files.
        """
        index = self._entries()
        if self._missing and not self.config.allow_missing:
            raise MissingFileError(
                f"{len(self._missing)} records of {self._root} lack files, such as {list(self._missing.values())[:5]}; "
                "complete the download, or leave such records out with allow_missing=True"
            )
        if self._missing:
            logger.warning("left out %d records without files: %s", len(self._missing), list(self._missing)[:20])
        if not any(index.values()):
            raise MissingFileError(
                f"all {len(self._missing)} records of {self._root} lack files; complete the download"
            )
        return index

    @property
    def root(self) -> CorpusRoot:
        """Place of the corpus' files."""
        self._entries()
        return self._place()

    @property
    def missing(self) -> dict[str, str]:
        """Ids of the records with missing files, each with the path of one missing file."""
        self._entries()
        return dict(self._missing)

    def read(self, entry: Entry) -> Record:
        """Reads and decodes one record of the index."""
        return self.read_record(self._place(), entry)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(split, {"split": split, "spans": shard_spans(len(entries))})
            for split, entries in self.entries().items()
            if entries
        ]

    def _generate_examples(self, split: str, spans: list[tuple[int, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
        entries = self._entries()[split]
        for entry in (entry for start, stop in spans for entry in entries[start:stop]):
            try:
                row = encode_row(self.read(entry), entry)
            except MissingFileError as error:
                if not self.config.allow_missing:
                    raise
                logger.warning("left out record %s: %s", entry.record_id, error)
                continue
            except EcgError as error:
                raise type(error)(f"record {entry.record_id} of {self._root}: {error}") from error
            yield entry.record_id, row

    def _prepare_split_single(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except DatasetGenerationError as error:
            # an error in the data must not hide behind "An error occurred while generating the dataset"
            if isinstance(error.__cause__, EcgError):
                raise error.__cause__ from None
            raise

    def _entries(self) -> dict[str, list[Entry]]:
        """Returns the entries of each split; each process reads the index once and checks that it has not changed."""
        if self._index is None:
            entries = self.read_index(self._place())
            fingerprint = sha256_of_texts(map(repr, map(attrgetter(*(field.name for field in fields(Entry))), entries)))
            if not self._fingerprint:
                check_index(entries, self.label_sets, patient_level=self.patient_level)
                self._fingerprint = fingerprint
                self._survey(entries)
            elif fingerprint != self._fingerprint:
                raise EcgIntegrityError(f"the index of {self._root} changed while it was in use; load the corpus again")
            kept = [entry for entry in entries if entry.record_id not in self._missing]
            self._index = {split: [entry for entry in kept if entry.split == split] for split in SPLITS}
        return self._index

    def _place(self) -> CorpusRoot:
        if self._root is None:
            self._root = self._open()
        return self._root

    def _open(self) -> CorpusRoot:
        if not self.needs_data_dir:
            if self.config.data_dir is not None:
                raise ValueError(f"{self.name} is computed, not read; leave out data_dir={self.config.data_dir!r}")
            return EmptyRoot(self.name)
        if self.config.data_dir is None:
            raise EcgAccessError(
                f"{self.name} is not downloaded for you ({self.access} access, see {self.homepage}); "
                "pass data_dir=, the folder, zip archive or http(s) address of its files"
            )
        return open_root(self.config.data_dir, self.marker)

    def _survey(self, entries: Sequence[Entry]) -> None:
        """Notes the stamps of all files and which are missing, except on a server, where each stamp is a request."""
        root = self._place()
        if not root.stamps_are_cheap:
            return
        stamps = {path: root.stamp(path) for entry in entries for path in self.record_files(entry)}
        self._stamps = sha256_of_texts(map(repr, stamps.items()))
        for entry in entries:
            for path in self.record_files(entry):
                if stamps[path] is None:
                    self._missing.setdefault(entry.record_id, path)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None}


def _own_fields(config: Any) -> dict[str, Any]:
    common = {field.name for field in fields(datasets.BuilderConfig)}
    return {field.name: getattr(config, field.name) for field in fields(config) if field.name not in common}


def shard_spans(num_records: int) -> list[tuple[int, int]]:
    """Returns the (start, stop) of the shards of `num_records` records, each of at most `SHARD_SIZE` records."""
    return [(start, min(start + SHARD_SIZE, num_records)) for start in range(0, num_records, SHARD_SIZE)]
