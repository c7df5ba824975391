"""Reads arguments from flags, YAML recipes and mappings."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from transformers import HfArgumentParser

Arguments = TypeVar("Arguments")


def parse_arguments(kind: type[Arguments], argv: Sequence[str]) -> Arguments:
    """Reads arguments from flags, or from a YAML recipe that flags after it override.

    Args:
        kind: A dataclass of this module.
        argv: Command line without the script's name; its first word may be a recipe's path. What a recipe does not say,
            the recipe that it names as its `base` does, a path from its own folder.

    Raises:
        ValueError: If a recipe names a field that does not exist, or a value is not allowed.
    """
    flags = list(argv)
    if flags and flags[0].endswith((".yaml", ".yml")):
        flags = [*_read_recipe(Path(flags[0]), kind), *flags[1:]]
    parser = HfArgumentParser(cast(Any, kind), description=kind.__doc__)
    (arguments,) = parser.parse_args_into_dataclasses(flags)
    parsed: Arguments = arguments
    return parsed


def make_arguments(kind: type[Arguments], values: Mapping[str, Any], where: str = "the arguments") -> Arguments:
    """Makes arguments of values by name, as a YAML file holds them, under the rules of the command line.

    Args:
        kind: A dataclass of this module.
        values: By name of the field.
        where: Names their source in an error.

    Raises:
        ValueError: If a field does not exist, or a value is not allowed.
    """
    return parse_arguments(kind, _as_flags(values, kind, where))


def _read_recipe(path: Path, kind: Any) -> list[str]:
    """Turns a recipe, after its base if it has one, into flags."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} must map names of {kind.__name__} to values, got {recipe}")
    base = recipe.pop("base", None)
    return [*(_read_recipe(path.parent / base, kind) if base else []), *_as_flags(recipe, kind, str(path))]


def _as_flags(values: Mapping[str, Any], kind: Any, where: str) -> list[str]:
    known = {entry.name for entry in fields(kind)}
    if odd := sorted(values.keys() - known):
        raise ValueError(f"{where} must map names of {kind.__name__} to values, got {odd}; choose from {sorted(known)}")
    flags = []
    for name, value in values.items():
        words = value if isinstance(value, list) else [] if value is None else [value]
        flags += [f"--{name}", *map(str, words)] if words else []
    return flags


def parse_fields(pairs: Sequence[str]) -> dict[str, Any]:
    """Reads `name=value` words, values as in YAML: `["dropout=0.1", "causal=true"]`.

    Raises:
        ValueError: If a word has no "=".
    """
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"expected name=value, got {pair!r}; write for example dropout=0.1")
    return {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in pairs)}
