"""Verifying a corpus on disk: what is wrong is found, named and makes the command fail; what is right passes."""

import csv
import hashlib
import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest

from ecg_hf.corpora.examples import example_samples
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.verification.checksums import Checksums, check_files, parse_list
from ecg_hf.corpora.verification.ledger import LedgerEntry, find_pairs, read_ledger, write_ledger
from ecg_hf.corpora.verification.report import render_report
from ecg_hf.corpora.verification.verify import Report, Source, judge, read_record, read_records, start_report
from ecg_hf.errors import EcgAccessError, EcgFormatError
from ecg_hf.registry import CORPORA, load
from ecg_hf.signals.fingerprint import fingerprint
from ecg_hf.signals.record import LEADS
from places import ROOT, SHARED


@pytest.fixture
def tree(tmp_path):
    """A PTB-XL tree of 30 records with its checksums."""
    folder = tmp_path / "ptbxl"
    load(CORPORA, "ptbxl").write_example(folder, num_records=30)
    write_sums(folder)
    return folder


def write_sums(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS.txt")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(folder)}" for path in files]
    (folder / "SHA256SUMS.txt").write_text("\n".join(lines) + "\n")


def run(monkeypatch, capsys, name, root, *flags):
    """Runs verify.py in this process; gives its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["verify.py", name, str(root), *map(str, flags)])
    monkeypatch.setattr("ecg_hf.corpora.verification.verify.read_records", read_here)
    with pytest.raises(SystemExit) as exit_code:
        runpy.run_path(str(ROOT / "dataset_scripts/verify.py"), run_name="__main__")
    captured = capsys.readouterr()
    return exit_code.value.code, captured.out + captured.err


def read_here(source, entries, num_workers):
    corpus = source.open()
    return (read_record(corpus, entry) for entry in entries)


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_whole_part_of_a_corpus_passes(tree, tmp_path, monkeypatch, capsys):
    code, text = run(monkeypatch, capsys, "ptbxl", tree, "--allow_missing", "--report", tmp_path / "out")
    report = report_of(tmp_path / "out")
    assert code == 0 and "**passed**" in text and report["passed"]
    assert sum(split["num_records"] for split in report["splits"].values()) == 30
    assert report["checksums"]["num_files"] == len([path for path in tree.rglob("*") if path.is_file()]) - 1
    assert (tmp_path / "out/report.md").read_text() in text


def test_a_part_of_a_corpus_fails_unless_it_was_meant(tree, monkeypatch, capsys):
    code, text = run(monkeypatch, capsys, "ptbxl", tree)
    assert code == 1 and "30 records, 21799 were published" in text


def test_every_changed_byte_is_found(tree, tmp_path):
    rng = np.random.default_rng(0)
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and path.name != "SHA256SUMS.txt"]
    for _ in range(40):
        path = files[rng.integers(len(files))]
        data = bytearray(path.read_bytes())
        place = rng.integers(len(data))
        data[place] ^= 1 << rng.integers(8)
        original = path.read_bytes()
        path.write_bytes(data)
        *_, (_, state) = check_files(FolderRoot(tree))
        assert list(state.changed) == [str(path.relative_to(tree))]
        path.write_bytes(original)


def test_a_web_page_and_a_missing_file_are_named(tree, tmp_path, monkeypatch, capsys):
    waves = sorted(tree.rglob("records500/**/*.dat"))
    waves[0].write_text("<!DOCTYPE html><html>429 too many requests</html>")
    waves[1].unlink()
    code, text = run(monkeypatch, capsys, "ptbxl", tree, "--allow_missing", "--report", tmp_path / "out")
    report = report_of(tmp_path / "out")
    assert code == 1 and "1 files differ from their published SHA-256" in report["failures"]
    assert report["checksums"]["changed"][str(waves[0].relative_to(tree))] == "a web page saved under its name"
    assert report["checksums"]["missing"] == [str(waves[1].relative_to(tree))]
    assert report["missing"] == [str(waves[1].with_suffix(".dat").relative_to(tree))]
    assert "1 records cannot be read" in report["failures"] and "is a web page" in str(report["unreadable"])
    code, text = run(monkeypatch, capsys, "ptbxl", tree)
    assert code == 1 and "files of records are missing" in text


def test_a_record_that_cannot_be_read_is_left_out_of_a_build_by_its_report(tree, tmp_path, monkeypatch, capsys):
    victim = sorted(tree.rglob("records500/**/*.dat"))[0]
    victim.write_bytes(victim.read_bytes()[:-2])
    assert run(monkeypatch, capsys, "ptbxl", tree, "--allow_missing", "--report", tmp_path / "out")[0] == 1
    unreadable = report_of(tmp_path / "out")["unreadable"]
    assert len(unreadable) == 1 and next(iter(unreadable.values())).startswith("Ecg")
    command = ["build.py", "ptbxl", str(tree), str(tmp_path / "built"), "--exclude", str(tmp_path / "out/report.json")]
    monkeypatch.setattr(sys, "argv", [*command, "--shard", "0"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "dataset_scripts/build.py"), run_name="__main__")
    assert ended.value.code == 0
    assert len(list((tmp_path / "built").rglob("*.parquet"))) == 3


def test_a_corpus_whose_index_leaks_a_patient_cannot_be_read(tree, monkeypatch, capsys):
    path = tree / "ptbxl_database.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    train = next(row for row in rows if int(row["strat_fold"]) < 9)
    next(row for row in rows if row["strat_fold"] == "10")["patient_id"] = train["patient_id"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    code, text = run(monkeypatch, capsys, "ptbxl", tree)
    assert code == 2 and "splits must be disjoint by patient" in text


def test_what_is_a_failure_and_what_is_only_to_be_known():
    def failures(allow_missing=False, num_suspect=0, unit="mV", published=10, num_patients=None, **found):
        report = Report({"unit": unit}, {"num_records": published, "num_patients": num_patients})
        report.splits = {"train": {"num_records": 10, "num_patients": 10}}
        report.num_suspect["units"] = num_suspect
        report.num_suspect["spike"] = 10
        vars(report).update(found)
        judge(report, [], allow_missing=allow_missing)
        return report.failures

    assert failures() == []
    assert failures(missing=["a.dat"]) == ["1 files of records are missing"] and not failures(True, missing=["a.dat"])
    assert failures(published=9, allow_missing=True) == ["10 records, 9 were published"]
    assert failures(published=None) == []
    assert failures(num_patients=12) == ["10 patients, 12 were published"]
    assert failures(checksums=Checksums("SHA256SUMS.txt")) == ["SHA256SUMS.txt lists no file"]
    assert failures(num_suspect=6) == ["the amplitude of 6 of 10 records is not that of an ECG in mV"]
    assert not failures(num_suspect=5) and not failures(num_suspect=10, unit="z-score")
    assert failures(unreadable={"a": "torn"}, allow_missing=True) == ["1 records cannot be read"]


def entry(corpus, record, split="train", seed=None, **more):
    mark = None
    if seed is not None:
        mark = fingerprint(example_samples(seed) / np.float32(1000), LEADS, 500)
    return LedgerEntry(corpus, record, more.get("name", f"{corpus}:{record}"), split, "p", mark)


def test_copies_are_found_by_name_and_by_waveform_and_a_leak_is_said():
    entries = [
        entry("a", "1", seed=1),
        entry("a", "2", seed=2),
        entry("b", "x", "test", seed=2),
        entry("b", "y", name="a:1"),
        entry("c", "z", "test", seed=3, name="a:1"),
    ]
    pairs = {(pair.first.record_id, pair.second.record_id): pair for pair in find_pairs(entries)}
    assert {names: pair.leaks for names, pair in pairs.items()} == {
        ("1", "y"): False,
        ("1", "z"): True,
        ("y", "z"): True,
        ("2", "x"): True,
    }
    assert pairs["1", "y"].similarity is None and pairs["2", "x"].similarity == pytest.approx(1)
    assert not replace(pairs["2", "x"], second=entries[1]).leaks


def test_a_ledger_comes_back_as_it_was(tmp_path):
    entries = [entry("a", str(index), seed=index if index % 2 else None) for index in range(5)]
    write_ledger(tmp_path / "new/ledger.parquet", entries)
    assert list(read_ledger(tmp_path / "new/ledger.parquet")) == entries
    (tmp_path / "other").write_bytes(b"no ledger")
    with pytest.raises(EcgFormatError, match=r"is not a ledger .*; write it again with verify.py --ledger"):
        list(read_ledger(tmp_path / "other"))
    with pytest.raises(EcgAccessError, match="cannot be read"):
        list(read_ledger(tmp_path / "nothing"))


def test_a_ledger_that_is_not_there_is_said_before_anything_is_read(tree, monkeypatch, capsys):
    code, text = run(monkeypatch, capsys, "ptbxl", tree, "--against", "nothing.parquet")
    assert code == 2 and "nothing.parquet cannot be read" in text


def test_a_cohort_of_the_challenge_is_measured_by_itself():
    for config, number in (("georgia", 10_344), ("all", 88_253)):
        assert load(CORPORA, "challenge2021")(config_name=config).published == (number, None)


def test_a_record_of_one_sample_is_unreadable(tree):
    corpus = Source("ptbxl", str(tree)).open()
    entry = corpus.entries()["train"][0]
    short = replace(corpus.read(entry), samples=corpus.read(entry).samples[:, :1])
    corpus.read = lambda entry: short
    assert read_record(corpus, entry).error == "EcgFormatError: expected at least 2 samples, got 1; leave it out"


def test_a_list_of_checksums_is_read_strictly():
    digest = "0" * 64
    assert parse_list(f"{digest} *./a b.csv\r\n\n{digest.upper()}  c".encode(), "S") == {"a b.csv": digest, "c": digest}
    with pytest.raises(EcgFormatError, match=r"S, line 1: expected a SHA-256 and a path, got 'abc a.csv'"):
        parse_list(b"abc a.csv", "S")


def test_two_processes_find_what_one_finds(tree):
    source = Source("ptbxl", str(tree))
    _, entries = start_report(source.open())
    here = sorted(read_here(source, entries, 1), key=lambda finding: finding.entry.record_id)
    there = sorted(read_records(source, entries, 2), key=lambda finding: finding.entry.record_id)
    assert here == there and len(here) == 30


def test_a_report_shows_what_must_be_mended_first():
    report = Report(
        {"name": "x", "config": "y", "data_version": "1", "unit": "mV"}, {"num_records": None, "num_patients": None}
    )
    report.failures, report.unreadable = ["something"], {str(index): "torn\nin two" for index in range(12)}
    text = render_report(report)
    assert text.index("What must be repaired") < text.index("| split |") < text.index("cannot be read (12)")
    assert "- and 2 more, see report.json" in text and "torn in two" in text


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data")
def test_ptbxl_inside_the_challenge_and_chapman_under_three_names_are_found(tmp_path, monkeypatch, capsys):
    ledgers, pairs = {}, {}
    for name, folder, flags in [
        ("chapman", "chapman-figshare", []),
        ("ecg_arrhythmia", "ecg-arrhythmia", []),
        ("challenge2021", "challenge-2021", []),
        ("ptbxl", "ptb-xl", ["--config", "500hz"]),
    ]:
        ledgers[name] = tmp_path / f"{name}.parquet"
        against = ["--against", *(path for key, path in ledgers.items() if key != name)]
        flags = [*flags, "--ledger", ledgers[name], "--report", tmp_path / name, *against]
        run(monkeypatch, capsys, name, SHARED / folder, "--allow_missing", *flags)
        found = [pair["records"] for pair in report_of(tmp_path / name)["duplicates"]]
        pairs[name] = {tuple(sorted(f"{one['corpus']} {one['record_id']}" for one in pair)) for pair in found}
    assert {("challenge2021 HR00001", "ptbxl 1"), ("challenge2021 HR00010", "ptbxl 10")} <= pairs["ptbxl"]
    assert ("challenge2021 JS00001", "ecg_arrhythmia JS00001") in pairs["challenge2021"]
    assert ("chapman MUSE_20180113_171327_27000", "ecg_arrhythmia JS00001") in pairs["ecg_arrhythmia"]
    # Copies inside corpora, to the last sample
    assert ("challenge2021 E07509", "challenge2021 E07510") in pairs["challenge2021"]
    assert ("ptbxl 145", "ptbxl 463") in pairs["ptbxl"]
