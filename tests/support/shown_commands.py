"""The commands that the texts of a checkout show to a reader, as they would be typed, and the Python examples."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from places import ROOT
from shown_texts import Text, read_texts

START = re.compile(
    r"(?:\$ )?(?:[A-Z][A-Z_]+=\S+ +)*"
    r"(?:ecg-hf [a-z-]|python (?:\S+/\S|-m )|accelerate launch |sbatch |make [a-z-]+\s*(?:#|$)|pip install |pytest )"
)
SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
# What the Makefile's variables stand for.
VARIABLES = {"$(RUN)": "python", "$(PYTEST)": "python -m pytest", "$(WORKERS)": "2"}


@dataclass(frozen=True)
class Shown:
    """A command that a text shows.

    Args:
        file: Path of the file, relative to the checkout.
        line: Number of its first line.
        words: Words, without those of the environment.
        environment: Variables before the first word.
        mention: Whether it stands in a sentence, where it need not be complete.
        code: Text of a Python example.
    """

    file: str
    line: int
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    mention: bool = False
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@cache
def read_commands(root: Path = ROOT) -> list[Shown]:
    """Collects every command of every text."""
    return [shown for text in read_texts(root) for shown in commands_of(text)]


def commands_of(text: Text) -> list[Shown]:
    """Collects the commands of one text, in the order of their lines."""
    found = [] if text.kind == "string" else list(_examples(text))
    lines = {shown.line for shown in found}
    return sorted([*found, *(shown for shown in _spans(text) if shown.line not in lines)], key=lambda shown: shown.line)


def python_of(text: Text) -> Iterator[Shown]:
    """Collects the Python examples of a Markdown text; the words of one are the file that it is to be put into."""
    for found in re.finditer(r"(?:`(\w+\.py)`:\n\n)?^```python\n(.*?)^```", text.whole, re.M | re.S):
        line = text.whole[: found.start(2)].count("\n") + 1
        yield Shown(text.file, line, (found[1],) if found[1] else (), code=found[2])


def _examples(text: Text) -> Iterator[Shown]:
    """Finds the commands that have lines of their own."""
    first, command = None, ""
    for number, line in _example_lines(text):
        first, command = first or number, command + line
        if command.endswith("\\"):
            command = command[:-1]
            continue
        if START.match(command):
            yield _shown(text.file, first, command)
        first, command = None, ""


def _example_lines(text: Text) -> Iterator[tuple[int, str]]:
    """Leaves of a text the lines that may be commands."""
    inside = False
    for number, line in text.lines:
        if text.kind == "markdown":
            if line.lstrip().startswith("```"):
                inside = not inside
            elif inside:
                yield number, line.strip()
        elif text.kind == "recipe":
            if found := re.match(r"\t(.*)|\s*(?:- )?(?:run|entry): (.*)|(make .*)", line):
                command = next(part for part in found.groups() if part is not None)
                for name, value in VARIABLES.items():
                    command = command.replace(name, value)
                yield number, command.strip()
        else:
            yield number, line.strip()


def _spans(text: Text) -> Iterator[Shown]:
    """Finds commands between backticks; one that is all of its line is an example, others are mentions."""
    numbers = [number for number, _ in text.lines]
    whole = without_fences(text.whole) if text.kind == "markdown" else text.whole
    for found in SPAN.finditer(whole):
        if START.match(found[1]):
            number = numbers[whole[: found.start()].count("\n")]
            line = dict(text.lines)[number].strip()
            alone = text.kind == "markdown" and re.fullmatch(rf"(?:[-*] )?{re.escape(found[0])}.?", line)
            yield _shown(text.file, number, " ".join(found[1].split("\n")), mention=not alone)


def without_fences(markdown: str) -> str:
    """Empties the fenced blocks of a Markdown text."""
    return re.sub(r"^```.*?^```", lambda found: "\n" * found[0].count("\n"), markdown, flags=re.M | re.S)


def _shown(file: str, line: int, command: str, *, mention: bool = False) -> Shown:
    words = shlex.split(command.removeprefix("$ "), comments=True)
    environment = {}
    while re.fullmatch(r"[A-Z][A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    return Shown(file, line, tuple(words), environment, mention)
