import csv
import logging
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import datasets
import numpy as np
import pytest

from ecg_hf.corpora.index import check_index
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.sph import (
    COLUMNS,
    MODIFIERS,
    SPH,
    STATEMENTS,
    check_codes,
    name_of,
    parse_codes,
    parse_entry,
    strata,
)
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal
from places import SHARED

h5py = pytest.importorskip("h5py")
SAMPLES = SHARED / "sph"
real = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real data here")
ROW = dict(zip(COLUMNS, ("A00001", "60+310;147", "S00001", "55", "M", "5000", "2020-03-04"), strict=True))


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("sph") / "raw"
    SPH.write_example(folder, 24)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, **options):
    return SPH(data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rows_by_id(folder, **options):
    splits = build(folder, **options).as_streaming_dataset()
    return {row["record_id"]: row | {"split": name} for name, split in splits.items() for row in split}


def rewrite(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# statements


@pytest.mark.parametrize(
    ("text", "codes", "statements", "whole"),
    [
        ("1", ("1",), ["Normal ECG"], ["Normal ECG"]),
        (
            "60+310;147",
            ("60+310", "147"),
            ["Ventricular premature complex(es)", "T-wave abnormality"],
            ["Ventricular premature complex(es) + Frequent", "T-wave abnormality"],
        ),
        (
            "145+362;145+363",
            ("145+362", "145+363"),
            ["ST deviation"],
            ["ST deviation + Depression", "ST deviation + Elevation"],
        ),
        ("22;22", ("22", "22"), ["Sinus bradycardia"], ["Sinus bradycardia"]),
    ],
)
def test_statements_are_parted_by_semicolons_and_their_modifiers_by_plus(text, codes, statements, whole):
    assert parse_codes(text) == codes
    labels = parse_entry(ROW | {"AHA_Code": text}, "train").labels
    assert [name for kind, name, _ in labels if kind == "statement"] == statements
    assert [name for kind, name, _ in labels if kind == "statement_with_modifiers"] == whole


@pytest.mark.parametrize(
    "text",
    ["", "1;", ";1", "1 ;22", "60+", "+60", "60++310", "999", "60+999", "310", "60+22", "147+310", "60,147"],
)
def test_what_is_no_statement_of_this_corpus_is_refused_by_name(text):
    with pytest.raises(EcgFormatError, match="expected statements of SPH such as") as caught:
        parse_codes(text)
    assert repr(text) in str(caught.value)


def test_age_sex_and_repeated_statements_with_modifiers_are_the_strata():
    assert strata(ROW | {"AHA_Code": "60+310;22;22"}) == ["60+310", "22", "22", "sex M", "age 2"]
    bins = [strata(ROW | {"Age": age})[-1] for age in ("18", "19", "20", "39", "40", "59", "60", "79", "80", "95")]
    assert bins == [f"age {number}" for number in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ECG_ID": "../A00001"}, "expected fields such as A00001"),
        ({"ECG_ID": "A1"}, "expected fields such as A00001"),
        ({"Patient_ID": ""}, "expected fields such as A00001"),
        ({"N": "0"}, "expected fields such as A00001"),
        ({"N": "5000.0"}, "expected fields such as A00001"),
        ({"Sex": "male"}, "expected fields such as A00001"),
        ({"Age": "150"}, "expected an age from 0 to 120"),
    ],
)
def test_a_field_without_a_meaning_is_refused_and_its_record_named(change, message):
    with pytest.raises(EcgFormatError, match=message) as caught:
        parse_entry(ROW | change, "train")
    assert (ROW | change)["ECG_ID"] in str(caught.value)


# the real tables


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """All records by the real tables."""
    return SPH(cache_dir=tmp_path_factory.mktemp("c")).read_index(FolderRoot(SAMPLES))


@pytest.fixture(scope="module")
def rows():
    with (SAMPLES / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@real
def test_the_real_corpus_has_the_published_counts(entries):
    check_index(entries, SPH.label_sets, patient_level=True)
    assert len(entries) == SPH.num_records == 25_770
    assert len({entry.patient_id for entry in entries}) == SPH.num_patients == 24_666
    assert (len(STATEMENTS), len(MODIFIERS), len(SPH.label_sets["statement_with_modifiers"])) == (44, 15, 68)
    counts = Counter(label[1] for entry in entries for label in entry.labels if label[0] == "statement")
    assert len(counts) == 44 and sum(count >= 10 for count in counts.values()) == 35
    assert counts["Normal ECG"] == 13_905 and round(100 * (1 - 13_905 / 25_770), 2) == 46.04


@real
def test_each_record_has_the_statements_that_another_reading_of_the_table_gives(entries, rows):
    with (SAMPLES / "code.csv").open(newline="", encoding="utf-8") as file:
        words = {row["Code"]: row["Description"] for row in csv.DictReader(file)}
    for row, entry in zip(rows, entries, strict=True):
        assert (entry.record_id, entry.patient_id, entry.path) == (
            row["ECG_ID"],
            row["Patient_ID"],
            f"records/{row['ECG_ID']}.h5:{row['N']}",
        )
        assert entry.sex == {"M": "male", "F": "female"}[row["Sex"]]
        said = row["AHA_Code"].split(";")
        labels = {(kind, name) for kind, name, _ in entry.labels}
        assert labels == {("statement", words[code.split("+")[0]]) for code in said} | {
            ("statement_with_modifiers", " + ".join(words[part] for part in code.split("+"))) for code in said
        }
        assert len(labels) == len(entry.labels)


@real
def test_every_name_with_modifiers_occurs_and_means_one_thing(rows):
    codes = {code for row in rows for code in row["AHA_Code"].split(";")}
    assert {name_of(code) for code in codes} == set(SPH.label_sets["statement_with_modifiers"])
    assert len(codes) == 68


@real
def test_real_patients_are_in_one_split_and_each_split_has_its_share(entries):
    homes = defaultdict(set)
    for entry in entries:
        homes[entry.patient_id].add(entry.split)
    assert {len(splits) for splits in homes.values()} == {1}
    sizes = Counter(entry.split for entry in entries)
    assert sizes.total() == 25_770 and all(abs(sizes[name] - 2577) < 30 for name in ("validation", "test"))
    for name in SPH.label_sets["statement_with_modifiers"]:
        found = Counter(entry.split for entry in entries if ("statement_with_modifiers", name, 1.0) in entry.labels)
        assert abs(found["test"] - found.total() / 10) <= max(1.0, 0.03 * found.total())
    men = Counter(entry.split for entry in entries if entry.sex == "male")
    assert men["test"] / sizes["test"] == pytest.approx(men.total() / 25_770, abs=0.01)


@real
def test_the_table_of_codes_is_the_official_one():
    check_codes((SAMPLES / "code.csv").read_bytes())


# files


def test_signals_are_the_stored_ones_to_half_a_microvolt(official):
    lengths = set()
    for name, row in rows_by_id(official).items():
        with h5py.File(official / f"records/{name}.h5") as file:
            stored = file["ecg"][:]
        signal = row_to_signal(row)
        lengths.add(signal.shape[1])
        assert stored.dtype == np.float16 and row["leads"] == list(LEADS) and row["sampling_rate"] == 500
        assert signal.shape == stored.shape and np.abs(signal - stored.astype(np.float64)).max() < 0.000501
    assert lengths == {5000, 6000, 7500}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ecg: ecg[:, :-1], "expected 5000 samples per lead, got 4999"),
        (lambda ecg: ecg[:11], r"expected 12 leads on the axes \['lead', 'sample'\], got \(11, 5000\)"),
        (lambda ecg: ecg.T, r"expected 12 leads on the axes \['lead', 'sample'\], got \(5000, 12\)"),
        (lambda ecg: np.where(ecg > 0, np.inf, ecg), "expected finite samples or NaN, got infinity"),
    ],
)
def test_a_record_that_is_laid_out_otherwise_is_refused(change, message, example):
    with h5py.File(example / "records/A00001.h5") as file:
        ecg = file["ecg"][:]
    with h5py.File(example / "records/A00001.h5", "w") as file:
        file["ecg"] = change(ecg)
    with pytest.raises(EcgError, match=rf"record A00001 of .*{message}"):
        rows_by_id(example)


@pytest.mark.parametrize("damage", ["cut", "page", "empty", "other name"])
def test_a_damaged_record_is_refused(damage, example):
    path = example / "records/A00001.h5"
    if damage == "other name":
        with h5py.File(path, "r+") as file:
            file.move("ecg", "ECG")
    else:
        path.write_bytes({"cut": path.read_bytes()[:-900], "page": b"<html>403</html>", "empty": b""}[damage])
    with pytest.raises(EcgError, match="record A00001 of "):
        rows_by_id(example)


def test_missing_records_are_counted_and_can_be_left_out(example, caplog):
    splits = {name: row["split"] for name, row in rows_by_id(example).items()}
    for name in ("A00003", "A00010"):
        (example / f"records/{name}.h5").unlink()
    with pytest.raises(MissingFileError, match=r"^2 records of .* lack files, such as \['records/A00003\.h5'"):
        build(example).as_streaming_dataset()
    with caplog.at_level(logging.WARNING):
        kept = rows_by_id(example, allow_missing=True)
    assert {name: row["split"] for name, row in kept.items()} == {
        name: split for name, split in splits.items() if name not in ("A00003", "A00010")
    }


def test_records_that_were_not_unpacked_are_refused_with_what_to_do(example):
    shutil.rmtree(example / "records")
    (example / "records.tar.gz").write_bytes(b"")
    with pytest.raises(EcgAccessError, match=r"are still in records\.tar\.gz; unpack it with tar -xf"):
        build(example)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A,1,Normal ECG\n", ""),
        ("A,1,Normal ECG", "A,1,Abnormal ECG"),
        ("A,1,Normal ECG", "Modifier,1,Normal ECG"),
        ("A,1,Normal ECG\n", "A,1,Normal ECG\nA,2,New\n"),
    ],
)
def test_a_changed_table_of_codes_is_refused(old, new, example):
    rewrite(example / "code.csv", old, new)
    with pytest.raises(EcgIntegrityError, match=r"code\.csv says .* expected .*; download it again"):
        build(example)


def test_a_table_with_more_records_than_were_published_is_refused(example, monkeypatch):
    monkeypatch.setattr("ecg_hf.corpora.sources.sph.NUM_RECORDS", 23)
    with pytest.raises(EcgIntegrityError, match=r"metadata\.csv has 24 records, expected at most 23"):
        build(example)
