import csv
import functools
import runpy
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import openpyxl
import pytest

from ecg_hf.corpora.index import SPLITS
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.corpora.roots.open import open_root
from ecg_hf.corpora.sources.challenge import snomed
from ecg_hf.corpora.sources.challenge.cohort import deal_splits
from ecg_hf.corpora.sources.ptbxl import PTBXL, STATEMENTS, parse_labels
from ecg_hf.data.targets import labelled_split, resolve_labels
from ecg_hf.evaluation.metrics import METRICS
from ecg_hf.output.text_table import make_table
from ecg_hf.registry import CORPORA, TASKS, load
from ecg_hf.tasks import mimic_iv_ecg
from ecg_hf.tasks.__main__ import describe
from ecg_hf.tasks.base import Task
from made_rows import made_corpus, split_of
from places import SHARED

CHALLENGE = SHARED / "challenge-2021-metadata"
needs_data = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")


def outputs_by_rule(task, labels_by_split):
    """The outputs by study A's rule and by the one that does not look at the test split."""
    corpus, splits = made_corpus(labels_by_split)
    every = replace(task, vocabulary=replace(task.vocabulary, counted="all"))
    train = splits["train"]
    return [len(resolve_labels(asked, [corpus], [train]).labels) for asked in (every, task)]


def by_split(labels, splits):
    return {name: [own for own, split in zip(labels, splits, strict=True) if split == name] for name in SPLITS}


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def sheet_of(path, name=None):
    """The rows of a workbook's sheet, without its header."""
    book = openpyxl.load_workbook(path, read_only=True)
    rows = list((book[name] if name else book.worksheets[0]).iter_rows(min_row=2, values_only=True))
    book.close()
    return rows


@functools.cache
def ptbxl_table():
    """PTB-XL's real label table; its names lack the underscores at either end."""
    full = {(kind, name.strip("_")): (kind, name) for kind, names in PTBXL.label_sets.items() for name in names}
    columns = {"super_class": "superdiagnostic", "sub_class": "subdiagnostic", "rhythm": "rhythm", "form": "form"}
    rows = read(SHARED / "ptb-xl-metadata" / "ptbxl_folds_labels_all.csv")
    labels = [
        [full[kind, name] for column, kind in columns.items() for name in row[column].split(";") if name]
        for row in rows
    ]
    splits = [{9: "validation", 10: "test"}.get(int(row["strat_fold"]), "train") for row in rows]
    return by_split(labels, splits)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_asks_for_what_its_corpus_has(name):
    task = load(TASKS, name)
    corpus = load(CORPORA, task.corpus)
    assert task.name == name and task.metric in METRICS and task.source
    assert bool(task.labels) != bool(task.vocabulary), "outputs are listed or follow from a rule"
    names = corpus.label_sets[task.label_set]
    assert set(task.labels) <= set(names) and len(set(task.labels)) == len(task.labels)
    if task.labels and task.num_outputs:
        assert len(task.labels) == task.num_outputs
    if task.vocabulary:
        assert task.vocabulary.counted == "train", "the outputs must not be chosen by the test split"
        assert (task.num_outputs or 0) <= sum(map(task.vocabulary.allows, names))
    for label_set, required in (*task.required, *task.required_to_evaluate):
        assert not required or required in corpus.label_sets[label_set]
    if task.problem_type == "regression":
        assert task.metric == "pooled_mae" and 0 <= task.trim < 0.5
    else:
        assert not task.trim and not task.standardise


def test_every_task_of_study_a_whose_corpus_is_here_is_registered():
    expected = {
        "ningbo": ("ningbo",),
        "cpsc2018": ("cpsc2018",),
        "cpsc_extra": ("cpsc_extra",),
        "georgia": ("georgia",),
        "chapman": ("chapman", "chapman_rhythm"),
        "sph": ("sph",),
        "ptbxl": tuple(f"ptbxl_{kind}" for kind in "all diagnostic form rhythm subdiagnostic superdiagnostic".split()),
        "zzu_pecg": ("zzu_pecg",),
        "echonext": ("echonext",),
        "mimic_iv_ecg": tuple(
            f"mimic_{kind}"
            for kind in "cardiac non_cardiac deterioration mortality icu sex age biometrics ecg_features lab_values "
            "vital_signs".split()
        ),
    }
    assert sum(map(len, expected.values())) == 26
    for corpus, names in expected.items():
        assert corpus not in CORPORA or set(names) <= set(TASKS)


def test_the_questions_on_mimic_are_those_of_the_study():
    tasks = [task for task in vars(mimic_iv_ecg).values() if isinstance(task, Task)]
    assert len(tasks) == 11
    assert sum(task.num_outputs for task in tasks if task.problem_type == "regression") == 35
    cardiac, other = mimic_iv_ecg.CARDIAC.vocabulary, mimic_iv_ecg.NON_CARDIAC.vocabulary
    for code in ("I10", "I48.9", "E11", "Z951"):
        assert cardiac.allows(code) == code.startswith("I") == (not other.allows(code))
    assert sum(task.num_outputs for task in tasks if task.absent == "unknown") == 15 + 1
    for task in tasks:
        assert (task.required, task.required_to_evaluate) == (tasks[0].required, tasks[0].required_to_evaluate), (
            "one and the same records for all"
        )
        assert task.unlabelled == "drop"


@needs_data
@pytest.mark.parametrize("kind", ["superdiagnostic", "subdiagnostic", "form", "rhythm"])
def test_ptbxl_has_the_published_outputs_and_records(kind):
    task = load(TASKS, f"ptbxl_{kind}")
    table = ptbxl_table()
    found = [labelled_split(split_of(name, table[name]), task, "drop") for name in task.splits]
    assert tuple(len(split.records) for split in found) == task.num_records
    assert [split.num_dropped for split in found] == [
        len(table[name]) - len(split.records) for name, split in zip(task.splits, found, strict=True)
    ]
    positives = sum(split.targets.sum(axis=0) for split in found)
    counts = Counter(
        name for labels in table.values() for own in labels for label_set, name in own if label_set == kind
    )
    assert len(counts) == len(task.labels) == task.num_outputs
    assert positives.tolist() == [counts[name] for name in task.labels]


@needs_data
def test_ptbxl_all_and_diagnostic_have_the_published_outputs_and_records():
    table = ptbxl_table()
    every, diagnostic = load(TASKS, "ptbxl_all"), load(TASKS, "ptbxl_diagnostic")
    assert tuple(len(table[name]) for name in SPLITS) == every.num_records
    official = read(SHARED / "ptb-xl-metadata" / "ptbxl_database_official_rows.csv")
    assert len(official) == 6131
    for row in official:
        kinds = {label_set for label_set, *_ in parse_labels(row["scp_codes"])}
        assert "statement" in kinds, "a record without any statement would be dropped from ptbxl_all"
        assert ("diagnostic" in kinds) == ("superdiagnostic" in kinds), "so both tasks have the same records"
    rows = read(SHARED / "ptb-xl" / "scp_statements.csv")
    assert sorted(every.labels) == sorted(row[""] for row in rows) == sorted(STATEMENTS)
    assert sorted(diagnostic.labels) == sorted(row[""] for row in rows if row["diagnostic"] == "1.0")
    assert (len(every.labels), len(diagnostic.labels)) == (71, 44)
    assert diagnostic.num_records == load(TASKS, "ptbxl_superdiagnostic").num_records


@functools.cache
def challenge_codes():
    rows = read(CHALLENGE / "dx_mapping_scored.csv") + read(CHALLENGE / "dx_mapping_unscored.csv")
    return {row["Abbreviation"]: row["SNOMEDCTCode"] for row in rows}


@needs_data
@pytest.mark.parametrize(
    "name, tranche, cohort, names, leak_free",
    [
        ("cpsc2018", "A", "cpsc_2018", snomed.CPSC, 9),
        ("cpsc_extra", "B", "cpsc_2018_extra", snomed.CPSC_EXTRA, 31),
        ("georgia", "F", "georgia", snomed.GEORGIA, 49),
    ],
)
def test_cohorts_of_the_challenge_have_the_outputs_of_the_study(name, tranche, cohort, names, leak_free):
    rows = [row for row in read(CHALLENGE / "stats_2020_tranches.csv") if row["tranche"] == tranche]
    codes = {row["record"]: [challenge_codes()[word] for word in row["diagnosis"].split(";")] for row in rows}
    splits = deal_splits(codes, cohort)
    labels = [[("diagnosis", names[code]) for code in own] for own in codes.values()]
    task = load(TASKS, name)
    assert len(rows) == load(CORPORA, task.corpus).num_records
    assert outputs_by_rule(task, by_split(labels, [splits[record] for record in codes])) == [
        task.num_outputs,
        leak_free,
    ]


@needs_data
def test_ningbo_has_the_outputs_of_the_study():
    # no table of its records is here, only how many of them have each code, and the workbook's names of the codes
    sheet = sheet_of(SHARED / "label-mappings" / "Label mappings 2021.xlsx", "Ningbo")
    names = {"106068003": "ARH"}
    for name, code in (row[:2] for row in sheet if len(row) > 1):
        if code:
            names.setdefault(str(int(code)), str(name).strip())
    rows = read(CHALLENGE / "dx_mapping_scored.csv") + read(CHALLENGE / "dx_mapping_unscored.csv")
    counted = [(names[row["SNOMEDCTCode"]], int(row["Ningbo"])) for row in rows if int(row["Ningbo"])]
    labels = [[("diagnosis", name)] for name, count in counted for _ in range(min(count, 10))]
    task = load(TASKS, "ningbo")
    found = outputs_by_rule(task, {"train": labels[::2], "validation": labels[1::4], "test": labels[3::4]})
    assert found[0] == task.num_outputs == 68


@needs_data
def test_chapman_has_the_outputs_of_the_study():
    root = open_root(SHARED / "chapman-figshare", "Diagnostics.xlsx")
    entries = open_corpus("chapman", data_dir=SHARED / "chapman-figshare").read_index(root)
    assert len(entries) == 10_646
    table = by_split([[label[:2] for label in entry.labels] for entry in entries], [entry.split for entry in entries])
    every, rhythm = load(TASKS, "chapman"), load(TASKS, "chapman_rhythm")
    assert outputs_by_rule(every, table) == [every.num_outputs, 42]
    assert outputs_by_rule(rhythm, table) == [rhythm.num_outputs, 9]
    # a second way to the same number, past the corpus
    found = Counter()
    for _, rhythm_name, beats, *_ in sheet_of(SHARED / "chapman-figshare" / "Diagnostics.xlsx"):
        found.update({rhythm_name, *(beats.split() if beats.strip() != "NONE" else ())})
    assert sum(count >= 10 for count in found.values()) == 42


@needs_data
@pytest.mark.skipif("sph" not in CORPORA, reason="the corpus is not registered")
def test_sph_has_the_outputs_of_the_study_and_no_patient_in_two_splits():
    root = open_root(SHARED / "sph", "metadata.csv")
    entries = open_corpus("sph", data_dir=SHARED / "sph").read_index(root)
    home = {}
    for entry in entries:
        assert home.setdefault(entry.patient_id, entry.split) == entry.split
    assert len(entries) == 25_770 and len(home) == 24_666
    labels = [[label[:2] for label in entry.labels] for entry in entries]
    task = load(TASKS, "sph")
    assert outputs_by_rule(task, by_split(labels, [entry.split for entry in entries])) == [task.num_outputs, 33]
    # a second way to the same number, past the corpus
    rows = read(SHARED / "sph" / "metadata.csv")
    counts = Counter(code for row in rows for code in {text.split("+")[0] for text in row["AHA_Code"].split(";")})
    assert sum(count >= 10 for count in counts.values()) == task.num_outputs == 35


def test_the_table_says_what_sources_say_and_nothing_else():
    facts = SimpleNamespace(access="open", num_records=6877, num_patients=None)
    task = Task("ruled", "synthetic", "finding", unlabelled="zero", num_outputs=9, min_duration_s=10.0)
    assert describe(task, facts) == ("ruled", "synthetic", "9", "<= 6,877", "?", "open")
    assert describe(replace(task, min_duration_s=0.0), facts)[3] == "6,877"
    assert describe(replace(task, unlabelled="drop", min_duration_s=0.0), facts)[3] == "<= 6,877"
    unknown = SimpleNamespace(access="open", num_records=None, num_patients=None)
    assert describe(replace(task, num_outputs=None), unknown)[2:] == ("?", "?", "?", "open")
    assert describe(replace(task, num_records=(17_418, 2183, 2198)), facts)[3] == "17,418 / 2,183 / 2,198"
    assert make_table([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d\n"


def test_the_command_lists_every_task(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ecg_hf.tasks.__main__")
    runpy.run_module("ecg_hf.tasks", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["task", "corpus", "outputs", "records", "patients", "access"]
    assert [line.split()[0] for line in lines[1 : len(TASKS) + 1]] == list(TASKS)
