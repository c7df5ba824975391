"""That docstrings say what is so: their examples run, and their words are those of the house."""

import ast
import doctest
import pkgutil
import re
from importlib import import_module, util
from pathlib import Path

import pytest

import ecg_hf
from shown_texts import find_files

NAMES = ["ecg_hf", *(module.name for module in pkgutil.walk_packages(ecg_hf.__path__, "ecg_hf."))]
SOURCES = {name: Path(util.find_spec(name).origin).read_text(encoding="utf-8") for name in NAMES}
WITH_EXAMPLES = [name for name, source in SOURCES.items() if ">>> " in source]
# Those of publishing need a Hub.
SKIPPED = [name for name in WITH_EXAMPLES if "+SKIP" in SOURCES[name] and name != "ecg_hf.hub.publishing"]
PROGRAMS = find_files(("src/**/*.py", "scripts/*.py", "dataset_scripts/*.py"))
OPENING = re.compile(r"(Gives|Says|Tells)\b")
BARE = re.compile(r"^ +\w+: (?:Of|In|From|With|By) [^\n]{0,40}\.$", re.M)


class Eager(doctest.DocTestParser):
    """Reads examples that are marked to be skipped like others."""

    def parse(self, string, name="<string>"):
        return super().parse(string.replace("# doctest: +SKIP", ""), name)


def run_examples(module, parser=None) -> tuple[int, str]:
    """Runs the examples of a module; returns their number and what differs."""
    said, number = [], 0
    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder(parser=parser or doctest.DocTestParser()).find(module, module.__name__):
        number += len(test.examples)
        runner.run(test, out=said.append)
    return number, "".join(said)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    number, said = run_examples(import_module(name))
    assert number and not said, said


@pytest.mark.door
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter, of its own code
@pytest.mark.parametrize("name", SKIPPED)
def test_an_example_that_is_skipped_for_its_time_prints_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, said = run_examples(import_module(name), Eager())
    assert not said, said


def test_every_folder_shows_an_example():
    folders = [name for name in NAMES if util.find_spec(name).submodule_search_locations]
    assert [name for name in folders if name not in WITH_EXAMPLES] == []


def odd_words(source: str) -> list[str]:
    """The docstrings of a program that open with an odd verb, and the arguments that a bare genitive describes."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    texts = [text for node in nodes if (text := ast.get_docstring(node, clean=False))]
    openings = [text.split("\n")[0] for text in texts if OPENING.match(text)]
    return [*openings, *(found for text in texts for found in BARE.findall(text))]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_docstrings_use_the_words_of_the_house(path):
    assert odd_words(path.read_text(encoding="utf-8")) == []


def test_an_example_that_is_wrong_and_an_odd_word_would_be_seen(tmp_path):
    path = tmp_path / "wrong.py"
    lines = ['    """Gives one.', "    Args:", "        seed: Of the draws.", "    >>> f(0)", "    2", '    """']
    path.write_text("\n".join(["def f(seed):", *lines, "    return 1", ""]))
    spec = util.spec_from_file_location("wrong", path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    number, said = run_examples(module)
    assert number == 1 and "Expected:\n    2\nGot:\n    1" in said
    assert odd_words(path.read_text()) == ["Gives one.", "        seed: Of the draws."]
