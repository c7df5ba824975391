"""Shards of a built corpus: Parquet files, each a pure function of the corpus, a recipe and the shard's number."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.corpora.code_hash import code_hash
from ecg_hf.corpora.index import Entry, encode_row
from ecg_hf.data.random_streams import Purpose, random_words
from ecg_hf.data.shard_file import check_shard, describe_file, write_shard
from ecg_hf.errors import EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.output.files import write_json
from ecg_hf.signals.inputs import check_rate
from ecg_hf.signals.record import Record
from ecg_hf.signals.resampling import bridge, resample, resample_gaps

VERSION = 1  # version of the manifest
MANIFEST = "manifest.json"
RESOLUTION = 1000.0  # ADC units per mV of resampled signals


@dataclass(frozen=True)
class Recipe:
    """The settings that decide, with the corpus, the bytes of the shards.

    Args:
        target_rate: Sampling rate of all records, in Hz; None keeps the rate of each record.
        num_shards: Number of files of each split; a split with fewer records has one file per record.
        seed: Seed of the order of the records, from 0 to 2^64 - 1.
        excluded: Ids of records to leave out, such as records that cannot be read.
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
    """Draws the order of a split's records, which makes each shard a random sample of the split."""
    return np.argsort(random_words(num_records, seed, Purpose.SHARDS), kind="stable")


def shard_paths(num_records: int, split: str, num_shards: int) -> list[str]:
    """Lists the paths of a split's files, relative to the folder of the built corpus."""
    number = min(num_shards, num_records)
    return [f"data/{split}-{shard:05d}-of-{number:05d}.parquet" for shard in range(number)]


def build_shards(corpus: EcgCorpus, recipe: Recipe, folder: Path, shards: Sequence[int]) -> list[Path]:
    """Writes some shards of every split; files that already exist are checked and kept.

    Args:
        corpus: Builder of the raw corpus.
        recipe: Recipe of the shards.
        folder: Folder of the built corpus.
        shards: Numbers of the shards, from 0; a split that has fewer shards is skipped.

    Returns:
        Paths of the shards.

    Raises:
        ValueError: If the number of a shard is out of range.
        EcgIntegrityError: If an existing file was built from another corpus, or with another recipe or code.
        EcgError: If a record cannot be read.
    """
    if odd := [shard for shard in shards if not 0 <= shard < recipe.num_shards]:
        raise ValueError(f"shards must lie in 0 to {recipe.num_shards - 1}, got {odd}")
    splits = select_entries(corpus, recipe)
    identity = describe_build(corpus, recipe, splits)
    paths = {split: shard_paths(len(entries), split, recipe.num_shards) for split, entries in splits.items()}
    orders = {split: split_order(len(entries), recipe.seed) for split, entries in splits.items()}
    built = []
    for shard, split in ((shard, split) for shard in shards for split in splits if shard < len(paths[split])):
        path, entries = folder / paths[split][shard], splits[split]
        if path.exists():
            check_shard(path, identity)
        else:
            start, stop = (len(entries) * edge // len(paths[split]) for edge in (shard, shard + 1))
            places = orders[split][start:stop].tolist()
            write_shard(path, (built_row(corpus, entries[place], recipe.target_rate) for place in places), identity)
        built.append(path)
    return built


def select_entries(corpus: EcgCorpus, recipe: Recipe) -> dict[str, list[Entry]]:
    """Lists the index entries of the records to build, by split.

    Raises:
        EcgIntegrityError: If the corpus does not have an excluded record, or no record is left.
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


def describe_build(corpus: EcgCorpus, recipe: Recipe, splits: Mapping[str, Sequence[Entry]]) -> dict[str, Any]:
    """Describes everything that decides the bytes of a corpus' shards.

    The signals themselves are not hashed, because that would take as long as building: verify the corpus first.

    Args:
        corpus: Builder of the raw corpus.
        recipe: Recipe of the shards.
        splits: Index entries of the records to build, by split.

    Returns:
        The description, which JSON can hold.
    """
    versions = {name: metadata.version(name) for name in ("datasets", "numpy", "pyarrow", "scipy")}
    digest = hashlib.sha256()
    for split, entries in splits.items():
        digest.update(repr((split, [entry.record_id for entry in entries])).encode())
    try:
        versions["soxr"] = metadata.version("soxr")
    except metadata.PackageNotFoundError:
        versions["soxr"] = ""  # scipy resamples instead
    return {
        "corpus": corpus.dataset_name,
        "config": corpus.config.name,
        "options": {name: value for name, value in corpus.options.items() if name != "allow_missing"},
        "fingerprint": corpus.fingerprint,
        "records": digest.hexdigest(),
        "recipe": asdict(recipe) | {"excluded": sorted(recipe.excluded)},
        "code": code_hash([type(corpus).__module__, __name__]),
        "versions": versions,
    }


def built_row(corpus: EcgCorpus, entry: Entry, target_rate: float | None) -> dict[str, Any]:
    """Reads a record and returns its row, at the target rate.

    Args:
        corpus: Builder of the raw corpus.
        entry: Index entry of the record.
        target_rate: Sampling rate of the row, in Hz; None keeps the rate of the record.

    Raises:
        EcgError: If the record cannot be read; the message names the record.
    """
    try:
        record = drop_missing_leads(corpus.read(entry))
        return encode_row(record if target_rate is None else resample_record(record, target_rate), entry)
    except (EcgError, ValueError, OSError) as error:
        kind = type(error) if isinstance(error, EcgError) else EcgFormatError
        raise kind(
            f"record {entry.record_id} of {corpus.dataset_name}: {error}; to build without it, leave it out by name"
        ) from error


def drop_missing_leads(record: Record) -> Record:
    """Returns a record without the leads that have no sample.

    Raises:
        EcgLeadError: If no lead has a sample.
    """
    missing = (record.samples == np.iinfo(record.samples.dtype).min).all(axis=1)
    leads = [lead for lead, gone in zip(record.leads, missing, strict=True) if not gone]
    if not leads:
        raise EcgLeadError(f"{record.record_id}: expected at least one lead with samples, got none in {record.leads}")
    return record.select(leads) if missing.any() else record


def resample_record(record: Record, target_rate: float) -> Record:
    """Resamples a record, with a resolution of 1 uV; a record that has the target rate is returned unchanged.

    Samples nearest to a missing one stay missing, see `resample_gaps`; the filter reads straight lines there.
    """
    if record.sampling_rate == target_rate:
        return record
    signal = record.signal
    gaps = np.isnan(signal)
    resampled = resample(bridge(signal, gaps), record.sampling_rate, target_rate)
    resampled[resample_gaps(gaps, record.sampling_rate, target_rate)] = np.nan
    return Record.from_millivolts(record.record_id, resampled, record.leads, target_rate, RESOLUTION)


def write_manifest(corpus: EcgCorpus, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Checks and hashes the shards, once all of them are built, and writes the manifest.

    Args:
        corpus: Builder of the raw corpus.
        recipe: Recipe of the shards.
        folder: Folder of the built corpus.

    Returns:
        The manifest.

    Raises:
        EcgIntegrityError: If a shard is missing or belongs to another build, or a split has too few or many records.
    """
    chosen = select_entries(corpus, recipe)
    identity = describe_build(corpus, recipe, chosen)
    splits: dict[str, dict[str, Any]] = {}
    for split, entries in chosen.items():
        paths = shard_paths(len(entries), split, recipe.num_shards)
        if missing := [path for path in paths if not (folder / path).is_file()]:
            raise EcgIntegrityError(f"{len(missing)} shards are missing, such as {missing[:3]}; build them first")
        for path in paths:
            check_shard(folder / path, identity)
        files = [describe_file(folder, path) for path in paths]
        if (number := sum(file["num_records"] for file in files)) != len(entries):
            raise EcgIntegrityError(
                f"the shards of {split} hold {number} records, expected {len(entries)}; delete them and build again"
            )
        patients = {entry.patient_id for entry in entries} - {None}
        splits[split] = {"num_records": len(entries), "num_patients": len(patients) or None, "files": files}
    tidy(folder, {file["path"] for split in splits.values() for file in split["files"]})
    manifest = {
        "version": VERSION,
        **identity,
        "facts": corpus.facts,
        "left_out": len(recipe.excluded) + len(corpus.missing),
        "label_sets": {name: list(names) for name, names in corpus.label_sets.items()},
        "splits": splits,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def tidy(folder: Path, paths: Collection[str]) -> None:
    """Deletes the unfinished files of killed builds, and refuses shards of another build.

    Args:
        folder: Folder of the built corpus.
        paths: Paths of this build's shards, relative to the folder.

    Raises:
        EcgIntegrityError: If there are shards of another build, which a reader without the manifest would read too.
    """
    for partial in (folder / "data").glob(".*.partial"):
        partial.unlink()
    found = {path.relative_to(folder).as_posix() for path in (folder / "data").glob("*.parquet")}
    if foreign := sorted(found - set(paths)):
        raise EcgIntegrityError(
            f"{folder} holds {len(foreign)} shards of another build, such as {foreign[:3]}; delete them or build into "
            "another folder"
        )


def shard_files(corpus: EcgCorpus, recipe: Recipe, folder: Path) -> list[list[Path]]:
    """Lists the files of each shard, one for each split that has this shard."""
    splits = select_entries(corpus, recipe).items()
    paths = [shard_paths(len(entries), split, recipe.num_shards) for split, entries in splits]
    return [[folder / files[shard] for files in paths if shard < len(files)] for shard in range(recipe.num_shards)]
