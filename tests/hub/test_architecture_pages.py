import re
from dataclasses import MISSING, fields
from inspect import get_annotations

import pytest

from ecg_hf import PAIRS
from ecg_hf.hub.architecture_pages import architecture_pages
from ecg_hf.hub.docstrings import read_docstring
from ecg_hf.hub.page_parts import layer_class, paragraph, show_text
from ecg_hf.models.backbones.base import BackboneConfig
from ecg_hf.models.config import EcgConfig
from ecg_hf.models.objectives.cpc import CPC
from ecg_hf.registry import BACKBONES, OBJECTIVES, load
from places import ROOT

DOCS = ROOT / "docs"
PAGES = architecture_pages(ROOT)
KINDS = {f"backbones/{name}.md": load(BACKBONES, name) for name in BACKBONES}
KINDS |= {f"objectives/{name}.md": load(OBJECTIVES, name) for name in OBJECTIVES}
# The classes that declare config fields, each with the page that explains them.
DECLARING = {BackboneConfig: "backbones/README.md"}
DECLARING |= {kind.config_class: path for path, kind in KINDS.items() if path.startswith("backbones/")}
DECLARING |= {
    parent: "objectives/README.md" if parent is not kind.fields else path
    for path, kind in KINDS.items()
    if path.startswith("objectives/")
    for parent in kind.fields.__mro__
    if get_annotations(parent)
}
FIELDS = [(kind, name) for kind in DECLARING for name in get_annotations(kind) if name != "model_type"]


def explained(path):
    return re.findall(r"^\| `(\w+)` \| `", PAGES[path], flags=re.MULTILINE)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_up_to_date(path):
    assert (DOCS / path).exists() and (DOCS / path).read_text(encoding="utf-8") == PAGES[path], "run make pages"


def test_there_is_no_page_of_what_is_not_registered():
    found = [*DOCS.glob("backbones/*"), *DOCS.glob("objectives/*"), DOCS / "pairs.md"]
    assert {path.relative_to(DOCS).as_posix() for path in found} == set(PAGES)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_changed_default_changes_one_page(kind, name, monkeypatch):
    entry = kind.__dataclass_fields__[name]
    if entry.default_factory is MISSING:
        monkeypatch.setattr(entry, "default", "changed")
    else:
        monkeypatch.setattr(entry, "default_factory", lambda: "changed")
    changed = [path for path, text in architecture_pages(ROOT).items() if text != PAGES[path]]
    assert changed == [DECLARING[kind]]


def test_a_changed_default_of_the_backbone_that_an_objective_sets_changes_the_table_of_pairs(monkeypatch):
    monkeypatch.setattr(CPC, "backbone_defaults", {"causal": "changed"})
    assert [path for path, text in architecture_pages(ROOT).items() if text != PAGES[path]] == ["pairs.md"]


@pytest.mark.parametrize("name", PAIRS)
def test_the_pages_explain_all_fields_of_a_pair(name):
    backbone, objective = name.split("-")
    own = {entry.name for entry in fields(PAIRS[name].config_class)} - {entry.name for entry in fields(EcgConfig)}
    alone = {*explained(f"backbones/{backbone}.md"), *explained(f"objectives/{objective}.md")}
    shared = {*explained("backbones/README.md"), *explained("objectives/README.md")}
    assert alone <= own <= alone | shared


@pytest.mark.parametrize("path", KINDS)
def test_a_page_names_the_sources_of_its_docstrings(path):
    kinds = [KINDS[path], *([layer_class(KINDS[path])] if path.startswith("backbones/") else [])]
    for kind in kinds:
        assert read_docstring(kind).source
        assert f"Source: {read_docstring(kind).source}" in " ".join(PAGES[path].split())


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("causal", [False, True])
def test_the_page_of_a_backbone_gives_the_exact_parameters_of_each_size(name, causal):
    kind = load(BACKBONES, name)
    rows = {line.split(" | ")[0]: line for line in PAGES[f"backbones/{name}.md"].splitlines()}
    for size in ("20k", "63k"):
        model = kind(kind.config_class(**kind.sizes[size], causal=causal))
        assert f" {sum(weights.numel() for weights in model.parameters()):,} |" in rows[f"| {size}"]


def test_the_table_of_pairs_has_one_row_for_each_pair_and_links_every_recipe_of_a_pair():
    rows = re.findall(r"^\| \[.*?\| `ecg-(\S+)` \| `(\w+)` \|", PAGES["pairs.md"], flags=re.MULTILINE)
    assert dict(rows) == {name: pair.__name__ for name, pair in PAIRS.items()} and len(rows) == len(PAIRS)
    for recipe in (ROOT / "scripts" / "recipes").rglob("*-*.yaml"):
        if recipe.stem in PAIRS:
            assert f"(../{recipe.relative_to(ROOT).as_posix()})" in PAGES["pairs.md"]


def anchors(text):
    """The names that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*(f"docs/{path}" for path in PAGES), "model_cards/README.md"])
def test_every_link_of_a_page_resolves(path):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / path).read_text(encoding="utf-8"))
    assert links
    for link in links:
        target, _, anchor = link.partition("#")
        found = (ROOT / path).parent / target
        assert found.is_file(), link
        assert not anchor or anchor in anchors(found.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_empty_section_and_no_prompt(path):
    text = PAGES[path]
    assert ">>>" not in text and "\n\n\n" not in text and "Example:" not in text
    assert not re.search(r"^#.*\n+(#|\Z)", text, flags=re.MULTILINE)
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        compile(code, path, "exec")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_a_model_without_weights_is_no_card(path):
    assert not re.search(r"\bcards?\b", PAGES[path], flags=re.IGNORECASE)


def test_the_folder_of_cards_holds_cards_of_weights_only():
    for path in (ROOT / "model_cards").glob("*.md"):
        assert path.name == "README.md" or path.read_text(encoding="utf-8").startswith("---\n"), path


class Documented:
    """Does a thing.

    In a way.

    Args:
        size: Size of it,
            in mm.

    Example:
        >>> thing = Documented(
        ...     3
        ... )
        >>> print(thing)  # doctest: +SKIP
        a thing

    Raises:
        ValueError: If not.

    Source:
        Someone 1999,
        eq. 2.
    """


def test_an_example_is_shown_as_code_and_leaves_the_other_sections_as_they_are():
    read = read_docstring(Documented)
    assert read.prose == "Does a thing.\n\nIn a way."
    assert read.arguments == {"size": "Size of it, in mm."}
    code = "thing = Documented(\n    3\n)\nprint(thing)\n# a thing"
    lines = [read.prose, "", "Source: Someone 1999, eq. 2.", "", "```python", code, "```"]
    assert show_text(Documented) == lines


def test_a_paragraph_does_not_break_in_code_or_before_what_would_begin_a_list():
    words = "word " * 23  # 115 characters
    assert paragraph(f"{words}a = `b - c` d").splitlines()[1] == "`b - c` d"
    assert paragraph(f"{words}abcd - e").splitlines()[1] == "abcd - e"
