import csv
import io
import logging
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from counting_file import Counting
from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.index import Entry
from ecg_hf.corpora.loading import load_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.sources.echonext import COLUMNS, FLAGS, EchoNext, check_order, parse_entry
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.npy import NpyFile
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal

TABLE = "echonext_metadata_100k.csv"
ROW = dict.fromkeys(COLUMNS, "0") | {"ecg_key": "7", "patient_key": "3", "age_at_ecg": "61", "split": "val"}


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("echonext") / "raw"
    folder.mkdir()
    EchoNext.write_example(folder, 40)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, **options):
    return EchoNext(data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def table(folder, name=TABLE):
    with (Path(folder) / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rewrite(folder, rows):
    write_table(folder / TABLE, ("", *COLUMNS), rows)


# which signal is whose


def test_each_ecg_has_the_row_of_its_place_in_its_split_in_standard_deviations(official):
    splits = build(official).as_streaming_dataset()
    names = {"train": "train", "val": "validation", "test": "test"}
    for split, ours in names.items():
        arrays = np.load(official / f"EchoNext_{split}_waveforms.npy")
        keys = [row["ecg_key"] for row in table(official) if row["split"] == split]
        rows = list(splits[ours])
        assert [row["record_id"] for row in rows] == keys and len(rows) == len(arrays)
        for row, array in zip(rows, arrays, strict=True):
            signal = row_to_signal(row)
            assert row["leads"] == list(LEADS) and row["sampling_rate"] == 250 and signal.shape == (12, 2500)
            assert np.abs(signal - array[0].T).max() <= 0.000251
            assert 2 < np.abs(signal).max() <= 12  # no millivolts
    assert EchoNext.unit == "z-score" and EchoNext.access == "restricted"


def test_what_belongs_to_no_split_is_left_out_and_counted(official, caplog):
    with caplog.at_level(logging.INFO, "ecg_hf.corpora.sources.echonext"):
        splits = build(official).as_streaming_dataset()
    kept = {row["record_id"]: name for name, split in splits.items() for row in split}
    apart = {row["ecg_key"]: row["patient_key"] for row in table(official) if row["split"] == "no_split"}
    assert len(apart) == 3 and not apart.keys() & kept.keys() and len(kept) == 40
    assert "left out 3 ECGs" in caplog.text
    homes = {row["patient_key"]: row["split"] for row in table(official) if row["split"] != "no_split"}
    assert {homes[patient] for patient in apart.values()} == {"val", "test"}


@pytest.mark.parametrize("name", [TABLE, "EchoNext_metadata_100k.csv"])
@pytest.mark.parametrize("place", ["folder", "zip"])
def test_the_table_is_found_in_either_spelling(name, place, example, tmp_path):
    expected = list(build(example).as_streaming_dataset("test"))
    (example / TABLE).rename(example / name)
    if place == "zip":
        with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
            for path in example.iterdir():
                archive.write(path, f"echonext/{path.name}")
    where = tmp_path / ("e.zip" if place == "zip" else "")
    assert list(load_corpus("echonext", None, where, "test", streaming=True, cache_dir=tmp_path / "c")) == expected


def test_without_the_table_nothing_is_found_and_without_a_place_the_error_says_where_to_apply(example):
    (example / TABLE).unlink()
    with pytest.raises(EcgAccessError, match=r"holds no EchoNext_metadata_100k\.csv; set data_dir"):
        build(example)
    with pytest.raises(
        EcgAccessError, match=r"restricted access, see https://physionet\.org/content/echonext/1\.1\.0/"
    ):
        EchoNext(cache_dir=example.parent / "c").as_streaming_dataset()


@pytest.mark.parametrize("change", ["row less", "row more", "swapped splits"])
def test_an_array_that_has_not_one_row_for_each_ecg_is_refused(change, example):
    path = example / "EchoNext_train_waveforms.npy"
    array = np.load(path)
    if change == "swapped splits":
        shutil.copy(example / "EchoNext_val_waveforms.npy", path)
    else:
        np.save(path, array[:-1] if change == "row less" else np.concatenate([array, array[:1]]))
    with pytest.raises(EcgIntegrityError, match=r"train_waveforms\.npy: expected \(24, 1, 2500, 12\), one row"):
        build(example)


@pytest.mark.parametrize("shape", [(24, 2500, 12), (24, 1, 12, 2500), (24, 1, 5000, 12)])
def test_an_array_of_another_shape_is_refused(shape, example):
    np.save(example / "EchoNext_train_waveforms.npy", np.zeros(shape))
    with pytest.raises(EcgIntegrityError, match=r"expected \(24, 1, 2500, 12\)"):
        build(example)


def test_a_table_in_another_order_than_the_arrays_is_found_by_ages_and_sexes(example):
    rows = table(example)
    order = np.random.default_rng(1).permutation(len(rows))
    rewrite(example, [rows[place] for place in order])
    with pytest.raises(EcgIntegrityError, match=r"ages and sexes of \d+ of \d+ rows are not those of the table's rows"):
        build(example)


def test_a_table_shifted_by_one_row_is_found(example):
    rows = table(example)
    train = [row for row in rows if row["split"] == "train"]
    rewrite(example, [*train[1:], train[0], *(row for row in rows if row["split"] != "train")])
    with pytest.raises(EcgIntegrityError, match="rows are matched by position only"):
        build(example)


def people(number=400, seed=0):
    rng = np.random.default_rng(seed)
    ages, men = rng.integers(18, 90, number).astype(float), rng.random(number) < 0.5
    entries = [
        Entry(str(place), "train", age=age, sex="male" if man else "female")
        for place, (age, man) in enumerate(zip(ages.tolist(), men.tolist(), strict=True))
    ]
    return entries, np.stack([men, ages], 1).astype(float)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (0.05, -3), (-2, 100)])
@pytest.mark.parametrize("turned", [False, True])
def test_ages_and_sexes_in_any_scale_are_recognised(scale, shift, turned, caplog):
    entries, features = people()
    scaled = features * [-3 if turned else 3, scale] + [1, shift]
    check_order(scaled, entries, "f")
    assert not caplog.text
    with pytest.raises(EcgIntegrityError, match="f: ages and sexes of "):
        check_order(np.roll(scaled, 1, axis=0), entries, "f")


def test_a_few_strangers_among_many_are_counted_and_unknown_ages_are_not(caplog):
    entries, features = people()
    features[7, 1] += 30
    features[9, 0] = 1 - features[9, 0]
    entries[11] = Entry("11", "train", sex=None)
    features[11] = 0.5, 50
    check_order(features, entries, "f")
    assert "f: ages or sexes of 2 of 400 rows are not the table's" in caplog.text
    with pytest.raises(EcgIntegrityError, match="f has 399 rows, expected 400"):
        check_order(features[1:], entries, "f")


def test_order_is_checked_by_age_alone_where_all_have_one_sex_and_not_at_all_where_nothing_is_known():
    entries, features = people()
    women = [Entry(entry.record_id, "train", age=entry.age, sex="female") for entry in entries]
    check_order(features, women, "f")
    with pytest.raises(EcgIntegrityError):
        check_order(np.roll(features, 1, axis=0), women, "f")
    check_order(features, [Entry(entry.record_id, "train") for entry in entries], "f")


def test_missing_features_are_logged(example, caplog):
    (example / "EchoNext_val_tabular_features.npy").unlink()
    with caplog.at_level(logging.WARNING):
        build(example)
    assert "cannot compare the order of table and EchoNext_val_waveforms.npy" in caplog.text


def test_features_of_another_shape_are_refused(example):
    np.save(example / "EchoNext_val_tabular_features.npy", np.zeros(8))
    with pytest.raises(EcgFormatError, match=r"expected features of \(N, 7\), got \(8,\)"):
        build(example)


def test_a_missing_array_is_counted_and_its_split_can_be_left_out(example):
    (example / "EchoNext_test_waveforms.npy").unlink()
    with pytest.raises(MissingFileError, match=r"^8 records of .* lack files"):
        build(example).as_streaming_dataset()
    splits = build(example, allow_missing=True).as_streaming_dataset()
    assert {name: len(list(split)) for name, split in splits.items()} == {"train": 24, "validation": 8}


# the table


def test_the_flags_that_are_set_are_the_labels(official):
    for row, said in zip(build(official).as_streaming_dataset("validation"), val_rows(official), strict=True):
        found = {label["name"] for label in row["labels"] if label["set"] == "finding"}
        assert found == {flag for flag in FLAGS if said[flag] == "1"}
        any_found = [label for label in row["labels"] if label["set"] == "structural_heart_disease"]
        assert len(any_found) == bool(found) and len(FLAGS) == 11
        assert row["patient_id"] == said["patient_key"] and row["age"] == float(said["age_at_ecg"])
        assert row["sex"] == ("male" if said["sex"] == "1" else "female")


def val_rows(folder):
    return [row for row in table(folder) if row["split"] == "val"]


def test_a_patient_in_two_splits_is_found(example):
    rows = table(example)
    rows[6]["patient_key"] = rows[0]["patient_key"]
    rewrite(example, rows)
    with pytest.raises(EcgIntegrityError, match=r"patient 400 is in split train and, with record e006, in validation"):
        build(example)


def test_ages_capped_at_90_count_as_over_89_and_sexes_are_read_in_either_form():
    entry = parse_entry(ROW | {"age_at_ecg": "90.0", "sex": "Male"}, 5)
    assert (entry.age, entry.age_over_89, entry.sex, entry.split) == (None, True, "male", "validation")
    assert entry.path == "EchoNext_val_waveforms.npy:5"
    assert [parse_entry(ROW | {"sex": text}, 0).sex for text in ("0", "1.0", "female", "")] == [
        "female",
        "male",
        "female",
        None,
    ]


@pytest.mark.parametrize(
    "change",
    [{"ecg_key": ""}, {"patient_key": ""}, {FLAGS[3]: ""}, {FLAGS[3]: "2"}, {"age_at_ecg": "x"}, {"sex": "2"}],
)
def test_a_field_without_a_meaning_is_refused(change):
    with pytest.raises(EcgFormatError, match=rf"^ECG '{(ROW | change)['ecg_key']}': expected"):
        parse_entry(ROW | change, 0)


def test_an_unknown_split_is_refused(example):
    rows = table(example)
    rows[0]["split"] = "dev"
    rewrite(example, rows)
    with pytest.raises(EcgFormatError, match=r"ECG 'e000' of .*: expected a split of .*, got 'dev'"):
        build(example)


# arrays


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_a_row_of_an_array_is_what_numpy_reads(dtype):
    array = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(dtype)
    file = NpyFile(npy(array), "a")
    assert file.shape == array.shape
    for place in (4, 0, 2):
        np.testing.assert_array_equal(file.row(place), array[place])
    for place in (-1, 5):
        with pytest.raises(EcgFormatError, match=f"a should have a row {place}"):
            file.row(place)
    file.close()


@pytest.mark.parametrize(
    "file",
    [
        npy(np.zeros((3, 4), order="F")),
        npy(np.zeros((3, 4), np.int16)),
        npy(np.zeros(3, object), allow_pickle=True),
        npy(np.zeros(3, [("a", "f4")])),
        npy(np.zeros(())),
        npy(np.zeros((3, 0))),
        io.BytesIO(npy(np.zeros((3, 4))).getvalue()[:-8]),
        io.BytesIO(npy(np.zeros((3, 4))).getvalue() + b"\0"),
        io.BytesIO(npy(np.zeros((3, 4))).getvalue()[:20]),
        io.BytesIO(npy(np.zeros((3, 4))).getvalue().replace(b"\x01\x00", b"\x09\x00", 1)),
        io.BytesIO(b"<html>"),
        io.BytesIO(b""),
    ],
)
def test_a_file_that_is_no_whole_array_of_numbers_is_refused(file):
    with pytest.raises(EcgFormatError, match=r"a: expected a whole \.npy file of floating-point numbers"):
        NpyFile(file, "a")
    assert file.closed


def test_one_row_is_read_without_the_others(example):
    counting = Counting(example / "EchoNext_train_waveforms.npy")
    file = NpyFile(counting, "a")
    file.row(20)
    assert counting.num_bytes < file.row_bytes + 1000
    file.close()


def test_gaps_stay_gaps_and_infinity_is_refused(example):
    path = example / "EchoNext_val_waveforms.npy"
    array = np.load(path)
    array[0, 0, 100:200, 3] = np.nan
    np.save(path, array)
    signal = row_to_signal(next(iter(build(example).as_streaming_dataset("validation"))))
    np.testing.assert_array_equal(np.isnan(signal), np.isnan(array[0, 0].T))
    array[0, 0, 0, 0] = np.inf
    np.save(path, array)
    with pytest.raises(EcgError, match=r"record e006 of .*expected finite samples or NaN, got infinity"):
        list(build(example).as_streaming_dataset("validation"))


def test_the_counts_are_those_of_the_three_splits():
    assert EchoNext.num_records == 72_475 + 4_626 + 5_442 == 100_000 - 17_457
    assert EchoNext.num_patients == 26_218 + 4_626 + 5_442
    assert Counter(EchoNext.label_sets["finding"]).total() == 11
