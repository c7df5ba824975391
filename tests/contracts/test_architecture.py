"""The one direction in which folders may import each other, and the size that a file and a folder may have."""

import ast
from pathlib import Path

import pytest

import ecg_hf
from ecg_hf import registry

ROOT = Path(ecg_hf.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.name != "__init__.py")

# The road of an ECG, from top to bottom: what each folder may import besides itself.
UPSTREAM = {
    "errors": set(),
    "registry": set(),
    "output": {"errors"},
    "signals": {"output"},
    "corpora": {"signals"},
    "tasks": {"corpora"},
    "data": {"tasks"},
    "models": {"signals"},  # models and data do not know each other: they meet in training
    "training": {"data", "models"},
    "evaluation": {"training"},
    "scaling": {"output"},
    "scaling.sweep": {"evaluation", "scaling"},
    "hub": {"data", "models"},
    "commands": {"evaluation", "hub", "scaling.sweep"},
    "__main__": {"commands"},
}
# Folders of kinds: a kind imports its base and its helpers, never another kind.
KINDS = {
    "models.backbones": set(registry.BACKBONES),
    "models.objectives": set(registry.OBJECTIVES),
    "tasks": {entry.rpartition(":")[0].rpartition(".")[2] for entry in registry.TASKS.values()},
    "corpora.sources": {
        entry.removeprefix("ecg_hf.corpora.sources.").split(".")[0].partition(":")[0]
        for entry in registry.CORPORA.values()
    },
    "signals.formats": {"csv", "hdf5", "npy", "wfdb", "rare_wfdb"},
}
# Parts that build on each other in this order.
CHAIN = ["table", "laws", "fitting", "comparison", "report"]
EVERYWHERE = {"errors", "registry"}


def room(module: str) -> str:
    """The entry of `UPSTREAM` that a module is in."""
    return "scaling.sweep" if module.startswith("scaling.sweep") else module.partition(".")[0]


def allowed(own: str) -> set[str]:
    """What a room may import, directly or further upstream."""
    found, queue = {own, *EVERYWHERE}, [own]
    while queue:
        for name in UPSTREAM[queue.pop()] - found:
            found.add(name)
            queue.append(name)
    return found


def imports(text: str) -> list[str]:
    """The modules of the package that a source text imports, without `ecg_hf.`."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in nodes), "relative import"
    found = []
    for node in nodes:
        if node.module == "ecg_hf":
            found += [alias.name for alias in node.names]
        elif node.module and node.module.startswith("ecg_hf."):
            found.append(node.module.removeprefix("ecg_hf."))
    return found


def breaches(path: Path, text: str) -> list[str]:
    """What in a source text breaks the table of folders."""
    own = ".".join(path.with_suffix("").parts)
    found = []
    for target in imports(text):
        if room(target) not in allowed(room(own)):
            found.append(f"{own} imports {target}, which is downstream of {room(own)}")
        for folder, kinds in KINDS.items():
            here, there = (name.removeprefix(f"{folder}.").partition(".")[0] for name in (own, target))
            inside = own.startswith(f"{folder}.") and target.startswith(f"{folder}.")
            if inside and here != there and here in kinds and there in kinds:
                found.append(f"{own} imports {target}, another kind")
        links = [name.split(".")[1] for name in (own, target) if name.startswith("scaling.")]
        if len(links) == 2 and set(links) <= set(CHAIN) and CHAIN.index(links[1]) > CHAIN.index(links[0]):
            found.append(f"{own} imports {target}, which builds on it")
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_upstream(path):
    assert breaches(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("signals/record.py", "from ecg_hf.corpora.base import EcgCorpus"),
        ("data/split.py", "from ecg_hf.models.pairs import PAIRS"),
        ("models/heads.py", "from ecg_hf.data.split import Split"),
        ("scaling/fitting/fit.py", "from ecg_hf.evaluation.metrics import Score"),
        ("scaling/laws/base.py", "from ecg_hf.scaling.fitting.fit import fit"),
        ("models/objectives/cpc.py", "from ecg_hf.models.objectives.supervised import Supervised"),
        ("corpora/sources/ptbxl.py", "from ecg_hf.corpora.sources.code.code15 import Code15"),
    ],
)
def test_an_import_that_points_downstream_or_to_another_kind_would_be_seen(path, line):
    assert breaches(Path(path), f"{line}\n")


def test_every_room_of_the_table_exists_and_every_entry_is_in_it():
    entries = {
        path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert entries - {"__init__"} == set(UPSTREAM) - {"scaling.sweep"}


def test_the_package_can_be_taken_in_at_one_glance():
    assert len([path for path in ROOT.iterdir() if path.name != "__pycache__"]) <= 16
    for folder in {path.parent for path in FILES}:
        modules = [path for path in FILES if path.parent == folder]
        assert len(modules) <= 15, f"{folder} holds {len(modules)} modules"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_is_short(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("folder", sorted({str(path.parent) for path in FILES} - {"."}))
def test_a_folder_says_what_it_is_about(folder):
    text = (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{folder}/__init__.py has no docstring"


@pytest.mark.parametrize("table", ["BACKBONES", "OBJECTIVES", "CORPORA", "TASKS"])
def test_every_registered_name_loads(table):
    entries = getattr(registry, table)
    for name in entries:
        assert registry.load(entries, name) is not None


def test_an_unregistered_name_is_refused_with_the_list_of_those_there_are():
    with pytest.raises(KeyError, match=r"'s5' is not registered; choose one of .*'s4'"):
        registry.load(registry.BACKBONES, "s5")
