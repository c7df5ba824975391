import ast
import csv
import logging
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

from ecg_hf.corpora import base as corpus_module
from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.loading import load_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.ptbxl import (
    COLUMNS,
    PTBXL,
    STATEMENTS,
    check_statements,
    parse_entry,
    parse_labels,
    record_path,
)
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.registry import TASKS, load, register_corpora
from ecg_hf.signals.record import LEADS, LIMB_LEADS
from ecg_hf.signals.row import row_to_signal
from file_server import serve
from places import SHARED

real = pytest.mark.skipif(not (SHARED / "ptb-xl").is_dir(), reason="no real data here")
TABLES = {"superdiagnostic": "super_class", "subdiagnostic": "sub_class", "form": "form", "rhythm": "rhythm"}
SIZES = {
    "ptbxl_all": 71,
    "ptbxl_diagnostic": 44,
    "ptbxl_form": 19,
    "ptbxl_rhythm": 12,
    "ptbxl_subdiagnostic": 23,
    "ptbxl_superdiagnostic": 5,
}
SLUG = "ptb-xl-a-large-publicly-available-electrocardiography-dataset-1.0.3/"


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    register_corpora()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("ptbxl") / "physionet.org/files/ptb-xl/1.0.3"
    PTBXL.write_example(folder, 40)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, config="100hz", **options):
    return PTBXL(config_name=config, data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rewrite(path, *replacements):
    text = path.read_text(encoding="utf-8")
    for old, new in replacements:
        assert text.count(old) >= 1
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")


def rows_of(name):
    with (SHARED / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names_of(entry, label_set):
    return {name for kind, name, _ in entry.labels if kind == label_set}


# labels


def test_each_task_asks_for_its_labels_in_alphabetical_order():
    tasks = {name: load(TASKS, name) for name in SIZES}
    assert {name: len(task.labels) for name, task in tasks.items()} == SIZES
    for name, task in tasks.items():
        assert (task.name, task.corpus) == (name, "ptbxl") and list(task.labels) == sorted(task.labels)
        assert task.labels == PTBXL.label_sets[task.label_set]
    assert tasks["ptbxl_superdiagnostic"].labels == ("CD", "HYP", "MI", "NORM", "STTC")
    assert set(tasks["ptbxl_all"].labels) == set(STATEMENTS)


@real
def test_the_table_of_statements_is_the_official_one():
    check_statements((SHARED / "ptb-xl/scp_statements.csv").read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        ("IMI,1.0,,,MI,IMI", "IMI,1.0,,,MI,AMI"),
        ("IMI,1.0,,,MI,IMI", "IMI,1.0,,,STTC,IMI"),
        ("SR,,,1.0", "SR,,1.0,"),
        ("SR,,,1.0,,\n", ""),
        ("SR,,,1.0,,\n", "SR,,,1.0,,\nNEW,,,1.0,,\n"),
        ("NDT,1.0,1.0", "NDT,1.0,"),
    ],
)
def test_a_changed_table_of_statements_is_refused(change, example):
    rewrite(example / "scp_statements.csv", change)
    with pytest.raises(EcgIntegrityError, match=r"scp_statements\.csv says .* expected .*; download version 1\.0\.3"):
        build(example)


def test_all_that_follows_from_a_statement_is_a_label_and_its_likelihood_is_kept():
    assert parse_labels("{'NDT': 50.0, 'IMI': 0, 'SR': 0.0}") == (
        ("statement", "NDT", 50.0),
        ("statement", "IMI", 0.0),
        ("statement", "SR", 0.0),
        ("diagnostic", "IMI", 1.0),
        ("diagnostic", "NDT", 1.0),
        ("form", "NDT", 1.0),
        ("rhythm", "SR", 1.0),
        ("subdiagnostic", "IMI", 1.0),
        ("subdiagnostic", "STTC", 1.0),
        ("superdiagnostic", "MI", 1.0),
        ("superdiagnostic", "STTC", 1.0),
    )
    assert parse_labels("{}") == ()
    twice = parse_labels("{'IMI': 100.0, 'AMI': 35.0, 'ILMI': 15.0}")
    assert Counter(kind for kind, *_ in twice) == {
        "statement": 3,
        "diagnostic": 3,
        "subdiagnostic": 2,
        "superdiagnostic": 1,
    }


CODES = [
    "__import__('os').system('touch hacked')",
    "{'NORM': __import__('os').getpid()}",
    "{'NORM': 1 + 1}",
    "{'NORM': nan}",
    "{'NORM': 1e999}",
    "{'NORM': -1.0}",
    "{'NORM': 100.1}",
    "{'NORM': True}",
    "{'NORM': '100'}",
    "{'NORM': None}",
    "{'NORM': [1]}",
    "{'NORM': 1j}",
    "{'norm': 100.0}",
    "{'NEW': 100.0}",
    "{1: 100.0}",
    "{b'NORM': 100.0}",
    "{'NORM': 0.0, 'NORM': 100.0}",
    "['NORM']",
    "('NORM',)",
    "{'NORM'}",
    "'NORM'",
    "NORM",
    "",
    "  ",
    "{",
    "{'NORM': 100.0",
    "{'NORM': 100.0}; import os",
    "{'NORM': 100.0}\n{'SR': 0.0}",
    "{**{'NORM': 100.0}}",
    "{'NORM': 100.0 for i in [1]}",
    "{f'NORM': 100.0}",
    "{'\\x4eORM': 100.0}",
    "{'NO\\RM': 100.0}",
    "{'NORM': 100.0}\0",
    "(" * 4000,
    "[" * 90 + "]" * 90,
    "-" * 4000 + "1",
    "{'NORM': " + "-" * 4000 + "1}",
    "{'NORM': " + "9" * 5000 + "}",
    "{'NORM': 1}" + " " * 5000,
    "{'NORM': lambda: 1}",
    "{'NORM' 'SR': 1.0}",
    "{('NORM',): 1.0}",
    "{['NORM']: 1.0}",
    "{'NORM': ...}",
]


@pytest.mark.parametrize("text", CODES, ids=range(len(CODES)))
def test_codes_that_are_no_dict_of_known_statements_are_refused_and_never_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EcgFormatError):
        parse_labels(text)
    assert list(tmp_path.iterdir()) == []


# the index

ROW = {
    "ecg_id": "7",
    "patient_id": "15709.0",
    "age": "56.0",
    "sex": "1",
    "device": "CS-12   E ",
    "report": " sinus, ok ",
    "scp_codes": "{'NORM': 100.0}",
    "strat_fold": "9",
    "filename_hr": "records500/00000/00007_hr",
}


def parse_age(age):
    entry = parse_entry(ROW | {"age": age}, "500hz")
    return entry.age, entry.age_over_89


def test_a_row_of_the_database_is_read_as_it_is_meant():
    entry = parse_entry(ROW, "500hz")
    assert (entry.record_id, entry.patient_id, entry.split) == ("7", "15709", "validation")
    assert (entry.age, entry.age_over_89, entry.sex) == (56.0, False, "female")
    assert (entry.device, entry.report, entry.path) == ("CS-12   E", "sinus, ok", "records500/00000/00007_hr")
    assert parse_entry(ROW | {"sex": "0"}, "500hz").sex == "male"
    for age, expected in {"": (None, False), "nan": (None, False), "0.0": (0.0, False), "89": (89.0, False)}.items():
        assert parse_age(age) == expected
    for age in ("300.0", "90.0", "94"):
        assert parse_age(age) == (None, True)
    blank = parse_entry(ROW | {"sex": "", "device": "", "report": ""}, "500hz")
    assert (blank.sex, blank.device, blank.report) == (None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"ecg_id": ""},
        {"ecg_id": "7.5"},
        {"ecg_id": "1_0"},
        {"ecg_id": "-7"},
        {"ecg_id": "x"},
        {"patient_id": ""},
        {"patient_id": "nan"},
        {"patient_id": "inf"},
        {"patient_id": "15709.5"},
        {"age": "299"},
        {"age": "-1"},
        {"age": "301.0"},
        {"age": "5 6"},
        {"sex": "2"},
        {"sex": "female"},
        {"strat_fold": "0"},
        {"strat_fold": "11"},
        {"strat_fold": ""},
        {"scp_codes": "{'X': 1}"},
    ],
)
def test_a_field_without_a_meaning_is_refused_and_its_row_named(change):
    with pytest.raises(EcgFormatError, match=rf"row '{(ROW | change)['ecg_id']}' of ptbxl_database\.csv: "):
        parse_entry(ROW | change, "500hz")


PATHS = [
    "../00007_hr",
    "/etc/passwd",
    "records500/00000/00008_hr",
    "records100/00000/00007_lr",
    "records500/00000/00007_lr",
    "records500/00000/00007_hr.dat",
    "records500//00007_hr",
    "",
    "C:/00007_hr",
    "records500\\00000\\00007_hr",
    "http://host/00007_hr",
    "records500/00000/00007_hr\0",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_file_name_that_is_not_that_of_the_record_is_refused(path):
    with pytest.raises(EcgIntegrityError, match="record 7 should be in records500/00000/00007_hr, got"):
        parse_entry(ROW | {"filename_hr": path}, "500hz")


def test_one_patient_in_two_folds_is_found(example):
    text = (example / "ptbxl_database.csv").read_text(encoding="utf-8")
    row = {line["ecg_id"]: line for line in csv.DictReader(text.splitlines())}
    a, b = row["1"], row["20"]
    assert {a["strat_fold"], b["strat_fold"]} == {"1", "10"}
    rewrite(example / "ptbxl_database.csv", (f"\n20,{b['patient_id']},", f"\n20,{a['patient_id']},"))
    message = rf"patient {int(float(a['patient_id']))} is in split train and, with record 20, in test"
    with pytest.raises(EcgIntegrityError, match=message):
        datasets.load_dataset(
            "ecg_hf/ptbxl", data_dir=str(example), cache_dir=str(example.parent / "c"), streaming=True
        )


def test_an_older_version_with_more_records_is_refused(example, monkeypatch):
    monkeypatch.setattr("ecg_hf.corpora.sources.ptbxl.NUM_RECORDS", 39)
    with pytest.raises(EcgIntegrityError, match=r"has 40 records, expected at most the 39 of version 1\.0\.3"):
        build(example)


@pytest.mark.parametrize("change", [b"\xef\xbb\xbf", b"crlf"])
def test_a_byte_order_mark_or_other_line_ends_change_nothing(change, example):
    before = build(example).fingerprint
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        data = (example / name).read_bytes()
        (example / name).write_bytes(data.replace(b"\n", b"\r\n") if change == b"crlf" else change + data)
    assert build(example).fingerprint == before


@pytest.fixture(scope="module")
def all_ids(tmp_path_factory):
    """An index of all 21,799 ids: the statements of form and rhythm are the true ones, others stand for a subclass."""
    of_subclass = {
        dict(pairs)["subdiagnostic"].strip("_"): code
        for code, pairs in STATEMENTS.items()
        if "subdiagnostic" in dict(pairs) and "form" not in dict(pairs)
    }
    by_name = {code.strip("_"): code for code in PTBXL.label_sets["form"] + PTBXL.label_sets["rhythm"]}
    rows = rows_of("ptb-xl-metadata/ptbxl_folds_labels_all.csv")
    folder = tmp_path_factory.mktemp("all")
    shutil.copy(SHARED / "ptb-xl/scp_statements.csv", folder)
    for row in rows:
        row["names"] = {
            key: {name for name in row[key].split(";") if name}
            for key in ("super_class", "sub_class", "form", "rhythm")
        }
        codes = {by_name[name]: 0.0 for name in row["names"]["form"] | row["names"]["rhythm"]}
        row["scp_codes"] = str(
            codes | {of_subclass[name]: 80.0 for name in row["names"]["sub_class"] if name in of_subclass}
        )
    write_table(
        folder / "ptbxl_database.csv", COLUMNS, ({key: row[key] for key in COLUMNS if key in row} for row in rows)
    )
    return rows, FolderRoot(folder)


@real
def test_the_whole_corpus_has_the_published_counts(all_ids, tmp_path):
    rows, root = all_ids
    entries = PTBXL(config_name="500hz", cache_dir=tmp_path).read_index(root)
    corpus_module.check_index(entries, PTBXL.label_sets, patient_level=True)
    assert len(entries) == 21_799 and len({entry.patient_id for entry in entries}) == 18_869
    assert Counter(int(row["strat_fold"]) for row in rows) == dict(
        enumerate((2175, 2181, 2192, 2174, 2174, 2173, 2176, 2173, 2183, 2198), 1)
    )
    assert Counter(entry.split for entry in entries) == {"train": 17_418, "validation": 2_183, "test": 2_198}
    for label_set, counts in {
        "superdiagnostic": {"train": 17_084, "validation": 2_146, "test": 2_158},
        "form": {"train": 7_197, "validation": 901, "test": 880},
        "rhythm": {"train": 16_832, "validation": 2_100, "test": 2_098},
    }.items():
        assert Counter(entry.split for entry in entries if names_of(entry, label_set)) == counts, label_set
    superclasses = Counter(name for entry in entries for name in names_of(entry, "superdiagnostic"))
    assert superclasses == {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}


@real
def test_every_record_is_in_the_fold_and_superclass_that_an_independent_table_says(all_ids, tmp_path):
    rows, root = all_ids
    entries = PTBXL(config_name="100hz", cache_dir=tmp_path).read_index(root)
    for row, entry in zip(rows, entries, strict=True):
        split = {9: "validation", 10: "test"}.get(int(row["strat_fold"]), "train")
        assert (entry.record_id, entry.split, entry.patient_id) == (row["ecg_id"], split, row["patient_id"])
        for label_set, column in (("superdiagnostic", "super_class"), ("subdiagnostic", "sub_class")):
            assert {name.strip("_") for name in names_of(entry, label_set)} == row["names"][column]


@real
def test_every_official_row_is_read_and_agrees_with_an_independent_table(all_ids):
    rows = rows_of("ptb-xl-metadata/ptbxl_database_official_rows.csv")
    entries = {entry.record_id: entry for entry in (parse_entry(row, "500hz") for row in rows)}
    assert len(entries) == len(rows) == 6_131
    others = {row["ecg_id"]: row for row in all_ids[0]}
    differ = set()
    for number, entry in entries.items():
        assert entry.patient_id == others[number]["patient_id"]
        for label_set, column in TABLES.items():
            if {name.strip("_") for name in names_of(entry, label_set)} != others[number]["names"][column]:
                differ.add(number)
    assert differ == {"1371", "3796", "3802", "9822"}  # rows of version 1.0.1 among the official ones


# signals and ways in


def test_the_example_looks_like_the_official_corpus(official):
    assert (official / "ptbxl_database.csv").read_text().splitlines()[0].count(",") == 27
    header = (official / "records500/00000/00001_hr.hea").read_text().splitlines()
    assert header[0] == "00001_hr 12 500 5000" and header[4].startswith("00001_hr.dat 16 1000.0(0)/mV 16 0 ")
    assert [line.split()[-1] for line in header[1:]] == [lead.upper() for lead in LEADS]


@pytest.mark.parametrize(("config", "rate"), [("100hz", 100), ("500hz", 500), (None, 500)])
def test_a_record_is_ten_seconds_of_twelve_leads_that_obey_einthoven(config, rate, official, tmp_path):
    row = next(iter(load_corpus("ptbxl", config, official, "train", streaming=True, cache_dir=tmp_path)))
    signal = row_to_signal(row)
    assert signal.shape == (12, 10 * rate) and row["sampling_rate"] == rate and row["leads"] == list(LEADS)
    np.testing.assert_allclose(signal[:6], LIMB_LEADS @ signal[:2], atol=1.6e-3)
    stored = np.fromfile(official / f"{record_path(1, f'{rate}hz')}.dat", "<i2").reshape(-1, 12)
    np.testing.assert_array_equal(signal, (stored.T / 1000).astype(np.float32))


@pytest.fixture(params=["folder", "parent", "zip", "server"])
def place(request, official, tmp_path):
    top = official.parents[3]
    match request.param:
        case "folder":
            yield str(official)
        case "parent":
            (top / "index.html").write_text("<html>")
            (official / "index.html").write_text("<html>")
            yield str(top)
        case "zip":
            with zipfile.ZipFile(tmp_path / "ptb-xl.zip", "w") as archive:
                for path in official.rglob("*.*"):
                    archive.write(path, SLUG + path.relative_to(official).as_posix())
            yield str(tmp_path / "ptb-xl.zip")
        case "server":
            with serve(official) as (url, _):
                yield url


def test_every_way_in_gives_the_same_rows(place, official, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "SHARD_SIZE", 8)
    expected = list(build(official).as_streaming_dataset("train"))
    assert len(expected) == 32 and expected[0]["record_id"] == "1"
    options = {"data_dir": place, "split": "train", "cache_dir": str(tmp_path / "cache")}
    stream = datasets.load_dataset("ecg_hf/ptbxl", "100hz", streaming=True, **options)
    whole = datasets.load_dataset("ecg_hf/ptbxl", "100hz", num_proc=2, **options)
    assert list(stream) == list(whole) == list(load_corpus("ptbxl", "100hz", **options)) == expected
    loader = DataLoader(stream, batch_size=4, num_workers=2, collate_fn=list)
    assert sorted(int(row["record_id"]) for batch in loader for row in batch) == [
        int(row["record_id"]) for row in expected
    ]


@real
@pytest.mark.parametrize("config", ["100hz", "500hz"])
def test_the_signal_of_real_records_is_what_wfdb_reads(config, tmp_path):
    wfdb = pytest.importorskip("wfdb")
    rows = load_corpus("ptbxl", config, SHARED / "ptb-xl", "test", streaming=True, cache_dir=tmp_path)
    rows = list(rows.take(12))
    for row in rows:
        path = SHARED / "ptb-xl" / record_path(int(row["record_id"]), config)
        read = wfdb.rdrecord(str(path))
        assert [name.upper() for name in row["leads"]] == read.sig_name
        np.testing.assert_array_equal(row_to_signal(row), read.p_signal.T.astype(np.float32))


@real
def test_the_real_subset_is_loaded_whole(tmp_path):
    splits = load_corpus("ptbxl", "100hz", SHARED / "ptb-xl", num_proc=2, cache_dir=tmp_path)
    assert {name: len(split) for name, split in splits.items()} == {"train": 301, "validation": 72, "test": 57}
    official = {row["ecg_id"]: row for row in rows_of("ptb-xl/ptbxl_database.csv")}
    for split in splits.values():
        for row in split.remove_columns("signal"):
            said = {label["name"]: label["value"] for label in row["labels"] if label["set"] == "statement"}
            assert said == ast.literal_eval(official[row["record_id"]]["scp_codes"])


def test_missing_records_are_left_out_of_a_served_corpus_if_allowed(example, caplog):
    for number in (3, 30):
        (example / f"{record_path(number, '100hz')}.dat").unlink()
    with serve(example) as (url, _), caplog.at_level(logging.WARNING, "ecg_hf.corpora.base"):
        options = {"data_dir": url, "streaming": True, "cache_dir": example.parent / "c"}
        rows = list(load_corpus("ptbxl", "100hz", split="train", allow_missing=True, **options))
        assert len(rows) == 30 and {"3", "30"} & {row["record_id"] for row in rows} == set()
        assert "left out record 3:" in caplog.text and "left out record 30:" in caplog.text
        with pytest.raises(MissingFileError, match=r"00003_lr\.dat is missing"):
            list(load_corpus("ptbxl", "100hz", split="train", **options))


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_missing_files_are_counted(share, example):
    files = sorted(example.glob("records100/*/*.hea"))[: max(1, round(40 * share))]
    for path in files:
        path.unlink()
    assert build(example, "500hz").as_streaming_dataset()
    with pytest.raises(
        MissingFileError, match=rf"^{len(files)} records of .* lack files, such as .'records100/00000/00001_lr"
    ):
        build(example).as_streaming_dataset()
    kept = build(example, allow_missing=True).as_streaming_dataset()
    assert sum(1 for split in kept.values() for _ in split) == 40 - len(files)


HEADER = "records100/00000/00001_lr.hea"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("12 100 1000", "12 500 1000", EcgIntegrityError),
        ("1000.0(0)/mV", "200.0(0)/mV", EcgUnitsError),
        ("1000.0(0)/mV", "1000.0(0)/uV", EcgUnitsError),
        ("1000.0(0)/mV", "1000.0(10)/mV", EcgUnitsError),
        ("AVR", "AVL", EcgLeadError),
        ("00001_lr 12", "00002_lr 12", EcgError),
        ("00001_lr.dat", "00002_lr.dat", EcgError),
        ("00001_lr.dat", "../00000/00002_lr.dat", EcgError),
    ],
)
def test_a_header_that_says_otherwise_than_the_corpus_is_refused(old, new, error, example):
    rewrite(example / HEADER, (old, new))
    with pytest.raises(error, match="record 1 of "):
        list(build(example).as_streaming_dataset("train"))


def test_the_files_of_another_record_under_this_name_are_refused(example):
    other = example / record_path(2, "100hz")
    for suffix in (".hea", ".dat"):
        shutil.copy(f"{other}{suffix}", example / HEADER.replace(".hea", suffix))
    with pytest.raises(EcgError, match="record 1 of "):
        list(build(example).as_streaming_dataset("train"))
    header = (example / HEADER).read_text().replace("00002_lr", "00001_lr").replace("00001_lr.dat", "00002_lr.dat")
    (example / HEADER).write_text(header)
    with pytest.raises(EcgIntegrityError, match=r"names \('00002_lr\.dat',\), expected 00001_lr\.dat"):
        list(build(example).as_streaming_dataset("train"))


@pytest.mark.parametrize("damage", ["flip", "cut", "page", "empty"])
def test_a_damaged_signal_file_is_refused(damage, example):
    path = example / HEADER.replace(".hea", ".dat")
    data = bytearray(path.read_bytes())
    data[5000] ^= 0x40
    path.write_bytes({"flip": data, "cut": data[:-24], "page": b"<html>403</html>", "empty": b""}[damage])
    with pytest.raises(EcgError, match="record 1 of "):
        list(build(example).as_streaming_dataset("train"))


def test_an_unknown_config_and_a_missing_place_are_refused(official, tmp_path):
    with pytest.raises(ValueError, match=r"'250hz' not found\. Available: \['500hz', '100hz'\]"):
        datasets.load_dataset("ecg_hf/ptbxl", "250hz", data_dir=str(official), cache_dir=str(tmp_path))
    for streaming in (True, False):
        with pytest.raises(EcgAccessError, match=r"not downloaded for you .*physionet\.org.*; pass data_dir="):
            datasets.load_dataset("ecg_hf/ptbxl", cache_dir=str(tmp_path), streaming=streaming)
    with pytest.raises(EcgAccessError, match=r"holds no ptbxl_database\.csv; set data_dir"):
        datasets.load_dataset("ecg_hf/ptbxl", data_dir=str(official / "records500"), cache_dir=str(tmp_path))
