"""Every text of a checkout that a reader may read: Markdown, docstrings, comments, and the recipes of make and CI."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

MARKDOWN = ("*.md", "docs/**/*.md", "benchmarks/*.md", "model_cards/*.md", "src/ecg_hf/hub/*.md")
PROGRAMS = ("src/**/*.py", "scripts/*.py", "dataset_scripts/*.py", "benchmarks/*.py")
TOOLS = ("tests/*/soak.py", "tests/*/fetch.py", "tests/support/*.py")
COMMENTED = ("scripts/**/*.yaml", "scripts/**/*.sbatch")
RECIPES = ("Makefile", ".github/workflows/*.yml", ".ci/run", ".pre-commit-config.yaml")


@dataclass(frozen=True)
class Text:
    """A text and its place.

    Args:
        file: Path of the file, relative to the checkout.
        kind: "markdown", "docstring", "string" (another literal of a program), "comment" or "recipe".
        lines: Lines with their numbers in the file.
    """

    file: str
    kind: str
    lines: tuple[tuple[int, str], ...]

    @property
    def whole(self) -> str:
        """The lines as one string."""
        return "\n".join(line for _, line in self.lines)


def read_texts(root: Path = ROOT) -> list[Text]:
    """Reads all texts but for the comments of programs, in the order of their files."""
    found: list[Text] = []
    for path in find_files(MARKDOWN, root):
        found.append(Text(_name(path, root), "markdown", _numbered(path.read_text(encoding="utf-8"))))
    for path in find_files((*PROGRAMS, *TOOLS), root):
        found += [
            text
            for text in _literals(path, root)
            if text.kind == "docstring" or path.relative_to(root).parts[0] != "tests"
        ]
    for path in find_files(COMMENTED, root):
        found.append(Text(_name(path, root), "comment", _comments(path)))
    for path in find_files(RECIPES, root):
        found.append(Text(_name(path, root), "recipe", _numbered(path.read_text(encoding="utf-8"))))
    return found


def read_comments(root: Path = ROOT) -> Iterator[Text]:
    """Reads the comments of programs."""
    for path in find_files((*PROGRAMS, *TOOLS), root):
        yield Text(_name(path, root), "comment", _comments(path))


def find_files(patterns: tuple[str, ...], root: Path = ROOT) -> list[Path]:
    """Lists the files that match patterns, pattern by pattern."""
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _numbered(text: str, first: int = 1) -> tuple[tuple[int, str], ...]:
    return tuple(enumerate(text.splitlines(), first))


def _comments(path: Path) -> tuple[tuple[int, str], ...]:
    lines = _numbered(path.read_text(encoding="utf-8"))
    return tuple((number, part[1]) for number, line in lines if (part := re.search(r"(?:^|\s)# ?(.*)", line)))


def _literals(path: Path, root: Path) -> Iterator[Text]:
    """Reads the docstrings and the other string literals of a program, but not the pieces of formatted ones."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    docstrings, parts = set(), set()
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts |= set(node.values)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.add(first.value)
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            kind = "docstring" if node in docstrings else "string"
            yield Text(_name(path, root), kind, _numbered(node.value, node.lineno))
