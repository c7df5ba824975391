import csv
import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from ecg_hf.corpora.index import check_index
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.code.code15 import Code15
from ecg_hf.corpora.sources.code.code_test import FINDINGS, RATERS, CodeTest, rater_path, read_annotations
from ecg_hf.corpora.sources.code.tracings import DATASET, write_arrays
from ecg_hf.errors import EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.record import LEADS, LIMB_LEADS
from ecg_hf.signals.row import row_to_signal
from places import SHARED

h5py = pytest.importorskip("h5py")
SAMPLES = SHARED / "code-test" / "data"
real = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real data here")


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("code_test") / "data"
    CodeTest.write_example(folder, 12)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "data"))


def build(folder, **options):
    return CodeTest(data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rows_of(folder):
    return list(build(folder).as_streaming_dataset("test"))


def change_line(path, number, change):
    lines = path.read_text().splitlines()
    lines[number] = change(lines[number])
    path.write_text("\n".join(line for line in lines if line) + "\n")


# leads and signals


def test_the_leads_come_out_in_standard_order_from_an_order_of_their_own(official):
    stored = ["I", "II", "III", "aVL", "aVF", "aVR", "V1", "V2", "V3", "V4", "V5", "V6"]
    with h5py.File(official / "ecg_tracings.hdf5") as file:
        tracings = file["tracings"][:]
    for place, row in enumerate(rows_of(official)):
        assert row["record_id"] == str(place) and row["leads"] == list(LEADS) and row["sampling_rate"] == 400
        signal = row_to_signal(row)
        padding = (4096 - signal.shape[1]) // 2
        assert signal.shape[1] == (4000, 2800)[place % 2]
        for lead, values in zip(LEADS, signal, strict=True):
            expected = tracings[place, padding : padding + signal.shape[1], stored.index(lead)]
            assert np.abs(values - expected).max() < 0.000501
        np.testing.assert_allclose(signal[:6], LIMB_LEADS @ signal[:2], atol=0.003)


@pytest.mark.parametrize("order", [[0, 1, 2, 5, 3, 4], [0, 1, 2, 4, 3, 5]])
def test_tracings_in_the_order_of_code15_or_any_other_are_refused(order, example):
    with h5py.File(example / "ecg_tracings.hdf5", "r+") as file:
        file["tracings"][...] = file["tracings"][:][:, :, [*order, *range(6, 12)]]
    with pytest.raises(EcgLeadError, match=r"expected the leads \('I', 'II', 'III', 'aVL', 'aVF', 'aVR'\) first"):
        rows_of(example)


def test_all_exams_are_for_the_test_and_the_amplitude_is_uncertain(official):
    splits = build(official).as_streaming_dataset()
    assert list(splits) == ["test"] and CodeTest.unit == Code15.unit == "uncertain mV"


# annotations


def test_the_findings_of_the_two_corpora_are_the_same_in_another_order():
    assert FINDINGS == ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST") != Code15.label_sets["finding"]
    assert set(FINDINGS) == set(Code15.label_sets["finding"])


def test_each_rater_has_the_findings_of_the_own_table(official):
    rows = rows_of(official)
    for rater in RATERS:
        with (official / rater_path(rater)).open(newline="") as file:
            for row, said in zip(rows, csv.DictReader(file), strict=True):
                found = {label["name"] for label in row["labels"] if label["set"] == rater}
                assert found == {name for name in FINDINGS if said[name] == "1"}


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """All exams by the real annotations."""
    return CodeTest(cache_dir=tmp_path_factory.mktemp("c")).read_index(FolderRoot(SAMPLES))


@real
def test_the_real_annotations_have_the_published_counts(entries):
    check_index(entries, CodeTest.label_sets, patient_level=True)
    assert len(entries) == 827 and Counter(entry.split for entry in entries) == {"test": 827}
    counts = Counter(label[:2] for entry in entries for label in entry.labels)
    expected = {"1dAVb": 28, "RBBB": 34, "LBBB": 30, "SB": 16, "AF": 13, "ST": 37}
    assert {name: counts["gold_standard", name] for name in FINDINGS} == expected
    assert [counts["dnn", name] for name in FINDINGS] == [30, 38, 30, 18, 10, 38]
    assert Counter(entry.sex for entry in entries) == {"female": 506, "male": 321}
    assert (
        sum(entry.age_over_89 for entry in entries)
        == Counter(
            int(age) > 89 for age in np.loadtxt(SAMPLES / "attributes.csv", str, delimiter=",", skiprows=1)[:, 0]
        )[True]
    )


@real
def test_the_gold_standard_is_what_both_cardiologists_say_where_they_agree_but_for_six_findings(entries):
    agreed, exceptions = 0, Counter()
    for entry in entries:
        said = {rater: {name for kind, name, _ in entry.labels if kind == rater} for rater in RATERS}
        for name in FINDINGS:
            if (name in said["cardiologist1"]) == (name in said["cardiologist2"]):
                agreed += 1
                exceptions[name] += (name in said["gold_standard"]) != (name in said["cardiologist1"])
    assert agreed == 4_929 and +exceptions == {"ST": 3, "RBBB": 1, "AF": 1, "SB": 1}


@real
def test_the_real_tables_fit_as_many_tracings_and_no_other_number(tmp_path):
    for name in ("attributes.csv", *map(rater_path, RATERS)):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SAMPLES / name, tmp_path / "data" / name)
    with pytest.raises(MissingFileError, match=r"827 records of .* lack files, such as \['ecg_tracings\.hdf5'"):
        build(tmp_path / "data").as_streaming_dataset()
    for number in (827, 826):
        with h5py.File(tmp_path / "data/ecg_tracings.hdf5", "w") as file:
            file.create_dataset("tracings", (number, 4096, 12), np.float32, chunks=(1, 4096, 12))
        if number == 827:
            assert len(build(tmp_path / "data").read_index(FolderRoot(tmp_path / "data"))) == 827
    with pytest.raises(EcgIntegrityError, match=r"'ecg_tracings\.hdf5': 826"):
        build(tmp_path / "data")


@pytest.mark.parametrize("name", ["attributes.csv", rater_path("cardiologist2"), rater_path("dnn")])
def test_a_table_that_lacks_a_row_is_refused(name, example):
    change_line(example / name, -1, lambda line: "")
    with pytest.raises(EcgIntegrityError, match=rf"expected one number of exams in all files .*'{name}': 11"):
        build(example)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (rater_path("cardiologist1"), lambda line: "0,0,0,0,0,2", EcgFormatError, "row 3: expected 0 or 1, got"),
        (rater_path("cardiologist1"), lambda line: "0,0,0,0,0,", EcgFormatError, "row 3: expected 0 or 1, got"),
        (rater_path("dnn"), lambda line: f"7{line[1:]}", EcgIntegrityError, "has row '7' in place 3"),
        ("attributes.csv", lambda line: "34,X", EcgFormatError, r"row 3 of attributes\.csv: expected the sex M or F"),
        ("attributes.csv", lambda line: "340,M", EcgFormatError, "expected an age from 0 to 120"),
    ],
)
def test_a_field_without_a_meaning_is_refused(name, change, error, message, example):
    change_line(example / name, 4, change)
    with pytest.raises(error, match=message):
        build(example)


def test_columns_are_read_by_their_names():
    text = b"AF,ST,1dAVb,RBBB,LBBB,SB\n1,0,0,0,1,0\n"
    assert read_annotations(text, "t") == [("LBBB", "AF")]
    with pytest.raises(EcgFormatError, match="should have each of the columns"):
        read_annotations(b"AF,ST,1dAVb,RBBB,LBBB\n", "t")


def test_a_missing_table_and_more_exams_than_were_published_are_refused(example, monkeypatch):
    monkeypatch.setattr("ecg_hf.corpora.sources.code.code_test.NUM_RECORDS", 11)
    with pytest.raises(EcgIntegrityError, match="at most 11, got"):
        build(example)
    (example / rater_path("medical_students")).unlink()
    with pytest.raises(MissingFileError, match=r"medical_students\.csv is missing"):
        build(example)


def test_tracings_of_another_shape_and_empty_ones_are_refused(example):
    with h5py.File(example / "ecg_tracings.hdf5") as file:
        tracings = file["tracings"][:]
    tracings[5] = 0
    write_arrays(example / "ecg_tracings.hdf5", {DATASET: tracings})
    with pytest.raises(EcgIntegrityError, match=r"record 5 of .*all 4096 samples of all leads are zero"):
        rows_of(example)
    with h5py.File(example / "ecg_tracings.hdf5", "w") as file:
        file["tracings"] = tracings.transpose(0, 2, 1)
    with pytest.raises(EcgError, match=r"expected tracings of \(N, 4096, 12\), got \(12, 12, 4096\)"):
        build(example)
