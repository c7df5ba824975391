"""The one direction in which modules may import each other, and the size a file may have."""

import ast
from pathlib import Path

import pytest

import ecg_hf
from ecg_hf import registry

STAGES = (
    "version registry listing errors files config records quality heart simulation resampling waveform_hash "
    "duplicates formats roots root rows folds corpus corpora loading inputs features checksums ledger "
    "verification verification_report draws crops order backbones heads objectives pretraining descriptions "
    "classification reference_file reference_layout reference_s4 reference_teacher reference_trunks "
    "reference_objectives reference_values reference export checkpoints bootstrap label_scores metrics paper "
    "plots tasks columns split prepared shard_file shard_check shards built loader provenance results targets "
    "arguments accelerator collapse optimization step run_log run_plot interruption batch_norms best_weights progress "
    "snapshot checkpoint_writer process_failure validation training runs forecast examples frozen_file "
    "frozen_features probing resumption task_data finetuning scaling sweeps lineage cards dataset_cards publishing"
).split()
SHARED = {
    "base",
    "convolution",
    "stem",
    "chunks",
    "dynamics",
    "spectral",
    "kernel",
    "masking",
    "teacher",
    "predictor",
    "codebook",
    "health",
    "processes",
    "cohort",
    "header_comments",
    "record_tree",
    "snomed",
    "label_table",
    "mimic_example",
    "mimic_labels",
    "mimic_measurements",
    "mimic_tables",
    "open_files",
    "own_records",
    "tracings",
    "wfdb_header",
    "wfdb_files",
    "heedb_example",
    "heedb_tables",
    "zzu_codes",
}
# Folders whose files build on one another: each may import those to its left.
CHAINS = {
    "scaling": (
        "law power_laws kaplan saturating repeated broken shifted laws descent rows reading runs points result fitting "
        "intervals profiles choice flops multipliers ladder joint crossing bottleneck orthogonal loss_to_loss paired "
        "transfer frontier design comparison macro cell_fit study contrasts plots comparison_plots comparison_numbers "
        "tables figures report"
    ).split(),
    "sweeps": (
        "job evaluation points grid model_size scores logistic in_distribution probes training_job rates data_job "
        "amounts table processes cluster display sweep"
    ).split(),
}
ROOT = Path(ecg_hf.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def imports(text: str) -> list[list[str]]:
    """The `ecg_hf` modules that a source text imports, each split at its dots."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in nodes), "relative import"
    return [node.module.split(".")[1:] for node in nodes if node.module and node.module.startswith("ecg_hf.")]


def breaches(path: Path, text: str) -> list[str]:
    """What in a source text breaks the order of the stages."""
    own = path.with_suffix("").parts
    found = []
    for target in imports(text):
        if STAGES.index(target[0]) > STAGES.index(own[0]):
            found.append(f"{path} imports {target[0]}, which comes after it")
        if target[0] == own[0] and len(own) > 1 and not _beside(own, target):
            found.append(f"{path} imports its sibling {target[1]}")
    return found


def _beside(own: tuple[str, ...], target: list[str]) -> bool:
    """Whether a file of a folder may import another of the same folder."""
    if own[0] not in CHAINS:
        return target[1] in SHARED
    chain = CHAINS[own[0]]
    return chain.index(target[1]) < chain.index(own[1])


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_upstream(path):
    assert breaches(path, (ROOT / path).read_text()) == []


def test_a_downstream_import_and_a_sibling_import_would_be_seen():
    assert breaches(Path("records.py"), "from ecg_hf.corpus import Entry\n")
    assert breaches(Path("objectives/cpc.py"), "from ecg_hf.objectives.supervised import Supervised\n")
    assert breaches(Path("scaling/laws.py"), "from ecg_hf.scaling.fitting import fit\n")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_is_short(path):
    assert len((ROOT / path).read_text().splitlines()) <= 300


@pytest.mark.parametrize("table", ["BACKBONES", "OBJECTIVES", "CORPORA", "TASKS", "FORMATS"])
def test_every_registered_name_loads(table):
    entries = getattr(registry, table)
    for name in entries:
        assert registry.load(entries, name) is not None


def test_an_unregistered_name_is_refused_with_the_list_of_those_there_are():
    with pytest.raises(KeyError, match=r"'s5' is not registered; choose one of .*'s4'"):
        registry.load(registry.BACKBONES, "s5")


@pytest.mark.parametrize("folder", CHAINS)
def test_every_link_of_a_chain_is_a_file_that_exists(folder):
    assert {path.stem for path in FILES if path.parts[0] == folder} == set(CHAINS[folder])


def test_every_stage_is_a_module_that_exists():
    names = {path.parts[0].removesuffix(".py") for path in FILES}
    assert names == set(STAGES)
