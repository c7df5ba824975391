"""`read_docstring`, which splits the docstring of a class into its prose and its sections."""

import inspect
import re
from dataclasses import dataclass

SECTIONS = re.compile(r"^(Args|Returns|Raises|Source|Example):\n", flags=re.MULTILINE)


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring that the architecture pages show.

    Args:
        prose: Text before the first section, in Markdown.
        arguments: Meaning of each argument, by its name.
        source: Text of the section "Source", on one line.
        example: Python code of the section "Example", without prompts and with its output in comments.
    """

    prose: str
    arguments: dict[str, str]
    source: str
    example: str


def read_docstring(kind: type) -> Docstring:
    """Reads the docstring of a class itself; that of a base class is not inherited.

    Args:
        kind: Class with a docstring in Google form.

    Returns:
        The parts of the docstring, which are empty where it has none.

    Example:
        >>> from ecg_hf.models.objectives.cpc import CPC
        >>> read_docstring(CPC).source[:35]
        'van den Oord et al. 2018, eq. 4; in'
    """
    prose, *parts = SECTIONS.split(inspect.cleandoc(kind.__doc__ or "") + "\n")
    sections = {name: inspect.cleandoc("\n" + text) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    entries = re.findall(r"^(\w+): (.*(?:\n {4}.*)*)", sections.get("Args", ""), flags=re.MULTILINE)
    return Docstring(
        prose=prose.strip(),
        arguments={name: " ".join(meaning.split()) for name, meaning in entries},
        source=" ".join(sections.get("Source", "").split()),
        example="\n".join(_code(line) for line in sections.get("Example", "").splitlines()),
    )


def _code(line: str) -> str:
    """Converts a line of an interactive session to a line of a script."""
    if line.startswith((">>>", "...")):
        return line[4:].partition("  # doctest:")[0]
    return f"# {line}" if line else ""
