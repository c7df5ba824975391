"""Readers of arguments: from flags, from YAML recipes and from mappings."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ecg_hf.training.flags import FlagParser, parse_dataclass

Arguments = TypeVar("Arguments")


def parse_arguments(kind: type[Arguments], argv: Sequence[str], parser: FlagParser | None = None) -> Arguments:
    """Reads arguments from flags, or from a YAML recipe and flags after it that override it.

    A recipe may name another one as its `base`, a path relative to its own folder, whose values it overrides.

    Args:
        kind: Dataclass of the arguments, such as `PretrainingArguments`.
        argv: Command line without the name of the command; its first word may be the path of a recipe.
        parser: Parser that knows the command's name and description; a plain one if None.

    Raises:
        ValueError: If a recipe names a field that does not exist, or a value is not allowed.
        SystemExit: If a flag is unknown or its value has the wrong type.

    Example:
        >>> from ecg_hf import PretrainingArguments
        >>> arguments = parse_arguments(PretrainingArguments, ["--output_dir", "OUT", "--max_steps", "5"])
        >>> arguments.pair, arguments.max_steps
        ('s4-cpc', 5)
    """
    flags = list(argv)
    if flags and flags[0].endswith((".yaml", ".yml")):
        flags = [*_read_recipe(Path(flags[0]), kind), *flags[1:]]
    parsed: Arguments = parse_dataclass(parser or FlagParser(kind.__doc__), kind, flags)
    return parsed


def make_arguments(kind: type[Arguments], values: Mapping[str, Any], where: str = "the arguments") -> Arguments:
    """Builds arguments from values by name, as a YAML file holds them, under the rules of the command line.

    Args:
        kind: Dataclass of the arguments, such as `PretrainingArguments`.
        values: Values by the names of their fields.
        where: Source of the values, for an error message.

    Raises:
        ValueError: If a field does not exist, or a value is not allowed.
    """
    return parse_arguments(kind, _as_flags(values, kind, where))


def _read_recipe(path: Path, kind: Any) -> list[str]:
    """Translates a recipe, and before it the recipe that is its base, to flags."""
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
    """Reads words of the form `name=value`, with values as in YAML.

    Raises:
        ValueError: If a word has no "=".

    Example:
        >>> parse_fields(["dropout=0.1", "causal=true"])
        {'dropout': 0.1, 'causal': True}
    """
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"expected name=value, got {pair!r}; write for example dropout=0.1")
    return {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in pairs)}
