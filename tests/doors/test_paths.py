"""That what a text names is there: files, links, modules and functions."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from places import ROOT
from shown_commands import SPAN, without_fences
from shown_texts import MARKDOWN, Text, find_files, read_comments, read_texts

FOLDERS = r"scripts|dataset_scripts|tests|docs|benchmarks|src|recipes|grids|model_cards|\.github|\.ci"
PATH = re.compile(rf"(?<![\w/.$}}-])(?:{FOLDERS})/[\w./*-]*[\w*/]")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)|<img src=\"([^\"]+)\"")
FILE = re.compile(r"(?:[\w-]+/)*[\w-]+\.(?:py|yaml|sbatch)")
DOTTED = re.compile(r"(?<![\w./\"'-])ecg_hf(?:\.[A-Za-z_]\w*)+")
GONE = {"CHANGELOG.md": ["scripts/recipes/reference"]}  # what the changelog says has another name now
PAGES = [path for path in find_files(MARKDOWN) if "src" not in path.parts[-4:]]


def missing(text: Text, root: Path = ROOT) -> list[str]:
    """The paths of a text that are not in the checkout."""
    return [
        f"{text.file}:{number}: {path}"
        for number, line in text.lines
        for path in PATH.findall(line)
        if path not in GONE.get(text.file, ()) and not any(root.glob(path))
    ]


def test_every_path_that_a_text_names_is_there():
    found = [path for text in [*read_texts(), *read_comments()] for path in missing(text)]
    assert found == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file_or_a_heading_of_it(path):
    for file, heading, image in LINK.findall(path.read_text(encoding="utf-8")):
        target = file or image
        if re.match(r"https?:|mailto:", target):
            continue
        assert (path.parent / target).exists(), f"{target} is not there"
        if heading:
            titles = re.findall(r"^#+ (.*)$", (path.parent / target).read_text(encoding="utf-8"), re.M)
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_every_module_and_function_that_a_text_names_by_its_path_is_there():
    texts = [text for text in read_texts() if text.kind in ("markdown", "docstring") and text.file != "CHANGELOG.md"]
    named = {(name, text.file) for text in texts for name in DOTTED.findall(text.whole)}
    files = {"yaml", "py", "egg"}
    assert [entry for entry in sorted(named) if entry[0].split(".")[1] not in files and not is_there(entry[0])] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_between_backticks_is_somewhere(path):
    text = re.sub(r"^\|.*\bx\.py.*$", "", without_fences(path.read_text(encoding="utf-8")), flags=re.M)
    for name in filter(FILE.fullmatch, SPAN.findall(text)):
        places = (f"{folder}/**/{name}" for folder in ("src", "scripts", "dataset_scripts", "tests"))
        own = name.startswith("my_")  # the reader's own
        assert own or any(any(ROOT.glob(place)) for place in (name, *places)), name


def test_a_path_or_a_name_that_is_not_there_would_be_seen():
    line = "See recipes/s4-cpc-ptbxl.yaml, scripts/recipes/s4-cpc.yaml and docs/*.md."
    assert missing(Text("x.py", "docstring", ((1, line),))) == ["x.py:1: recipes/s4-cpc-ptbxl.yaml"]
    assert is_there("ecg_hf.models.export.export_onnx") and not is_there("ecg_hf.export.export_onnx")
    assert not is_there("ecg_hf.no_such_name")
