"""Command-line flags made from the fields of a dataclass, and the parser that all commands share."""

import argparse
import difflib
import sys
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

TRUE, FALSE = ("true", "yes", "t", "y", "1"), ("false", "no", "f", "n", "0")


def option(default: Any = MISSING, text: str = "", *, group: str | None = None) -> Any:
    """Declares a dataclass field that is a flag.

    Args:
        default: Default value; a field without one is required.
        text: Line that `--help` shows for the flag, with the unit of a number.
        group: Title of the group of flags that begins with this field.
    """
    metadata = {"help": text, "group": group}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help text with examples as they are written and the default behind every flag that has one."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        long = [name for name in action.option_strings if "_" in name or name[2:].isalpha() or name == "-h"]
        if not long or action.nargs == 0:
            return ", ".join(long) if long else super()._format_action_invocation(action)
        return f"{long[-1]} {self._format_args(action, self._get_default_metavar_for_optional(action))}"

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        hidden = action.default in (None, argparse.SUPPRESS, []) or action.default is False  # 0 is shown
        return text if hidden or not action.option_strings else f"{text} [{_written(action.default)}]"


def _written(value: Any) -> str:
    words = value if isinstance(value, list) else [value]
    return " ".join(f"{word:g}" if isinstance(word, float) else str(word) for word in words).replace("%", "%%")


class FlagParser(argparse.ArgumentParser):
    """An argument parser that accepts no abbreviation and suggests the nearest flag for a mistyped one.

    Args:
        description: Text above the flags: what the command does, and examples.
        prog: Name of the command; that of the script if None.
    """

    def __init__(self, description: str | None, prog: str | None = None):
        super().__init__(prog=prog, description=description, formatter_class=Formatter, allow_abbrev=False)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses flags; see `argparse.ArgumentParser.parse_args`."""
        words = list(sys.argv[1:] if args is None else args)
        # argparse would name a required flag that is missing before one that is mistyped.
        for word in words[: words.index("--")] if "--" in words else words:
            if word.startswith("--") and word.partition("=")[0] not in self._option_string_actions:
                self.refuse(word)
        parsed, odd = self.parse_known_args(words, namespace)
        if odd:
            self.refuse(odd[0])
        return parsed

    def refuse(self, word: str) -> NoReturn:
        """Exits with status 2 and an error that names the flag nearest to a word."""
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        close = difflib.get_close_matches(word.partition("=")[0], known, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else "--help lists the flags"
        self.error(f"unrecognized argument {word}; {hint}")

    def add_fields(self, kind: type) -> None:
        """Adds a flag for every field of a dataclass, in the groups that its options begin.

        Args:
            kind: A dataclass whose fields are str, int, float, bool, a list of these, or one of these or None.
        """
        hints = get_type_hints(kind)
        required = [entry.name for entry in fields(kind) if entry.default is entry.default_factory is MISSING]
        self.usage = " ".join(["%(prog)s [RECIPE.yaml]", *(f"--{name} {name.upper()}" for name in required), "[flags]"])
        place: Any = self
        for entry in fields(kind):
            if title := entry.metadata.get("group"):
                place = self.add_argument_group(title)
            names = [f"--{entry.name}"]
            if "_" in entry.name:
                names.append(f"--{entry.name.replace('_', '-')}")
            place.add_argument(*names, **_settings(entry, hints[entry.name]))


def _settings(entry: Field[Any], hint: Any) -> dict[str, Any]:
    """Translates a field to the settings of an argparse argument."""
    default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
    settings: dict[str, Any] = {"help": str(entry.metadata.get("help", "")).replace("%", "%%"), "dest": entry.name}
    settings |= {"required": True} if default is MISSING else {"default": default}
    if get_origin(hint) is list:
        (element,) = get_args(hint)
        return settings | {"nargs": "+", "type": element, "metavar": element.__name__.upper()}
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if hint is bool:
        return settings | {"type": parse_bool, "nargs": "?", "const": True, "metavar": "BOOL"}
    return settings | {"type": hint, "metavar": hint.__name__.upper()}


def parse_bool(word: str) -> bool:
    """Reads a truth value.

    Raises:
        argparse.ArgumentTypeError: If the word is neither true nor false.
    """
    if word.lower() in (*TRUE, *FALSE):
        return word.lower() in TRUE
    raise argparse.ArgumentTypeError(f"expected true or false, got {word!r}")


def parse_dataclass(parser: FlagParser, kind: type, flags: Sequence[str]) -> Any:
    """Parses flags to an instance of a dataclass.

    Args:
        parser: A parser to whom the fields of `kind` are added.
        kind: The dataclass.
        flags: The command line, without the name of the command.
    """
    parser.add_fields(kind)
    return kind(**vars(parser.parse_args(flags)))
