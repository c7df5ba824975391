"""Files and folders that are written completely or not at all, JSON, and SHA-256 hashes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


def sha256_of(path: Path) -> str:
    """Computes the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Opens a temporary text file that replaces `path` on success; a reader sees the old or the new file, never a part.

    Args:
        path: Path of the file to replace, which need not exist.

    Yields:
        The temporary file, open for writing; it is flushed to disk before it replaces `path`.
    """
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, replacing `path` atomically; NaN and infinity are refused."""
    with replacing(path) as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file and returns its content."""
    return json.loads(path.read_text(encoding="utf-8"))


def partial_folder(target: Path) -> Path:
    """Creates an empty temporary folder beside `target`, deleting what an interrupted write left there.

    Args:
        target: Path of the final folder, into which `replace_folder` or a checkpoint's `seal` later moves the files.

    Returns:
        Path of the temporary folder.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def replace_folder(partial: Path, target: Path, *, last: str) -> None:
    """Moves the files of `partial` into `target` one by one and removes `partial`.

    Args:
        partial: Folder from `partial_folder`, filled with files.
        target: Path of the final folder; its files of the same names are replaced.
        last: Name of the file that is moved last, whose presence marks a complete folder.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == last):
        path.replace(target / path.name)
    partial.rmdir()
