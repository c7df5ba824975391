"""The Parquet file of a shard: written completely or not at all, and marked with the build that it belongs to."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.output.files import sha256_of
from ecg_hf.signals.row import row_features

GROUP_ROWS, GROUP_BYTES = 100, 8 * 2**20  # limits of a row group, which a reader requests as one piece
_IDENTITY = b"ecg_hf"


def write_shard(path: Path, rows: Iterator[dict[str, Any]], identity: dict[str, Any]) -> None:
    """Writes rows to a Parquet file, group by group; a killed write leaves no file of this name.

    Args:
        path: Path of the file.
        rows: Rows of the shard, in the schema that all corpora share.
        identity: Description of the build, stored in the file's metadata; see `describe_build`.
    """
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
    """Collects rows into groups of `GROUP_ROWS` rows, or of fewer rows whose signals reach `GROUP_BYTES`."""
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
    """Checks that a file was built from the same corpus, with the same recipe and code.

    Args:
        path: Path of the file.
        identity: Description of the build, see `describe_build`.

    Raises:
        EcgIntegrityError: If the file belongs to another build or is not a shard.
    """
    try:
        found = json.loads(pq.read_schema(path).metadata[_IDENTITY])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise EcgIntegrityError(f"{path} is not a shard of a built corpus ({error}); delete it") from None
    if differing := sorted(key for key in identity if found.get(key) != identity[key]):
        raise EcgIntegrityError(
            f"{path} was built with another {', '.join(differing)}, expected the same for all shards; delete the "
            "folder's shards or build into another folder"
        )


def describe_file(folder: Path, path: str) -> dict[str, Any]:
    """Returns the manifest's entry of a shard: its path, number of records, size in bytes and SHA-256."""
    place = folder / path
    return {
        "path": path,
        "num_records": pq.read_metadata(place).num_rows,
        "num_bytes": place.stat().st_size,
        "sha256": sha256_of(place),
    }
