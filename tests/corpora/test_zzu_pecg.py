import hashlib
import logging
import shutil
from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np
import pytest

from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.sources.zzu.codes import (
    CODES,
    DISEASES,
    FINDINGS,
    STATEMENTS,
    parse_labels,
    parse_quality,
    split_list,
)
from ecg_hf.corpora.sources.zzu.zzu_pecg import COLUMNS, ZZUPECG, parse_entry, strata
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.registry import TASKS, load
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal

wfdb = pytest.importorskip("wfdb")
OFFICIAL_MD5 = "7612c5af0e01e052eb85792c5e362f12"  # of ECGCode.csv, as figshare lists it
NINE = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V3", "V5"]
VALUES = (
    *("P03/P03763/P03763_E01", "P03763_E01", "P03763", "3714d", "'Male'", "2022-09-03 03:31:50", "15000", "12"),
    "'E50';'I105';'J125';'L146';'L148';'Prolonged QTc interval';'L150';'Suggests211'",
    "'E48';'I86';'J(111+112+113)';'L122';'L124';'L125';'L128';'Hypokalemia or drug effect'",
    *("'I07.1';'I31.8'", "'I':0.532;'aVR':0.465", "'I':0.973;'V2':Null", "'I':0.994"),
)
ROW = dict(zip(COLUMNS, VALUES, strict=True))  # a real row, its lists of leads and diagnoses cut


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("zzu") / "raw"
    ZZUPECG.write_example(folder, 24)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, **options):
    return ZZUPECG(data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rows_by_id(folder, **options):
    splits = build(folder, **options).as_streaming_dataset()
    return {row["record_id"]: row | {"split": name} for name, split in splits.items() for row in split}


def rewrite(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def of(label_set, labels):
    return [name for kind, name, _ in labels if kind == label_set]


# codes


def test_the_table_of_codes_is_the_official_one_to_the_byte(official):
    table = (official / "ECGCode.csv").read_bytes().replace(b"\n", b"\r\n")
    assert hashlib.md5(table, usedforsecurity=False).hexdigest() == OFFICIAL_MD5
    assert (len(CODES), len(STATEMENTS), len(set(FINDINGS)), len(DISEASES)) == (105, 91, 105, 19)


def test_a_real_row_says_what_another_reading_of_it_says():
    entry = parse_entry(ROW, "train")
    assert of("statement", entry.labels) == [
        *("Atrial fibrillation", "Incomplete right bundle-branch block", "Low voltage"),
        *("ST deviation with T-wave change", "Prolonged QT interval", "Prominent U waves"),
        "Hypokalemia or drug effect",
    ]
    assert set(of("finding", entry.labels)) - set(of("statement", entry.labels)) == {"Prolonged QTc interval"}
    assert of("finding_with_modifiers", entry.labels) == of("finding", entry.labels)
    assert of("chn_code", entry.labels)[1:3] == ["I86", "J(111+112+113)"]
    assert of("icd10", entry.labels) == ["I07.1", "I31.8"] and not of("disease", entry.labels)
    assert [label for label in entry.labels if "SQI" in label[0]] == [
        ("pSQI", "I", float(np.float32(0.532))),
        ("pSQI", "aVR", float(np.float32(0.465))),
        ("basSQI", "I", float(np.float32(0.973))),
        ("bSQI", "I", float(np.float32(0.994))),
    ]
    assert (entry.record_id, entry.patient_id, entry.sex) == ("P03763_E01", "P03763", "male")
    assert entry.path == "Child_ecg/P03/P03763/P03763_E01:12:15000"


@pytest.mark.parametrize(
    ("aha", "statements", "findings", "whole"),
    [
        ("'C21'", ["Sinus tachycardia"], ["Sinus tachycardia"], ["Sinus tachycardia"]),
        ("'L145+Modifier362'", [], ["ST deviation"], ["ST deviation + Depression"]),
        (
            "'F60+Modifier310';'F60+Modifier342'",
            [],
            ["Ventricular premature complex(es)"],
            [
                "Ventricular premature complex(es) + Frequent",
                "Ventricular premature complex(es) + In a trigeminal pattern",
            ],
        ),
        (
            "'L145+Modifier362';'L145'",
            ["ST deviation"],
            ["ST deviation"],
            ["ST deviation + Depression", "ST deviation"],
        ),
        ("'Osborn wave'", [], ["Osborn wave"], ["Osborn wave"]),
        ("'N(180 + 181)'", ["Pacing rhythm"], ["Pacing rhythm"], ["Pacing rhythm"]),
        ("'N(180+181)'", ["Pacing rhythm"], ["Pacing rhythm"], ["Pacing rhythm"]),
        ("'Suggests208'", ["Hyperkalemia"], ["Hyperkalemia"], ["Hyperkalemia"]),
        ("'2:1 AV block'", [], ["2:1 AV block"], ["2:1 AV block"]),
        ("'A1';'A1'", ["Normal ECG"], ["Normal ECG"], ["Normal ECG"]),
        ("Null", [], [], []),
        ("", [], [], []),
    ],
)
def test_findings_are_read_with_and_without_codes_and_modifiers(aha, statements, findings, whole):
    labels = parse_labels(aha, "", "")
    assert of("statement", labels) == statements
    assert of("finding", labels) == findings
    assert of("finding_with_modifiers", labels) == whole


@pytest.mark.parametrize("aha", ["'C99'", "'A1';'Z1'", "'L145+Modifier999'", "'Suggests999'", "'N(180+182)'"])
def test_an_unknown_aha_code_is_refused_by_name(aha):
    with pytest.raises(EcgFormatError, match=r"expected AHA codes that ECGCode\.csv lists, got '") as caught:
        parse_labels(aha, "", "")
    assert aha.split("'")[-2].split("+")[-1].strip("'")[:3] in str(caught.value)


def test_chinese_codes_are_kept_as_written_even_those_that_the_table_lacks():
    assert of("chn_code", parse_labels("", "'F64';'L121+Depression';'J(111 + 112 + 113)'", "")) == [
        *("F64", "L121+Depression", "J(111+112+113)")
    ]


def test_the_prefix_of_a_diagnosis_is_part_of_its_code():
    labels = parse_labels("", "", "'(FO) Q21.1';'(OSD)Q21.1';'Q21.1';'(V) I40.0';'J18.9'")
    assert of("icd10", labels) == ["(FO) Q21.1", "(OSD) Q21.1", "Q21.1", "(V) I40.0", "J18.9"]
    assert of("disease", labels) == [
        "Atrial septal defect (Foramen ovale)",
        "Atrial septal defect (Ostium secundum defect)",
        "Atrial septal defect",
        "Viral myocarditis",
    ]
    assert of("disease_type", labels) == ["Congenital heart disease", "Myocarditis"]


def test_a_lead_that_is_not_there_has_no_quality():
    assert parse_quality("'I':0.5;'V2':Null;'aVR':-1.5e-2") == [("I", 0.5), ("aVR", float(np.float32(-0.015)))]
    assert parse_quality("Null") == parse_quality("") == []
    for bad in ("'I':", "I:0.5", "'I':0.5;'I':0.6", "'I':nan", "'I':0.5,'II':0.5"):
        with pytest.raises(EcgFormatError, match="expected each lead's index once"):
            parse_quality(bad)
    with pytest.raises(EcgLeadError, match="got 'V7'"):
        parse_quality("'V7':0.5")


def test_lists_are_parted_by_semicolons_and_quotes_are_dropped():
    assert split_list(" 'A1' ; 'Osborn  wave';;'Null'") == ["A1", "Osborn wave"]


# patients


def test_an_age_in_days_becomes_years_and_the_days_can_be_had_back():
    for days in (1, 29, 365, 366, 3714, 5474):
        age = parse_entry(ROW | {"Age": f"{days}d"}, "train").age
        assert age == pytest.approx(days / 365.25, rel=1e-7) and round(float(np.float32(age)) * 365.25, 2) == days


def test_studied_diseases_sex_and_age_are_the_strata():
    row = ROW | {"ICD-10 code": "'J18.9';'Q21.0';'(F) I40.0'"}
    assert strata(row) == ["Ventricular septal defect", "Fulminant myocarditis", "sex 'Male'", "age 2"]
    days = ("1", "364", "365", "1824", "1825", "4379", "4380", "6569", "6570")
    assert [strata(ROW | {"Age": f"{day}d"})[-1] for day in days] == [
        f"age {bin}" for bin in (0, 0, 1, 1, 2, 2, 3, 3, 4)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"Filename": "P03/P03763/P03763_E02"},
        {"Filename": "../P03763_E01"},
        {"ECG_ID": "P03764_E01"},
        {"Patient_ID": "P3763"},
        {"Age": "10"},
        {"Age": "10y"},
        {"Age": "-1d"},
        {"Gender": "'Boy'"},
        {"Lead": "8"},
        {"Sampling_point": "0"},
        {"Sampling_point": "5000.0"},
        {"AHA_code": "'C99'"},
        {"pSQI": "'I':?"},
        {"bSQI": "'V9':1"},
    ],
)
def test_a_field_without_a_meaning_is_refused_and_its_record_named(change):
    row = ROW | change
    with pytest.raises(EcgError, match=rf"record '{row['ECG_ID']}' of AttributesDictionary\.csv: expected"):
        parse_entry(row, "train")


def test_an_unknown_sex_is_none():
    assert [parse_entry(ROW | {"Gender": sex}, "train").sex for sex in ("'Female'", "Male", "Null", "")] == [
        *("female", "male", None, None)
    ]


def test_no_child_is_in_two_splits(official):
    homes = defaultdict(set)
    rows = rows_by_id(official)
    for row in rows.values():
        homes[row["patient_id"]].add(row["split"])
    assert len(homes) == 8 and {len(splits) for splits in homes.values()} == {1}
    assert {row["split"] for row in rows.values()} >= {"train"}


# files


def test_signals_are_those_that_wfdb_reads_whatever_the_gain_and_the_leads(official):
    lengths = set()
    for name, row in rows_by_id(official).items():
        signal, fields = wfdb.rdsamp(str(official / "Child_ecg" / name[:3] / name[:6] / name))
        got = row_to_signal(row)
        assert row["leads"] in (list(LEADS), NINE) and row["sampling_rate"] == 500
        assert [lead.lower() for lead in row["leads"]] == [lead.lower() for lead in fields["sig_name"]]
        np.testing.assert_array_equal(got, signal.T.astype(np.float32))
        assert len(set(row["gain"])) == len(row["leads"]) and max(map(abs, row["baseline"])) > 100
        lengths.add((len(row["leads"]), got.shape[1]))
    assert lengths == {(12, 5000), (9, 2500), (12, 7500), (12, 10_000)}


def test_the_order_of_leads_in_a_file_does_not_matter(example):
    place = example / "Child_ecg/P00/P00001"
    expected = row_to_signal(rows_by_id(example)["P00001_E02"])
    order = np.random.default_rng(0).permutation(9)
    data, header = place / "P00001_E02.dat", place / "P00001_E02.hea"
    first, *lines = header.read_text().splitlines()
    header.write_text("\n".join([first, *(lines[lead] for lead in order)]) + "\n")
    data.write_bytes(np.frombuffer(data.read_bytes(), "<i2").reshape(-1, 9)[:, order].tobytes())
    row = rows_by_id(example)["P00001_E02"]
    assert row["leads"] == NINE and lines[0].endswith(" I") and lines[order[0]] != lines[0]
    np.testing.assert_array_equal(row_to_signal(row), expected)


def test_a_record_with_other_leads_than_the_table_says_is_refused(example):
    rewrite(example / "AttributesDictionary.csv", ",2500,9,", ",2500,12,")
    with pytest.raises(EcgLeadError, match=r"record P00001_E02 of .*V6.*got \('I', .*'V1', 'V3', 'V5'\)"):
        rows_by_id(example)


def test_a_record_with_another_length_than_the_table_says_is_refused(example):
    rewrite(example / "AttributesDictionary.csv", ",2500,9,", ",5000,9,")
    with pytest.raises(EcgIntegrityError, match=r"record P00001_E02 of .*expected 5000 samples per lead, got 2500"):
        rows_by_id(example)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("9 500 2500", "9 250 2500"),
        (".dat 16 ", ".dat 212 "),
        ("/mV", "/mmHg"),
        (" AVR", " V2"),
        ("P00001_E02 9", "P00001_E03 9"),
        ("P00001_E02.dat", "P00001_E01.dat"),
    ],
)
def test_a_changed_header_is_refused(old, new, example):
    rewrite(example / "Child_ecg/P00/P00001/P00001_E02.hea", old, new)
    with pytest.raises(EcgError, match="record P00001_E02 of "):
        rows_by_id(example)


@pytest.mark.parametrize("damage", ["cut", "page", "empty", "flip"])
def test_a_damaged_record_is_refused(damage, example):
    path = example / "Child_ecg/P00/P00001/P00001_E02.dat"
    data = path.read_bytes()
    flipped = data[:99] + bytes([data[99] ^ 4]) + data[100:]
    path.write_bytes({"cut": data[:-2], "page": b"<html>403</html>", "empty": b"", "flip": flipped}[damage])
    with pytest.raises(EcgError, match="record P00001_E02 of "):
        rows_by_id(example)


def test_missing_records_are_counted_and_can_be_left_out(example):
    before = {name: row["split"] for name, row in rows_by_id(example).items()}
    (example / "Child_ecg/P00/P00001/P00001_E02.dat").unlink()
    with pytest.raises(
        MissingFileError, match=r"^1 records of .* lack files, such as \['Child_ecg/P00/P00001/P00001_E0"
    ):
        build(example).as_streaming_dataset()
    after = {name: row["split"] for name, row in rows_by_id(example, allow_missing=True).items()}
    assert after == {name: split for name, split in before.items() if name != "P00001_E02"}


def test_records_that_were_not_unpacked_are_refused_with_what_to_do(example):
    shutil.rmtree(example / "Child_ecg")
    (example / "Child_ecg.zip").write_bytes(b"")
    with pytest.raises(EcgAccessError, match=r"join the two with zip -s 0 Child_ecg\.zip --out whole\.zip"):
        build(example).as_streaming_dataset()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ECGCode.csv", "Normal ECG,A1,A1\n", ""),
        ("ECGCode.csv", "Normal ECG,A1,A1", "Normal ECG,A2,A1"),
        ("ECGCode.csv", "Normal ECG,A1,A1", "Abnormal ECG,A1,A1"),
        ("ECGCode.csv", "Normal ECG,A1,A1", "Normal ECG,A1,A1\nNew,A9,A9"),
        ("DiseaseCode.csv", ",Q21.0,", ",Q21.9,"),
        ("DiseaseCode.csv", "Kawasaki disease,Kawasaki", "Cardiomyopathy,Kawasaki"),
    ],
)
def test_a_changed_table_of_codes_is_refused(name, old, new, example):
    rewrite(example / name, old, new)
    with pytest.raises(EcgIntegrityError, match=rf"{name} says .* expected .*; download it again"):
        build(example).as_streaming_dataset()


def test_a_table_with_other_columns_is_refused(example):
    rewrite(example / "AttributesDictionary.csv", "AHA_code", "AHA")
    with pytest.raises(EcgFormatError, match=r"should have each of the columns \['AHA_code'\] once"):
        build(example).as_streaming_dataset()


def test_a_table_with_more_records_than_were_published_is_refused(example, monkeypatch):
    monkeypatch.setattr("ecg_hf.corpora.sources.zzu.zzu_pecg.NUM_RECORDS", 23)
    with pytest.raises(EcgIntegrityError, match=r"has 24 records, expected at most 23"):
        build(example).as_streaming_dataset()


def test_a_finding_that_the_table_does_not_list_is_kept_and_logged(example, caplog):
    rewrite(example / "AttributesDictionary.csv", "'A1','A1'", "'A new wave','A1'")
    with caplog.at_level(logging.WARNING, "ecg_hf.corpora.sources.zzu.zzu_pecg"):
        builder = build(example)
        builder.as_streaming_dataset()
    assert "findings that ECGCode.csv does not list: ['A new wave']" in caplog.text
    assert builder.label_sets["finding"] == (*FINDINGS, "A new wave") and ZZUPECG.label_sets["finding"] == FINDINGS


def test_the_task_of_study_a_leaves_out_nine_leads_and_short_records(official):
    task = load(TASKS, "zzu_pecg")
    assert task.label_set == "statement" and (task.min_leads, task.min_duration_s, task.num_outputs) == (12, 10, 58)
    assert set(STATEMENTS.values()) == set(ZZUPECG.label_sets["statement"])
