"""That what a text shows runs: each file's commands and Python examples one after the other, in small."""

import re

import pytest

from places import ROOT
from shown_commands import Shown, python_of, read_commands
from shown_texts import Text, find_files
from small_runs import can_run, make_checkout, run_small
from typed_commands import DOOR

DEMO = "src/ecg_hf/commands/demo.py"
SCRIPTS = find_files(("scripts/*.py", "dataset_scripts/*.py"))
# Scripts that run with the recipes of the Makefile.
MADE = {shown.words[1] for shown in read_commands() if shown.file == "Makefile" and shown.words[0] == "python"}
# Every benchmark runs in test_benchmarks.py.
ELSEWHERE = ("benchmarks/", "tests/", "scripts/demo.py", DEMO, ".github/", ".ci/")


def examples_of(file: str) -> list[Shown]:
    """Lists the commands and, for a page, the Python examples of a file that can be run."""
    found = [shown for shown in read_commands() if shown.file == file and not shown.mention and can_run(shown)]
    if file.endswith(".md") and file != "README.md":  # test_readme.py runs that one and reads what it prints
        lines = tuple(enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1))
        found += python_of(Text(file, "markdown", lines))
    return sorted(found, key=lambda shown: shown.line)


FILES = sorted({shown.file for shown in read_commands() if not shown.file.startswith(ELSEWHERE)})
FILES = [file for file in FILES if examples_of(file) and not file.startswith("CHANGELOG")]


@pytest.mark.parametrize(
    "file", [pytest.param(file, marks=[] if file == "README.md" else pytest.mark.door) for file in FILES]
)
def test_the_examples_of_a_file_run_one_after_the_other(file, small_model, typed_hub, tmp_path):
    desk = make_checkout(tmp_path / "checkout", small_model)
    for shown in examples_of(file):
        run_small(shown, desk, typed_hub)


def test_the_demo_runs_to_its_end_and_leaves_what_it_names(small_model, typed_hub, tmp_path):
    *_, shown = [shown for shown in read_commands() if shown.file == DEMO and not shown.mention]
    desk = make_checkout(tmp_path / "checkout", small_model)
    printed = run_small(shown, desk, typed_hub)
    named = re.findall(r"^.+: +(OUT\S*)$", printed, re.M)
    assert len(named) >= 5 and all((desk.folder / path).exists() for path in named)
    assert "untrained twin" in printed and "simple features" in printed


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_script_is_a_door_to_the_command_of_its_help(path):
    text = path.read_text(encoding="utf-8")
    found = DOOR.search(text)
    assert found or path.stem == "describe"
    if found:
        assert text.count("\n") <= 8 and f"`ecg-hf {found[1].replace('_', '-')}`" in text


@pytest.mark.door
@pytest.mark.parametrize("script", sorted({str(path.relative_to(ROOT)) for path in SCRIPTS} - MADE))
def test_a_script_runs_to_its_end_at_its_smallest_size(script, small_model, typed_hub, tmp_path):
    words: tuple[str, ...] = ()
    if found := DOOR.search((ROOT / script).read_text(encoding="utf-8")):
        source = f"src/ecg_hf/commands/{found[1]}.py"
        first = next(shown for shown in read_commands() if shown.file == source and not shown.mention)
        words = first.words[2:]
    desk = make_checkout(tmp_path / "checkout", small_model)
    run_small(Shown(script, 1, ("python", script, *words)), desk, typed_hub)
