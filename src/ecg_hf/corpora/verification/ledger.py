"""The contamination ledger: a table of all recordings with corpus, split and patient, and the search for pairs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecg_hf.corpora.verification.duplicates import find_duplicates
from ecg_hf.errors import EcgAccessError, EcgFormatError

ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One recording in one corpus.

    Args:
        corpus: Name of the corpus.
        record_id: Name of the record in the corpus.
        canonical_id: Name of the recording in every corpus that holds it, see `EcgCorpus.canonical_id`.
        split: Split of the record in the corpus.
        patient_id: Id of the patient; None if unknown.
        fingerprint: Fingerprint of the waveform; None if `ecg_hf.signals.fingerprint` cannot compute one.
    """

    corpus: str
    record_id: str
    canonical_id: str
    split: str
    patient_id: str | None
    fingerprint: bytes | None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two entries of the same recording, or of recordings that overlap in time.

    Args:
        first: Entry that comes first in the ledger.
        second: Entry that comes later in the ledger.
        similarity: Similarity of the waveforms, at most 1; None if only the canonical ids agree.
    """

    first: LedgerEntry
    second: LedgerEntry
    similarity: float | None

    @property
    def leaks(self) -> bool:
        """Whether one entry is in the train split and the other in a validation or test split."""
        return (self.first.split == "train") != (self.second.split == "train")

    def as_dict(self) -> dict[str, Any]:
        """Returns the pair for a report, without the fingerprints."""
        names = ("corpus", "record_id", "split", "patient_id")
        pair = ({name: getattr(entry, name) for name in names} for entry in (self.first, self.second))
        return {"records": list(pair), "similarity": self.similarity, "leaks": self.leaks}


def find_pairs(entries: Sequence[LedgerEntry]) -> list[Duplicate]:
    """Finds the pairs of entries with the same recording, by their canonical ids and by their waveforms."""
    similar = {(first, second): value for first, second, value in find_duplicates([e.fingerprint for e in entries])}
    by_name: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        by_name.setdefault(entry.canonical_id, []).append(index)
    named = {(first, other) for group in by_name.values() for first, other in combinations(group, 2)}
    return [
        Duplicate(entries[first], entries[second], similar.get((first, second)))
        for first, second in sorted(named | similar.keys())
    ]


def write_ledger(path: Path, entries: Iterable[LedgerEntry]) -> None:
    """Writes a ledger as a Parquet file, which appears at its path only when it is complete."""
    schema = pa.schema(
        [(field.name, pa.binary() if field.name == "fingerprint" else pa.string()) for field in fields(LedgerEntry)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for batch in _batches(entries):
            writer.write_table(pa.Table.from_pylist([asdict(entry) for entry in batch], schema))
    partial.replace(path)


def read_ledger(path: Path) -> Iterator[LedgerEntry]:
    """Yields the entries of a ledger.

    Args:
        path: Path of the Parquet file.

    Raises:
        EcgAccessError: If the file cannot be read.
        EcgFormatError: If the file is not a ledger.
    """
    try:
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE):
            yield from (LedgerEntry(**row) for row in batch.to_pylist())
    except OSError as error:
        raise EcgAccessError(f"{path} cannot be read ({error}); check its name") from None
    except (pa.ArrowInvalid, TypeError) as error:
        raise EcgFormatError(f"{path} is not a ledger ({error}); write it again with verify.py --ledger") from None


def _batches(entries: Iterable[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    batch: list[LedgerEntry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
