import shutil
import warnings
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from ecg_hf.corpora.index import check_index
from ecg_hf.corpora.loading import load_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.ptb import FIELDS, PTB, REASONS, parse_labels, parse_path, parse_summary
from ecg_hf.errors import EcgFormatError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.registry import register_corpora
from ecg_hf.signals.record import FRANK_LEADS, LEADS, LIMB_LEADS
from ecg_hf.signals.row import row_to_signal
from file_server import serve
from places import SHARED

with warnings.catch_warnings():  # wfdb 4.3.1 asks pandas 3.1 for what pandas 4 will not have
    warnings.simplefilter("ignore")
    import wfdb

SAMPLES = SHARED / "ptbdb"
real = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real data here")
SUMMARY = {"age": "81", "sex": "female"} | dict.fromkeys(FIELDS.values(), "n/a")


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    register_corpora()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ptb") / "physionet.org/files/ptbdb/1.0.0"
    PTB.write_example(folder, 12)
    return folder


@pytest.fixture
def example(official, tmp_path):
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, **options):
    return PTB(data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rows_of(folder, tmp_path):
    splits = load_corpus("ptb", data_dir=folder, streaming=True, cache_dir=tmp_path / "cache")
    return {row["record_id"]: row for split in splits.values() for row in split}


def comment_lines(**changes):
    said = {key: changes.get(key.split(" ")[0], value) for key, value in SUMMARY.items()}
    return "\n".join(f"# {key}: {value}" for key, value in said.items()).encode()


# real records


@real
def test_real_records_are_read_as_wfdb_reads_them(tmp_path):
    rows = rows_of(SAMPLES, tmp_path)
    assert {name: row["num_samples"] for name, row in rows.items()} == {"s0010_re": 38_400, "s0014lre": 115_200}
    for name, row in rows.items():
        other = wfdb.rdrecord(str(SAMPLES / "patient001" / name))
        assert other.sig_name[:12] == [lead.lower() for lead in row["leads"]] and tuple(row["leads"]) == LEADS
        assert (row["sampling_rate"], row["patient_id"]) == (other.fs, "patient001") and set(row["gain"]) == {2000.0}
        np.testing.assert_allclose(row_to_signal(row), other.p_signal[:, :12].T, rtol=0, atol=1e-6)
        np.testing.assert_allclose(row_to_signal(row)[:6], LIMB_LEADS @ row_to_signal(row)[:2], atol=2.1e-3)


@real
def test_the_frank_leads_are_read_from_their_own_file(tmp_path):
    corpus, root = build(SAMPLES), FolderRoot(SAMPLES)
    for entry in corpus.read_index(root):
        record = corpus.read_record(root, entry)
        other = wfdb.rdrecord(str(SAMPLES / entry.path), physical=False)
        assert record.leads == (*LEADS, *FRANK_LEADS)
        np.testing.assert_array_equal(record.samples, other.d_signal.T)


@real
def test_a_real_summary_becomes_labels_and_report(tmp_path):
    row = rows_of(SAMPLES, tmp_path)["s0010_re"]
    assert (row["age"], row["sex"]) == (81.0, "female")
    assert [(label["set"], label["name"]) for label in row["labels"]] == [
        ("reason", "Myocardial infarction"),
        ("acute_infarction", "infero-lateral"),
        ("additional", "Diabetes mellitus"),
    ]
    comments = [
        line[1:].strip() for line in (SAMPLES / "patient001/s0010_re.hea").read_text().splitlines() if "#" in line
    ]
    assert row["report"].split("\n") == comments and "Medication after discharge: ASA" in row["report"]


# summaries


def test_what_is_denied_or_unknown_is_no_label_and_each_diagnosis_is_one():
    said = {
        FIELDS["reason"]: "Heart failure (NYHA 3)",
        FIELDS["acute_infarction"]: "infero-poster-lateral",
        FIELDS["former_infarction"]: "1) inferior 2) lateral",
        FIELDS["additional"]: "Obesity, no,Arterial hypertension ,, Obesity",
    }
    assert parse_labels(SUMMARY | said, "x") == (
        ("reason", "Heart failure (NYHA 3)"),
        ("acute_infarction", "infero-postero-lateral"),
        ("former_infarction", "1) inferior 2) lateral"),
        ("additional", "Obesity"),
        ("additional", "Arterial hypertension"),
    )
    for nothing in ("n/a", "no", "unknown", "", "-", "No"):
        assert parse_labels(SUMMARY | dict.fromkeys(FIELDS.values(), nothing), "x") == ()


@pytest.mark.parametrize("reason", ["Myocardial infraction", "myocardial infarction", "Healthy control, Palpitation"])
def test_a_reason_that_is_not_known_is_refused(reason):
    with pytest.raises(EcgFormatError, match=rf"patient001/s1: expected a reason for admission of .* got '{reason}'"):
        parse_labels(SUMMARY | {FIELDS["reason"]: reason}, "patient001/s1")


def test_a_part_of_the_summary_that_is_missing_or_twice_is_refused():
    whole = comment_lines()
    assert parse_summary(whole, "x")[0] == SUMMARY
    for line in whole.splitlines():
        key = line[2:].split(b":")[0].decode()
        for damaged in (whole.replace(line, b""), whole + b"\n" + line):
            with pytest.raises(EcgFormatError, match="each part of the summary once, got ") as caught:
                parse_summary(damaged, "x")
            assert key in str(caught.value)


def test_the_dates_that_real_summaries_say_twice_are_no_obstacle():
    twice = comment_lines() + b"\n# Infarction date: 1-Jan-90\n#\n# Therapy:\n# Infarction date: 2-Jan-90\n"
    assert parse_summary(twice, "x")[0] == SUMMARY


@pytest.mark.parametrize(("old", "new"), [("# age: 81", "# age: old"), ("# sex: female", "# sex: f/m")])
def test_an_age_or_sex_without_a_meaning_is_refused(old, new, example):
    path = example / "patient001" / "s0010_re.hea"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(EcgFormatError, match=r"patient001/s0010_re: expected an? (age|sex)"):
        build(example).as_streaming_dataset()


# the index


def test_the_label_sets_are_those_of_the_headers(example, tmp_path):
    corpus = build(example)
    assert PTB.label_sets["additional"] == () and corpus.fingerprint
    assert corpus.label_sets["additional"] == ("Arterial hypertension", "Diabetes mellitus", "Obesity")
    assert corpus.label_sets["reason"] == tuple(sorted(REASONS)) and len(REASONS) == 14
    assert corpus.label_sets["acute_infarction"] == ("anterior", "infero-lateral")
    check_index(corpus.read_index(FolderRoot(example)), corpus.label_sets, patient_level=True)


def test_folds_keep_patients_together_and_are_three_one_one(tmp_path):
    PTB.write_example(tmp_path / "raw", 40)
    entries = build(tmp_path / "raw").read_index(FolderRoot(tmp_path / "raw"))
    homes = {(entry.patient_id, entry.split) for entry in entries}
    assert len(homes) == len({patient for patient, _ in homes}) < len(entries)
    counts = Counter(split for _, split in homes)
    assert counts["train"] > counts["test"] + counts["validation"] and min(counts.values()) >= 3


@pytest.mark.parametrize(
    "path", ["s0010_re", "../patient001/s0010_re", "patient1/s0010_re", "patient001/100", "patient001/s0010_re.hea"]
)
def test_a_record_outside_of_a_patients_folder_is_refused(path):
    with pytest.raises(EcgIntegrityError, match="expected records such as patient001/s0010_re, got"):
        parse_path(path)


def test_a_header_that_records_promises_is_missed(example):
    (example / "patient002" / "s0002are.hea").unlink()
    with pytest.raises(MissingFileError, match=r"lacks 1 of the headers .* \['patient002/s0002are'\]; complete"):
        build(example).as_streaming_dataset()
    splits = build(example, allow_missing=True).as_streaming_dataset()
    assert sum(1 for split in splits.values() for _ in split) == 11


def test_the_second_signal_file_is_missed(example):
    (example / "patient003" / "s0004lre.xyz").unlink()
    with pytest.raises(MissingFileError, match=r"lack files, such as \['patient003/s0004lre\.xyz'\]"):
        build(example).as_streaming_dataset()


def test_a_server_is_read_by_its_list_of_records(official, tmp_path):
    with serve(official) as (url, _):
        there = rows_of(url, tmp_path)
    assert there == rows_of(official, tmp_path / "other")


# damaged records


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("15 1000 ", "15 500 "), EcgIntegrityError, "expected 1000.* Hz, got 500"),
        ((" 16 2000 16 0", " 16 200 16 0"), EcgUnitsError, "expected 2000.* ADC units per mV"),
        ((" 16 2000 16 0", " 16 2000(5) 16 0"), EcgUnitsError, "as ADC value of 0 mV"),
        ((" 0 i\n", " 0 v7\n"), EcgLeadError, "v7"),
        ((".xyz 16", ".dat 16"), EcgIntegrityError, "expected .* bytes for 13 leads"),
        (("s0010_re 15", "s0011_re 15"), EcgFormatError, "expected the header of 's0010_re'"),
    ],
)
def test_a_damaged_header_is_refused(change, error, message, example):
    path = example / "patient001" / "s0010_re.hea"
    assert path.read_text().count(change[0]) >= 1
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(error, match=message):
        for split in build(example).as_streaming_dataset().values():
            list(split)


@pytest.mark.parametrize("suffix", ["dat", "xyz"])
def test_a_changed_or_cut_signal_file_is_refused(suffix, example):
    path = example / "patient001" / f"s0010_re.{suffix}"
    data = path.read_bytes()
    for damaged in (data[:-2], data[:5000] + bytes([data[5000] ^ 4]) + data[5001:]):
        path.write_bytes(damaged)
        with pytest.raises(EcgIntegrityError, match=r"bytes|checksums"):
            for split in build(example).as_streaming_dataset().values():
                list(split)
