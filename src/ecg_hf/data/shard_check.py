"""Integrity checks of the shards of a built corpus; shards that have not changed are not read twice."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock

from ecg_hf.output.files import read_json, sha256_of, write_json


def missing_bytes(folder: Path, file: dict[str, Any]) -> str | None:
    """Describes how the size of a shard differs from its size in the manifest.

    Args:
        folder: Folder of the built corpus.
        file: Manifest's entry of the shard.

    Returns:
        The difference in words; None if the sizes are equal.
    """
    place = folder / file["path"]
    found = place.stat().st_size if place.is_file() else "none"
    return None if found == file["num_bytes"] else f"{place} should have {file['num_bytes']} bytes, it has {found}"


def damaged_shards(folder: Path, files: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Finds the shards that are missing or have changed.

    A shard that was once found intact is read again only when its size or modification time has changed. The results
    are kept in the cache of `datasets`; the first of several processes reads the shards, and the others wait for it.

    Args:
        folder: Folder of the built corpus.
        files: Manifest's entries of the shards.

    Yields:
        The entry of each damaged shard, and a description of the damage.
    """
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    known = Path(datasets.config.HF_DATASETS_CACHE) / "ecg_hf_shards" / f"{name}.json"
    known.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(known.with_suffix(".lock")):
        whole = read_json(known) if known.is_file() else {}
        reasons = [_damage(folder, file, whole) for file in files]
        write_json(known, whole)
    yield from ((file, reason) for file, reason in zip(files, reasons, strict=True) if reason)


def _damage(folder: Path, file: dict[str, Any], whole: dict[str, Any]) -> str | None:
    if reason := missing_bytes(folder, file):
        return reason
    place = folder / file["path"]
    seen = [place.stat().st_size, place.stat().st_mtime_ns, file["sha256"]]
    if whole.get(file["path"]) != seen:
        found = sha256_of(place)
        if found != file["sha256"]:
            return f"{place} has SHA-256 {found}, expected {file['sha256']}"
        whole[file["path"]] = seen
    return None
