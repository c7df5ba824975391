import csv
import logging
import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.heedb.example import write_matrix
from ecg_hf.corpora.sources.heedb.heedb import HEEDB, split_of
from ecg_hf.corpora.sources.heedb.tables import parse_age, parse_codes, partition_of, split_path
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal

wfdb = pytest.importorskip("wfdb")
MGH, EMORY, OLD = "I0001/metadata/metadata.csv", "I0006/metadata/metadata.csv", "Metadata/demographics_ECG.csv"
V24 = "I0001/12SL_diagnoses/diagnoses_v24.csv"


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus of release 5, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("heedb") / "raw"
    HEEDB.write_example(folder, 32)
    return folder


@pytest.fixture(scope="module")
def official_old(tmp_path_factory):
    """A small corpus of release 2, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("heedb") / "old"
    HEEDB.write_old_example(folder, 10)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, **options):
    return HEEDB(data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rows_by_id(folder, **options):
    splits = build(folder, **options).as_streaming_dataset()
    return {row["record_id"]: row | {"split": name} for name, split in splits.items() for row in split}


def index(folder, **options):
    builder = build(folder, **options)
    return {entry.record_id: entry for entry in builder.read_index(builder._open())}


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def codes_of(text):
    return [str(int(code)) for code in text.split(",") if code]


# what the tables say


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/S0001/1988/04/de_1_2_3", ("S0001/1988/04/", "de_1_2_3")),
        ("./S0001/1988/04/de_1_2_3.hea\n", ("S0001/1988/04/", "de_1_2_3")),
        ("/S0001/1988/04/de_1.hea", ("S0001/1988/04/", "de_1")),
        ("WFDB/2010/MUSE_20191206_105123_71000", ("2010/", "MUSE_20191206_105123_71000")),
        ("de_1", ("", "de_1")),
    ],
)
def test_every_way_to_write_a_path_is_read(text, expected):
    assert split_path(text) == expected


@pytest.mark.parametrize("text", ["", "../x", "/S0001/../x", "//x", "C:\\x", "S0001/x y", "S0001/", "x.exe", "..../x"])
def test_what_is_no_path_of_a_record_is_refused(text):
    with pytest.raises(EcgFormatError, match="expected the path of a record, got"):
        split_path(text)


def test_partitions_have_the_names_of_study_a():
    assert partition_of("S0001/1987/01/", 2) == "S0001-1987" and partition_of("2010/", 1) == "2010"


def test_codes_are_read_with_and_without_blanks_each_once():
    for text in ("22, 1680,1699", "22,1680,1699,22", " 22,1680, 1699\n"):
        assert parse_codes(text, "12sl") == (("12sl", "22", 1.0), ("12sl", "1680", 1.0), ("12sl", "1699", 1.0))
    assert parse_codes("", "12sl") == parse_codes("nan", "12sl") == ()
    for bad in ("22;1680", "22,", "NSR", "22 1680", "-1", "22,,3"):
        with pytest.raises(EcgFormatError, match="expected 12SL codes such as '22, 1680', got"):
            parse_codes(bad, "12sl")


@pytest.mark.parametrize(
    ("text", "years", "expected"),
    [
        ("16438", 1 / 365.25, (float(np.float32(16438 / 365.25)), False, "")),
        ("16438.0", 1 / 365.25, (float(np.float32(16438 / 365.25)), False, "")),
        ("54.5", 1.0, (54.5, False, "")),
        ("89", 1.0, (89.0, False, "")),
        ("90", 1.0, (None, True, "")),
        ("34000", 1 / 365.25, (None, True, "")),
        ("", 1.0, (None, False, "")),
        ("nan", 1.0, (None, False, "")),
        ("-3", 1.0, (None, False, "an impossible age, taken for unknown")),
        ("109500", 1 / 365.25, (None, False, "an impossible age, taken for unknown")),
    ],
)
def test_ages_are_in_days_or_years_and_the_oldest_are_hidden(text, years, expected):
    assert parse_age(text, years) == expected
    with pytest.raises(EcgFormatError, match="expected an age, got '54 y'"):
        parse_age("54 y", years)


def test_each_record_has_the_codes_that_another_reading_of_the_tables_gives(official):
    entries = index(official)
    seen = 0
    for site in ("I0001", "I0006"):
        said = {}
        for row in table(official / site / "12SL_diagnoses/diagnoses_v24.csv"):
            said[Path(row["FileName"].strip()).stem] = [("12sl", code) for code in codes_of(row["codes"])]
        for row in table(official / site / "12SL_diagnoses/diagnoses_acquisition.csv"):
            name = Path(row["FileName"]).name
            said[name] += [("12sl_acquisition", code) for code in codes_of(row["codes_software"])]
            said[name] += [("12sl_overread", code) for code in codes_of(row["codes_physician"])]
        for name, labels in said.items():
            assert [label[:2] for label in entries[name].labels] == labels and labels
            seen += 1
    assert seen == len(entries) == 32


def test_each_record_has_the_patient_age_and_sex_of_its_row(official):
    entries = index(official)
    rows = [row | {"Sex": row["SexDSC"]} for row in table(official / MGH)] + table(official / EMORY)
    checked = 0
    for row in rows:
        if (entry := entries.get(row["FileID"])) is None:
            continue
        assert entry.patient_id == row["BDSPPatientID"].removesuffix(".0") and "." not in entry.patient_id
        assert entry.sex == {"Female": "female", "Male": "male", "Unknown": None}[row["Sex"]]
        days = float(row["AgeAtAcquisition"] or -1)
        years = float(np.float32(days / 365.25))
        assert (entry.age, entry.age_over_89) == ((years if 0 <= days < 32_000 else None), days > 33_000)
        checked += 1
    assert checked == 32 and {entry.age_over_89 for entry in entries.values()} == {False, True}


def test_records_without_a_patient_or_known_as_broken_are_left_out_and_logged(official, caplog):
    with caplog.at_level(logging.WARNING):
        entries = index(official)
    assert not {"de_1", "MUSE_20200225_081000_06000"} & set(entries)
    assert f"{MGH}: 1 records with no patient, left out" in caplog.text
    assert f"{EMORY}: left out 1 records that are duplicates or known as broken" in caplog.text
    assert "records with an impossible age, taken for unknown" in caplog.text
    assert "records with sex 'Unknown', taken for unknown" in caplog.text


def test_the_old_layout_is_read_without_its_duplicates(official_old, caplog):
    with caplog.at_level(logging.WARNING):
        rows = rows_by_id(official_old)
    duplicate = Path(table(official_old / "Metadata/duplicated.csv")[0]["file_name"]).name
    assert len(rows) == 10 and duplicate not in rows and (duplicate + ".hea") in str(table(official_old / OLD))
    assert "left out 1 records that are duplicates" in caplog.text
    lines = (official_old / "Metadata/ECG_Interpretations.psv").read_text().splitlines()[1:]
    said = {line.split("|")[0]: codes_of(line.split("|")[1]) for line in lines}
    for name, row in rows.items():
        assert [label["name"] for label in row["labels"]] == said.get(name, [])
        assert {label["set"] for label in row["labels"]} <= {"12sl"}
    assert Counter(len(row["labels"]) for row in rows.values()) == {3: 9, 0: 1}
    assert {row["age"] for row in rows.values()} == {54.5, None}


def test_the_tables_of_release_4_are_read(example):
    expected = index(example)
    for site in ("I0001", "I0006"):
        place = example / site / "12SL_diagnoses"
        (place / "diagnoses_v24.csv").rename(place / "diagnoses.csv")
        (place / "diagnoses_acquisition.csv").unlink()
    for name, entry in index(example).items():
        assert entry.labels == tuple(label for label in expected[name].labels if label[0] == "12sl")


def test_signals_can_be_had_without_any_codes(example):
    for site in ("I0001", "I0006"):
        shutil.rmtree(example / site / "12SL_diagnoses")
    with pytest.raises(EcgAccessError, match=r"lacks I0001/12SL_diagnoses/diagnoses_v24\.csv; .*labels=False"):
        index(example)
    assert {entry.labels for entry in index(example, labels=False).values()} == {()}


def test_label_sets_are_the_codes_that_occur_in_order_of_their_numbers(official):
    builder = build(official)
    assert builder.fingerprint and builder.label_sets["12sl_acquisition"] == ("19", "1000", "1001", "1002")
    assert builder.label_sets["12sl_overread"] == ("22",) and HEEDB.label_sets["12sl"] == ()


# splits


def test_a_patient_has_one_split_whatever_is_read_of_the_corpus(official, official_old):
    whole = {entry.patient_id: entry.split for entry in index(official).values()}
    for options in ({"config_name": "mgh"}, {"config_name": "emory"}, {"partitions": ["S0002-1988"]}):
        part = index(official, **options)
        assert part and {whole[entry.patient_id] for entry in part.values()} <= set(whole.values())
        assert all(entry.split == whole[entry.patient_id] for entry in part.values())
    old = {entry.patient_id: entry.split for entry in index(official_old).values()}
    assert set(old) & set(whole) and all(whole.get(patient, split) == split for patient, split in old.items())


def test_each_split_has_its_share_of_patients():
    counts = Counter(split_of(str(111_000_000 + 7 * number)) for number in range(40_000))
    deviation = (40_000 * 0.05 * 0.95) ** 0.5
    assert abs(counts["test"] - 2000) < 4 * deviation and abs(counts["validation"] - 2000) < 4 * deviation
    known = {"111188448": split_of("111188448"), "179020000": split_of("179020000")}
    assert known == {"111188448": "validation", "179020000": "train"}  # never to change: models were trained on it


# parts


def test_configs_are_the_hospitals(official):
    both, mgh, emory = (index(official, config_name=name) for name in ("all", "mgh", "emory"))
    assert len(mgh) == 24 and len(emory) == 8 and list(both) == [*mgh, *emory]
    assert {entry.path.split("/")[0] for entry in mgh.values()} == {"I0001"}
    assert {name.split("_")[0] for name in emory} == {"MUSE"}


def test_partitions_are_read_alone_and_an_unknown_one_is_refused(official):
    whole = index(official)
    part = index(official, partitions=["S0001-1987", "2011"])
    places = ("I0001/WFDB/S0001/1987/", "I0006/WFDB/2011")
    assert part == {name: entry for name, entry in whole.items() if f"{entry.path}/".startswith(places)}
    assert 0 < len(part) < len(whole)
    message = r"expected partitions of \['2010', '2011', '2012', '2013', 'S0001-1987', .*\], got \['S0009-1987'\]"
    with pytest.raises(ValueError, match=message):
        index(official, partitions=["S0009-1987", "2011"])


def test_a_hospital_that_is_not_there_is_missed(example):
    shutil.rmtree(example / "I0006")
    for name in ("all", "emory"):
        with pytest.raises(EcgAccessError, match=r"lacks the part of \['emory'\]; download it, or choose the config"):
            build(example, config_name=name).as_streaming_dataset()
    assert len(index(example, config_name="mgh")) == 24


def test_the_old_layout_has_no_emory(official_old):
    whole = index(official_old)
    assert index(official_old, config_name="mgh") == whole and len(whole) == 10
    with pytest.raises(EcgAccessError, match=r"lacks the part of \['emory'\]"):
        index(official_old, config_name="emory")


def test_the_corpus_is_found_in_its_folder_or_above_and_never_searched_for(example, tmp_path):
    shutil.move(example, tmp_path / "top/ECG")
    assert len(index(tmp_path / "top")) == len(index(tmp_path / "top/ECG")) == 32
    for place in (tmp_path, tmp_path / "top/ECG/I0001"):
        with pytest.raises(EcgAccessError, match=r"holds none of .*; set data_dir to the folder of I0001 and I0006"):
            build(place).as_streaming_dataset()
    with pytest.raises(EcgAccessError, match=r"credentialed access, see https://bdsp\.io.*pass data_dir="):
        HEEDB(cache_dir=tmp_path / "cache").as_streaming_dataset()


def test_two_releases_in_one_folder_are_refused(example, official_old):
    shutil.copytree(official_old / "Metadata", example / "Metadata")
    with pytest.raises(EcgAccessError, match="holds two releases; set data_dir to one of them"):
        build(example).as_streaming_dataset()


# files


@pytest.mark.parametrize("release", ["official", "official_old"])
def test_signals_are_those_that_wfdb_reads_in_standard_order(release, request):
    folder = request.getfixturevalue(release)
    gaps = 0
    for name, row in rows_by_id(folder).items():
        (header,) = folder.rglob(f"{name}.hea")
        signal, fields = wfdb.rdsamp(str(header.with_suffix("")))
        order = [fields["sig_name"].index(lead) for lead in LEADS]
        assert order != list(range(12)) and row["leads"] == list(LEADS) and row["sampling_rate"] == fields["fs"]
        np.testing.assert_array_equal(row_to_signal(row), signal.T[order].astype(np.float32))
        gaps += int(np.isnan(signal).any())
    assert gaps > 1


def test_both_sampling_rates_keep_their_ten_seconds(official):
    lengths = Counter((row["sampling_rate"], row["num_samples"]) for row in rows_by_id(official).values())
    assert set(lengths) == {(250.0, 2500), (500.0, 5000)}


def record(folder):
    return next(path for path in sorted(folder.rglob("de_*.hea")))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (" aVF\n", " MLII\n", EcgLeadError),
        (" aVF\n", " vx\n", EcgLeadError),
        (" 12 250 ", " 12 240 ", EcgIntegrityError),
        (".mat 16+24 ", ".dat 16 ", EcgError),
        ("1000.0(0)/mV", "0/mV", EcgError),
        ("de_", "dx_", EcgError),
    ],
)
def test_a_changed_header_is_refused_and_its_record_named(old, new, error, example):
    path = record(example)
    rewrite(path, old, new)
    with pytest.raises(error, match=f"record {path.stem} of "):
        rows_by_id(example, config_name="mgh")


@pytest.mark.parametrize("damage", ["cut", "page", "empty", "flip"])
def test_a_damaged_record_is_refused(damage, example):
    path = record(example).with_suffix(".mat")
    data = path.read_bytes()
    flipped = data[:999] + bytes([data[999] ^ 4]) + data[1000:]
    path.write_bytes({"cut": data[:-2], "page": b"<html>403</html>", "empty": b"", "flip": flipped}[damage])
    with pytest.raises(EcgError, match=f"record {path.stem} of "):
        rows_by_id(example, config_name="mgh")


def test_missing_files_are_counted_and_can_be_left_out(example):
    path = record(example)
    path.with_suffix(".mat").unlink()
    with pytest.raises(
        MissingFileError, match=rf"^1 records of .* lack files, such as \['I0001/WFDB/.*{path.stem}\.mat"
    ):
        build(example).as_streaming_dataset()
    assert len(rows_by_id(example, allow_missing=True)) == 31


def test_changed_files_are_never_served_from_an_old_cache(example):
    before = build(example).cache_dir
    assert build(example).cache_dir == before
    path = record(example).with_suffix("")
    samples = np.ones((12, 2500), np.int16)
    write_matrix(path, samples, 250)
    assert build(example).cache_dir != before


# tables


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (MGH, "SexDSC", "Sex", r"should have each of the columns \['SexDSC'\] once.*a release that is known here"),
        (EMORY, ",Sex,", ",SexDSC,", r"should have each of the columns \['Sex'\] once"),
        (MGH, "AgeAtAcquisition", "Age", r"the columns \['AgeAtAcquisition'\] once"),
        (V24, "codes", "code", r"the columns \['codes'\] once"),
        (MGH, "BDSPPatientID,", "BDSPPatientID,BDSPPatientID,", r"the columns \['BDSPPatientID'\] once"),
        (MGH, "111188448,", "X111188448,", "is no patient"),
        (MGH, "/S0001/", "/../", "expected the path of a record"),
        (MGH, "16438", "16438 d", r"metadata\.csv, de_.*: expected an age, got '16438 d'"),
        (V24, "1699", "SR", r"diagnoses_v24\.csv, de_.*: expected 12SL codes"),
        (MGH, "Female", '"Female', "is not a table in UTF-8"),
        (MGH, ",Female", "\nFemale", "expected 28 fields, got"),
        (V24, "FileName", "<html>", r"the columns \['FileName'\] once, got \['<html>'"),
    ],
)
def test_a_table_that_is_not_the_official_one_is_refused(name, old, new, message, example):
    rewrite(example / name, old, new)
    with pytest.raises(EcgFormatError, match=message):
        build(example).as_streaming_dataset()


def test_a_record_that_is_listed_twice_is_refused(example):
    with (example / MGH).open("a") as file:
        file.write((example / MGH).read_text().splitlines()[1] + "\n")
    with pytest.raises(EcgIntegrityError, match=r"record de_.* is in the index twice"):
        build(example).as_streaming_dataset()


def test_tables_larger_than_any_file_that_is_read_whole_are_read_row_by_row(official, monkeypatch):
    expected = index(official)
    monkeypatch.setattr(FolderRoot, "max_bytes", 100)
    monkeypatch.setattr(FolderRoot, "read", None)
    assert index(official) == expected


def test_neighbouring_records_share_what_they_have_in_common(official):
    entries = list(index(official, config_name="mgh").values())
    for kind in ("patient_id", "path"):
        values = [getattr(entry, kind) for entry in entries]
        assert len(set(map(id, values))) == len(set(values)) < len(values)
    labels = [label for entry in entries for label in entry.labels]
    assert len(set(map(id, labels))) == len(set(labels)) < len(labels)
