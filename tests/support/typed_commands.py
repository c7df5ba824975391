"""What a shown command would run: its program and words, parsed to the end by the program's own parser."""

import argparse
import contextlib
import importlib.util
import io
import os
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from ecg_hf.commands import main as dispatcher
from ecg_hf.registry import CORPORA, TASKS, load
from places import ROOT

LISTS = ("corpora", "tasks")  # commands that take no words and print a table
DOOR = re.compile(r"^from ecg_hf\.commands\.(\w+) import main$", re.M)


class RefusedError(Exception):
    """A command that its program does not accept."""


@dataclass(frozen=True)
class Typed:
    """A command as a program takes it.

    Args:
        kind: "command" of ecg-hf, "script" of the checkout, "module" of Python, "make", "pip" or "help".
        name: Name of the command, path of the script, name of the module, or the target.
        words: Words after the name.
        launcher: "" for Python, "accelerate" or "sbatch".
        launch: Words of the launcher.
    """

    kind: str
    name: str
    words: tuple[str, ...] = ()
    launcher: str = ""
    launch: tuple[str, ...] = ()


def resolve(words: Sequence[str]) -> Typed:
    """Finds the program of a command.

    Raises:
        RefusedError: If there is none.
    """
    program, *rest = words
    if program == "ecg-hf" or (program, *rest[:2]) == ("python", "-m", "ecg_hf"):
        return _command(rest[0 if program == "ecg-hf" else 2 :])
    if program == "python" and rest[0] == "-m":
        return Typed("module", rest[1], tuple(rest[2:]))
    if program == "python":
        return _script(rest[0], rest[1:])
    if program == "accelerate":
        return _launched(rest[1:])
    if program == "sbatch":
        return _submitted(rest)
    return Typed(program, rest[0], tuple(rest[1:]))


def _command(words: Sequence[str]) -> Typed:
    if words[0].startswith("-") or words[0] == "COMMAND":
        return Typed("help", words[0])
    known = [name for topic in dispatcher.COMMANDS.values() for name in topic]
    if words[0] not in known:
        raise RefusedError(f"unknown command {words[0]}; choose from {known}")
    return Typed("command", words[0], tuple(words[1:]))


def _script(path: str, words: Sequence[str]) -> Typed:
    if not (ROOT / path).is_file():
        raise RefusedError(f"{path} does not exist")
    if found := DOOR.search((ROOT / path).read_text(encoding="utf-8")):
        return _command([found[1].replace("_", "-"), *words])
    return Typed("script", path, tuple(words))


def _launched(words: Sequence[str]) -> Typed:
    """Reads `accelerate launch` with accelerate's own parser."""
    from accelerate.commands.launch import launch_command_parser

    with _refusing():
        read = launch_command_parser().parse_args(words)
    if read.config_file and not (ROOT / read.config_file).is_file():
        raise RefusedError(f"{read.config_file} does not exist")
    inner = ["-m", read.training_script] if read.module else [read.training_script]
    typed = resolve(["python", *inner, *read.training_script_args])
    launch = words[: len(words) - len(inner) - len(read.training_script_args)]
    return replace(typed, launcher="accelerate", launch=tuple(launch))


def _submitted(words: Sequence[str]) -> Typed:
    """Reads the command inside a batch script, with the words that sbatch hands to it."""
    path, *given = words
    if not (ROOT / path).is_file():
        raise RefusedError(f"{path} does not exist")
    text = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", " ")
    (inner,) = re.findall(r"exec (accelerate launch .*?)'", text)
    inner = re.sub(r'"\$\(\(.*?\)\)"|"\$(?:SLURM\w+)"', "1", inner).replace('"$0"', "host")
    before, after = inner.split('"$@"')
    return replace(_launched([*before.split()[2:], *given, *after.split()]), launcher="sbatch")


def parse(typed: Typed, folder: Path = ROOT) -> Any:
    """Parses the words of a command to the end, without running it.

    Args:
        typed: The command.
        folder: Folder in which it is typed, where its recipes are.

    Returns:
        What the program would run with, or None if it takes no words.

    Raises:
        RefusedError: If the program exits, or a value cannot be meant.
    """
    with contextlib.chdir(folder):
        if typed.kind == "command":
            return _parse_command(typed.name, typed.words)
        if typed.kind == "script":
            return _parse_script(typed.name, typed.words)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if typed.kind == "module":
        declared = re.findall(r"[\w-]+", " ".join(extras["dev"]))
        found = importlib.util.find_spec(typed.name) is not None or typed.name in declared
        _require(found, f"there is no module {typed.name}")
    if typed.kind == "make":
        targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        _require(typed.name in targets, f"the Makefile has no target {typed.name}, only {targets}")
    if typed.kind == "pip":
        asked = {name for word in typed.words for name in re.findall(r"[a-z]+", "".join(re.findall(r"\[.*\]", word)))}
        _require(asked <= set(extras), f"there are no extras {asked - set(extras)}")
    return None


def _parse_command(name: str, words: Sequence[str]) -> Any:
    module = import_module(f"ecg_hf.commands.{name.replace('-', '_')}")
    found: list[Any] = []

    def keep(arguments: Any) -> int:
        found.append(arguments)
        return 0

    with contextlib.ExitStack() as changes:
        if name not in LISTS:
            changes.enter_context(mock.patch.object(module, "_run", keep))
            changes.enter_context(mock.patch.object(module, "prepare_console", lambda **_: None))
        changes.enter_context(mock.patch.dict(os.environ))
        changes.enter_context(mock.patch("signal.signal"))
        printed = changes.enter_context(_refusing())
        status = module.main(list(words), f"ecg-hf {name}")
    _require(status == 0, printed.getvalue())
    if not found:
        return None
    check_values(name, found[0])
    return found[0]


def _parse_script(path: str, words: Sequence[str]) -> Any:
    """Runs a script up to the point where it has parsed its words."""
    if "ArgumentParser(" not in (ROOT / path).read_text(encoding="utf-8"):
        _require(not words, f"{path} takes no words, got {words}")
        return None

    class ParsedError(Exception):
        """Ends the script."""

    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *given: Any) -> None:
        raise ParsedError(parse_args(parser, *given))

    folder = str((ROOT / path).parent)
    before = set(sys.modules)
    with (
        mock.patch.object(sys, "argv", [path, *words]),
        mock.patch.object(sys, "path", [folder, *sys.path]),
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
        _refusing(),
    ):
        try:
            runpy.run_path(str(ROOT / path), run_name="__main__")
        except ParsedError as parsed:
            return parsed.args[0]
        finally:
            for name in set(sys.modules) - before:
                if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
                    del sys.modules[name]
    raise RefusedError(f"{path} parsed nothing")


@contextlib.contextmanager
def _refusing() -> Iterator[io.StringIO]:
    """Turns an exit of a program into an error with what the program printed."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
        try:
            yield printed
        except SystemExit as error:
            raise RefusedError(printed.getvalue() or f"exit status {error.code}") from error


def _require(true: bool, message: str) -> None:
    if not true:
        raise RefusedError(message)


def check_values(name: str, arguments: Any) -> None:
    """Checks values of a command that only its work would read: names of pairs, corpora, tasks and forms, and grids."""
    try:
        if name == "pretrain":
            from ecg_hf.scaling.sweep.model_size import measure

            measure(arguments)
            for corpus in arguments.corpus:
                _require("/" in corpus or corpus in CORPORA, f"there is no corpus {corpus}")
        elif name == "finetune":
            load(TASKS, arguments.task)
        elif name in ("build", "verify"):
            configs = [config.name for config in load(CORPORA, arguments.name).BUILDER_CONFIGS]
            _require(arguments.config in (None, *configs), f"{arguments.name} has the configs {configs}")
        elif name == "sweep":
            from ecg_hf.scaling.sweep.grid import read_grid
            from ecg_hf.scaling.sweep.sweep import Sweep

            Sweep(read_grid(arguments.grid), arguments.out).jobs()
        elif name == "fit-scaling":
            from ecg_hf.scaling.fitting.cell_fit import REPORTED

            _require(arguments.form in REPORTED, f"form must be one of {list(REPORTED)}")
    except (KeyError, ValueError, FileNotFoundError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error


def known_flags(typed: Typed) -> set[str]:
    """Lists the flags of a command, as its help shows them, or of a script."""
    if typed.kind == "script":
        return set(re.findall(r"--[a-z_]+", (ROOT / typed.name).read_text(encoding="utf-8")))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        dispatcher.main([typed.name, "--help"])
    return {"--help", "--verbose", *re.findall(r"--[a-z_]+", printed.getvalue())}


def missing_paths(words: Sequence[str], root: Path = ROOT) -> list[str]:
    """Lists the words that name a file of the checkout that is not there.

    A path begins with a placeholder in capitals (ROOT, OUT/runs.jsonl), with a folder that commands write (built,
    build, demo, dist; org for a name on the Hub), or exists.
    """
    made = re.compile(r"[A-Z][A-Z0-9_-]*(/|$)|(built|build|demo|dist|org)/|-|\.?\[|https?:")
    paths = [word for word in words if "/" in word and not made.match(word) and " " not in word]
    return [path for path in paths if not (root / path).exists()]
