"""A corpus as Parquet shards at one sampling rate: each a pure function of the corpus, a recipe and its number."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ecg_hf.checkpoints import sha256_of, write_json
from ecg_hf.corpus import EcgCorpus, code_hash
from ecg_hf.draws import Purpose, random_words
from ecg_hf.errors import EcgError, EcgIntegrityError
from ecg_hf.inputs import check_rate
from ecg_hf.records import Record
from ecg_hf.resampling import bridge, resample, resample_gaps
from ecg_hf.rows import Entry, encode_row, row_features

VERSION = 1  # of the manifest
MANIFEST = "manifest.json"
GROUP_ROWS, GROUP_BYTES = 100, 8 * 2**20  # of a row group, whichever is reached first: what a reader asks for at once
RESOLUTION = 1000.0  # ADC units per mV of resampled signals
_IDENTITY = b"ecg_hf"


@dataclass(frozen=True)
class Recipe:
    """What, besides the corpus, decides the bytes of the shards.

    Args:
        target_rate: Sampling rate of all records, Hz; None leaves each as it is.
        num_shards: Into how many files each split goes, unless it has fewer records.
        seed: Of the order of the records, from 0 to 2^64 - 1.
        excluded: Names of records to leave out, such as those that cannot be read.
    """

    target_rate: float | None
    num_shards: int = 1
    seed: int = 0
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_shards < 1:
            raise ValueError(f"num_shards must be at least 1, got {self.num_shards}")
        if self.target_rate is not None:
            object.__setattr__(self, "target_rate", check_rate(self.target_rate))  # 240 and 240.0 are one recipe


def split_order(num_records: int, seed: int) -> NDArray[np.int64]:
    """Draws the order of a split's records: shards are then random samples of it, and may be read one by one."""
    return np.argsort(random_words(num_records, seed, Purpose.SHARDS), kind="stable")


def shard_paths(num_records: int, split: str, num_shards: int) -> list[str]:
    """Names the files of a split, below the folder of the built corpus."""
    number = min(num_shards, num_records)
    return [f"data/{split}-{shard:05d}-of-{number:05d}.parquet" for shard in range(number)]


def build_shard(corpus: EcgCorpus, recipe: Recipe, folder: Path, shard: int) -> list[Path]:
    """Writes one shard of each split that has so many; a file that is there already is left alone.

    Args:
        corpus: Its builder.
        recipe: How to build it.
        folder: Where to.
        shard: Which, from 0.

    Returns:
        The files.

    Raises:
        ValueError: If there is no such shard.
        EcgIntegrityError: If a file that is there was built from another corpus or by another recipe or code.
        EcgError: If a record cannot be read.
    """
    if not 0 <= shard < recipe.num_shards:
        raise ValueError(f"shard must lie in 0 to {recipe.num_shards - 1}, got {shard}")
    identity = describe_build(corpus, recipe)
    built = []
    for split, entries in select_entries(corpus, recipe).items():
        paths = shard_paths(len(entries), split, recipe.num_shards)
        if shard >= len(paths):
            continue
        path = folder / paths[shard]
        if path.exists():
            check_shard(path, identity)
        else:
            order = split_order(len(entries), recipe.seed)
            start, stop = (len(entries) * edge // len(paths) for edge in (shard, shard + 1))
            rows = (built_row(corpus, entries[place], recipe.target_rate) for place in order[start:stop].tolist())
            write_shard(path, rows, identity)
        built.append(path)
    return built


def select_entries(corpus: EcgCorpus, recipe: Recipe) -> dict[str, list[Entry]]:
    """Lists the records to build, by split.

    Raises:
        EcgIntegrityError: If a record to be left out is not there, or none is left.
    """
    splits = corpus.entries()
    known = {entry.record_id for entries in splits.values() for entry in entries}
    if unknown := sorted(set(recipe.excluded) - known):
        raise EcgIntegrityError(
            f"{len(unknown)} records to leave out are not in {corpus.dataset_name}, such as {unknown[:5]}; "
            "take the list from a report on this corpus"
        )
    left_out = set(recipe.excluded)
    kept = {split: [entry for entry in entries if entry.record_id not in left_out] for split, entries in splits.items()}
    if not any(kept.values()):
        raise EcgIntegrityError(f"no record of {corpus.dataset_name} is left to build; leave out fewer")
    return {split: entries for split, entries in kept.items() if entries}


def describe_build(corpus: EcgCorpus, recipe: Recipe) -> dict[str, Any]:
    """Says what decides the bytes of a corpus' shards."""
    versions = {name: metadata.version(name) for name in ("numpy", "pyarrow", "scipy")}
    try:
        versions["soxr"] = metadata.version("soxr")
    except metadata.PackageNotFoundError:
        versions["soxr"] = ""  # resampled by scipy then
    return {
        "corpus": corpus.dataset_name,
        "config": corpus.config.name,
        "fingerprint": corpus.fingerprint,
        "recipe": asdict(recipe) | {"excluded": sorted(recipe.excluded)},
        "code": code_hash([type(corpus).__module__, __name__]),
        "versions": versions,
    }


def built_row(corpus: EcgCorpus, entry: Entry, target_rate: float | None) -> dict[str, Any]:
    """Reads a record and gives its row, at the target rate.

    Raises:
        EcgError: If it cannot be read, with its name.
    """
    try:
        record = corpus.read(entry)
        return encode_row(record if target_rate is None else resample_record(record, target_rate), entry)
    except EcgError as error:
        raise type(error)(
            f"record {entry.record_id} of {corpus.dataset_name}: {error}; to build without it, leave it out by name"
        ) from error


def resample_record(record: Record, target_rate: float) -> Record:
    """Gives a record at another sampling rate, to 1 uV; at its own rate it is left as it is.

    Samples nearest to a missing one stay missing, see `resample_gaps`; the filter reads straight lines there.
    """
    if record.sampling_rate == target_rate:
        return record
    signal = record.signal
    gaps = np.isnan(signal)
    signal[gaps.all(axis=1)] = 0
    resampled = resample(bridge(signal, gaps & ~gaps.all(axis=1, keepdims=True)), record.sampling_rate, target_rate)
    resampled[resample_gaps(gaps, record.sampling_rate, target_rate)] = np.nan
    return Record.from_millivolts(record.record_id, resampled, record.leads, target_rate, RESOLUTION)


def write_shard(path: Path, rows: Iterator[dict[str, Any]], identity: dict[str, Any]) -> None:
    """Writes rows to a Parquet file that is there whole or not at all, some of them at a time."""
    schema = row_features().arrow_schema
    schema = schema.with_metadata({**schema.metadata, _IDENTITY: json.dumps(identity, sort_keys=True).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    repeated: Any = [name for name in schema.names if name not in ("signal", "record_id", "patient_id")]
    try:
        with pq.ParquetWriter(
            partial, schema, compression="zstd", compression_level=3, use_dictionary=repeated
        ) as writer:
            for group in row_groups(rows):
                writer.write_table(pa.Table.from_pylist(group, schema))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def row_groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Gathers rows into groups of at most `GROUP_ROWS`, or fewer that reach `GROUP_BYTES`."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row["signal"])
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def check_shard(path: Path, identity: dict[str, Any]) -> None:
    """Checks that a file was built by the same recipe and code from the same corpus.

    Raises:
        EcgIntegrityError: If not, or if it is no shard.
    """
    try:
        found = json.loads(pq.read_schema(path).metadata[_IDENTITY])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise EcgIntegrityError(f"{path} is no shard of a built corpus ({error}); delete it") from None
    if differing := sorted(key for key in identity if found.get(key) != identity[key]):
        raise EcgIntegrityError(
            f"{path} was built with another {', '.join(differing)}, expected the same for all shards; delete the "
            "folder's shards or build into another folder"
        )


def write_manifest(corpus: EcgCorpus, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Describes and hashes the shards, once all are there.

    Raises:
        EcgIntegrityError: If one is missing or was built otherwise, or has other records than it should.
    """
    identity, splits = describe_build(corpus, recipe), {}
    for split, entries in select_entries(corpus, recipe).items():
        paths = shard_paths(len(entries), split, recipe.num_shards)
        if missing := [path for path in paths if not (folder / path).is_file()]:
            raise EcgIntegrityError(f"{len(missing)} shards are missing, such as {missing[:3]}; build them first")
        for path in paths:
            check_shard(folder / path, identity)
        files = [describe_file(folder, path) for path in paths]
        if (number := sum(file["num_records"] for file in files)) != len(entries):
            raise EcgIntegrityError(
                f"the shards of {split} hold {number} records, expected {len(entries)}; delete them"
            )
        patients = {entry.patient_id for entry in entries} - {None}
        splits[split] = {"num_records": len(entries), "num_patients": len(patients) or None, "files": files}
    label_sets = {name: list(names) for name, names in corpus.label_sets.items()}
    manifest = {"version": VERSION, **identity, "facts": corpus.facts, "label_sets": label_sets, "splits": splits}
    write_json(folder / MANIFEST, manifest)
    return manifest


def describe_file(folder: Path, path: str) -> dict[str, Any]:
    """Gives the size, the records and the SHA-256 of a shard."""
    place = folder / path
    return {
        "path": path,
        "num_records": pq.read_metadata(place).num_rows,
        "num_bytes": place.stat().st_size,
        "sha256": sha256_of(place),
    }


def missing_shards(corpus: EcgCorpus, recipe: Recipe, folder: Path) -> Sequence[int]:
    """Numbers the shards that have a file yet to be built."""
    paths = [
        shard_paths(len(entries), split, recipe.num_shards) for split, entries in select_entries(corpus, recipe).items()
    ]
    return [
        shard
        for shard in range(recipe.num_shards)
        if any(shard < len(files) and not (folder / files[shard]).is_file() for files in paths)
    ]
