import csv
import logging
import pickle
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

from counting_file import Counting
from ecg_hf.corpora.examples import write_table
from ecg_hf.corpora.index import check_index
from ecg_hf.corpora.loading import load_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.code.code15 import COLUMNS, FINDINGS, Code15, Part, parse_entry, parse_labels
from ecg_hf.corpora.sources.code.tracings import EmptyTracingError, example_tracing, without_padding
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal
from file_server import serve
from places import SHARED

h5py = pytest.importorskip("h5py")
SAMPLES = SHARED / "code-15"
real = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real data here")
HALF_STEP = 0.000501  # mV
CODE_TEST_ORDER = [0, 1, 2, 4, 5, 3, *range(6, 12)]


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("code15") / "raw"
    Code15.write_example(folder, 15)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, **options):
    return Code15(data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rows_by_id(folder, **options):
    splits = build(folder, **options).as_streaming_dataset()
    return {row["record_id"]: row | {"split": name} for name, split in splits.items() for row in split}


def stored(folder):
    """Tracing of each exam, read with h5py and cut sample by sample from either end."""
    found = {}
    for path in sorted(Path(folder).glob("*.hdf5")):
        with h5py.File(path) as file:
            for exam, tracing in zip(file["exam_id"][:].tolist(), file["tracings"][:], strict=True):
                start, stop = 0, len(tracing)
                while start < stop and not tracing[start].any():
                    start += 1
                while start < stop and not tracing[stop - 1].any():
                    stop -= 1
                found[str(exam)] = tracing[start:stop].T
    return found


def table(folder):
    with (Path(folder) / "exams.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def change_part(folder, change, name="exams_part0.hdf5"):
    with h5py.File(folder / name) as file:
        arrays = {key: file[key][:] for key in file}
    arrays = change(arrays)
    with h5py.File(folder / name, "w") as file:
        for key, array in arrays.items():
            file[key] = array


# which signal is whose


@pytest.mark.parametrize("place", ["example", pytest.param(SAMPLES, marks=real)])
def test_every_exam_has_the_signal_stored_under_its_number_without_its_padding(place, request, tmp_path):
    folder = request.getfixturevalue(place) if place == "example" else place
    rows, arrays = rows_by_id(folder) if place == "example" else rows_of_real(tmp_path), stored(folder)
    assert {exam for exam, signal in arrays.items() if signal.size} == rows.keys()
    for exam, row in rows.items():
        signal = row_to_signal(row)
        assert row["leads"] == list(LEADS) and row["sampling_rate"] == 400 and signal.shape == arrays[exam].shape
        assert np.abs(signal - arrays[exam]).max() < HALF_STEP * max(1, np.abs(signal).max() / 32.7)


def rows_of_real(tmp_path):
    splits = load_corpus("code15", data_dir=SAMPLES, cache_dir=tmp_path)
    return {row["record_id"]: row for split in splits.values() for row in split}


@real
def test_the_labels_of_real_exams_are_those_of_the_table(tmp_path):
    rows = rows_of_real(tmp_path)
    assert len(rows) == 8 and {row["num_samples"] for row in rows.values()} == {2934, 4096}
    for said in table(SAMPLES):
        row = rows[said["exam_id"]]
        assert {label["name"] for label in row["labels"] if label["set"] == "finding"} == {
            name for name in FINDINGS if said[name] == "True"
        }
        assert (row["patient_id"], row["age"]) == (said["patient_id"], float(said["age"]))
        assert row["sex"] == ("male" if said["is_male"] == "True" else "female")
        values = {label["name"]: label["value"] for label in row["labels"]}
        assert values["nn_predicted_age"] == np.float32(said["nn_predicted_age"])
        assert values.get("timey") == (np.float32(said["timey"]) if said["timey"] else None)
        assert values.get("death") == {"": None, "False": 0.0, "True": 1.0}[said["death"]]


def test_the_order_of_the_parts_does_not_matter_but_the_numbers_do(example):
    before = rows_by_id(example)
    order = np.append(np.random.default_rng(5).permutation(9), 9)  # the filler stays last
    change_part(example, lambda arrays: {key: array[order] for key, array in arrays.items()})
    assert {exam: row["signal"] for exam, row in rows_by_id(example).items()} == {
        exam: row["signal"] for exam, row in before.items()
    }
    change_part(example, lambda arrays: arrays | {"exam_id": arrays["exam_id"][[1, 0, *range(2, 10)]]})
    differ = {exam for exam, row in rows_by_id(example).items() if row["signal"] != before[exam]["signal"]}
    with h5py.File(example / "exams_part0.hdf5") as file:
        assert differ == set(map(str, file["exam_id"][:2].tolist()))


def test_exams_come_in_the_order_in_which_the_parts_store_them(example):
    ids = []
    for path in sorted(example.glob("*.hdf5")):
        with h5py.File(path) as file:
            ids += map(str, file["exam_id"][:].tolist())
    entries = build(example).read_index(FolderRoot(example))
    assert [entry.record_id for entry in entries] == [exam for exam in ids if exam != "0"]
    assert [entry.record_id for entry in entries] != [row["exam_id"] for row in table(example)]


def test_leads_in_the_order_of_code_test_are_refused(example):
    change_part(example, lambda arrays: arrays | {"tracings": arrays["tracings"][..., CODE_TEST_ORDER]})
    with pytest.raises(EcgLeadError, match=r"got a signal whose sums fit \('I', 'II', 'III', 'aVL', 'aVF', 'aVR'\)"):
        rows_by_id(example)


# padding


def test_padding_is_what_stands_before_and_after_the_signal_and_nothing_else():
    rng = np.random.default_rng(0)
    for _ in range(200):
        signal = rng.normal(size=(40, 3)) * (rng.random((40, 1)) < rng.choice([0.05, 0.5, 0.95]))
        signal[rng.integers(40, size=3)] *= [0, 1, 1]
        places = [place for place in range(40) if any(value != 0 for value in signal[place])]
        expected = signal[min(places) : max(places) + 1] if places else signal[:0]
        np.testing.assert_array_equal(without_padding(signal), expected)


def test_zeros_amid_a_signal_stay(example):
    arrays = stored(example)
    gaps = [exam for exam, signal in arrays.items() if signal.size and (signal[:, 500:-500] == 0).all(axis=0).any()]
    rows = rows_by_id(example)
    assert len(gaps) == 2
    for exam in gaps:
        signal = row_to_signal(rows[exam])
        assert signal.shape == arrays[exam].shape and (signal == 0).all(axis=0).sum() >= 100


def test_a_lead_that_is_zero_throughout_is_no_padding():
    signal = np.zeros((10, 12))
    signal[2:9, 5] = 1
    assert without_padding(signal).shape == (7, 12)


# exams without a signal


def test_an_exam_that_is_all_zero_is_left_out_with_its_number_and_reason(example, caplog):
    empty = {exam for exam, signal in stored(example).items() if not signal.size} - {"0"}
    with caplog.at_level(logging.WARNING):
        rows = rows_by_id(example)
    assert len(empty) == 1 and not empty & rows.keys() and len(rows) == 15
    assert f"{empty.pop()}: all 4096 samples of all leads are zero" in caplog.text
    assert "left out 1 exams of " in caplog.text


def test_reading_an_exam_that_is_all_zero_says_so(example):
    builder, root = build(example), FolderRoot(example)
    errors = Counter()
    for entry in builder.read_index(root):
        try:
            builder.read_record(root, entry)
        except EmptyTracingError as error:
            assert isinstance(error, EcgIntegrityError)
            errors[type(error).__name__] += 1
    assert errors == {"EmptyTracingError": 1}


def test_the_filler_is_no_exam(example):
    assert "0" not in rows_by_id(example)
    with pytest.raises(EcgFormatError, match=r"exam '0' of exams\.csv: expected whole numbers"):
        parse_entry(ROW | {"exam_id": "0"})
    with (example / "exams_part0.hdf5").open("rb") as file:
        part = Part(file, "p")
        assert part.row(0) is None and 0 not in part.exams and len(part.exams) == 9
        part.close()


@pytest.mark.parametrize("streaming", [True, False])
def test_a_part_that_is_missing_is_counted_and_its_exams_can_be_left_out(streaming, example, tmp_path, caplog):
    before = rows_by_id(example)
    (example / "exams_part1.hdf5").unlink()
    options = {"data_dir": example, "cache_dir": tmp_path / "c", "streaming": streaming}
    with pytest.raises(MissingFileError, match=r"^7 records of .* lack files, such as \['exams_part1\.hdf5'"):
        load_corpus("code15", **options)
    with caplog.at_level(logging.WARNING):
        splits = load_corpus("code15", allow_missing=True, **options)
        kept = {row["record_id"]: row | {"split": name} for name, split in splits.items() for row in split}
    assert "left out 7 records without files" in caplog.text
    assert len(kept) == 8 and all(row == before[exam] for exam, row in kept.items())  # and its split is what it was


def test_an_exam_that_its_part_lacks_is_counted_and_can_be_left_out(example, caplog):
    change_part(example, lambda arrays: {key: array[2:] for key, array in arrays.items()})
    with pytest.raises(MissingFileError, match=r"^2 exams of .* are not in their parts, such as "):
        rows_by_id(example)
    with caplog.at_level(logging.WARNING):
        assert len(rows_by_id(example, allow_missing=True)) == 13
    assert "left out 2 exams that are not in their parts: " in caplog.text


def test_tracings_that_the_table_does_not_list_are_counted(example, caplog):
    kept = table(example)[2:]
    write_table(example / "exams.csv", COLUMNS, kept)
    with caplog.at_level(logging.WARNING):
        assert len(rows_by_id(example)) == 13
    assert "holds 1 exams that exams.csv does not list" in caplog.text


# the table


ROW = dict.fromkeys(FINDINGS, "False") | {
    "exam_id": "7",
    "age": "46",
    "is_male": "True",
    "nn_predicted_age": "38.7",
    "patient_id": "12",
    "death": "",
    "timey": "",
    "normal_ecg": "False",
    "trace_file": "exams_part3.hdf5",
}


def test_all_that_a_row_says_becomes_a_label_by_the_name_of_its_column():
    said = ROW | {"ST": "True", "1dAVb": "True", "death": "False", "timey": "3.5", "normal_ecg": "True"}
    assert parse_labels(said) == (
        ("finding", "1dAVb", 1.0),
        ("finding", "ST", 1.0),
        ("normal", "normal_ecg", 1.0),
        ("follow_up", "death", 0.0),
        ("follow_up", "timey", 3.5),
        ("prediction", "nn_predicted_age", float(np.float32(38.7))),
    )
    assert parse_labels(ROW | {"nn_predicted_age": ""}) == ()
    assert Code15.label_sets["finding"] == ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")


def test_an_age_over_89_is_kept_as_such_and_an_unknown_one_as_unknown():
    entries = [parse_entry(ROW | {"age": age}) for age in ("89", "90", "nan")]
    assert [(entry.age, entry.age_over_89) for entry in entries] == [(89.0, False), (None, True), (None, False)]


@pytest.mark.parametrize(
    "change",
    [
        {"exam_id": "7.0"},
        {"exam_id": "007"},
        {"patient_id": ""},
        {"patient_id": "012"},
        {"age": "x"},
        {"is_male": "1"},
        {"trace_file": "../exams_part3.hdf5"},
        {"trace_file": "exams_part3.h5"},
        {"AF": ""},
        {"SB": "true"},
        {"normal_ecg": "0"},
        {"death": "dead"},
        {"timey": "inf"},
        {"nn_predicted_age": "1_0"},
    ],
)
def test_a_field_without_a_meaning_is_refused_and_its_exam_named(change):
    row = ROW | change
    with pytest.raises(EcgFormatError, match=rf"^exam '{row['exam_id']}' of exams\.csv: "):
        parse_entry(row)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The index of 4,000 exams of 2,500 patients, without any part."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("large")
    rows = [
        ROW
        | {"exam_id": exam, "patient_id": int(rng.integers(2500)), "normal_ecg": "True"}
        | {name: str(rng.random() < 0.05) for name in FINDINGS}
        for exam in range(1, 4001)
    ]
    write_table(folder / "exams.csv", COLUMNS, rows)
    return Code15(cache_dir=folder / "c").read_index(FolderRoot(folder))


def test_no_patient_is_in_two_splits_and_each_split_has_its_share_of_findings(large):
    check_index(large, Code15.label_sets, patient_level=True)
    sizes = Counter(entry.split for entry in large)
    assert abs(sizes["train"] - 3200) < 20 and abs(sizes["validation"] - 400) < 12 and abs(sizes["test"] - 400) < 12
    for name in FINDINGS:
        found = Counter(entry.split for entry in large if ("finding", name, 1.0) in entry.labels)
        assert found["test"] == pytest.approx(found.total() / 10, abs=2)


def test_more_exams_than_were_published_are_refused(example, monkeypatch):
    monkeypatch.setattr("ecg_hf.corpora.sources.code.code15.NUM_RECORDS", 15)
    with pytest.raises(EcgIntegrityError, match=r"exams\.csv has 16 exams, expected at most 15"):
        build(example)


def test_the_amplitude_is_marked_as_uncertain():
    assert Code15.unit == "uncertain mV" and (Code15.num_records, Code15.num_patients) == (345_779, 233_770)


# files


@pytest.mark.parametrize("chunks", [None, (1, 4096, 12)])
def test_one_row_is_read_without_the_others(chunks, tmp_path):
    tracings = np.stack([example_tracing(0)] * 40)
    with h5py.File(tmp_path / "p.hdf5", "w") as file:
        file.create_dataset("tracings", data=tracings, chunks=chunks)
        file["exam_id"] = np.arange(100, 140)
    counting = Counting(tmp_path / "p.hdf5")
    part = Part(counting, "p")
    part.tracings.read("tracings", part.row(131))
    assert counting.num_bytes < 1.2 * tracings[0].nbytes < tracings.nbytes / 30
    part.close()


def test_each_part_is_opened_and_its_numbers_are_read_once(example, monkeypatch):
    opened = []
    original = FolderRoot.open
    monkeypatch.setattr(FolderRoot, "open", lambda self, path: opened.append(path) or original(self, path))
    builder = build(example)
    for _ in range(2):
        assert len([row for split in builder.as_streaming_dataset().values() for row in split]) == 15
    assert sorted(opened) == ["exams_part0.hdf5", "exams_part1.hdf5"]


def test_bad_chunks_are_warned_of_and_good_ones_are_not(example, caplog):
    with caplog.at_level(logging.WARNING):
        build(example)
        assert "decompresses" not in caplog.text
        with h5py.File(example / "exams_part0.hdf5") as file:
            arrays = {key: file[key][:] for key in file}
        with h5py.File(example / "exams_part0.hdf5", "w") as file:
            file["exam_id"] = arrays["exam_id"]
            file.create_dataset("tracings", data=arrays["tracings"], chunks=(10, 64, 1))
        build(example)
    assert (
        "decompresses 10 times the bytes that are read; rewrite it with h5repack -l tracings:CHUNK=1x4096x12"
        in caplog.text
    )


def test_workers_forked_after_a_record_was_read_give_the_same_rows(example):
    builder = build(example)
    stream = builder.as_streaming_dataset("train")
    expected = list(stream)
    loader = DataLoader(stream, batch_size=1, num_workers=2, collate_fn=list)
    assert sorted(row["record_id"] for [row] in loader) == sorted(row["record_id"] for row in expected)
    copy = pickle.loads(pickle.dumps(builder))
    assert list(copy.as_streaming_dataset("train")) == expected


@pytest.mark.parametrize("place", ["server", "zip"])
def test_every_way_in_gives_the_same_rows(place, example, tmp_path):
    expected = rows_by_id(example)
    if place == "server":
        with serve(example) as (url, _):
            splits = load_corpus("code15", data_dir=url, streaming=True, cache_dir=tmp_path)
            rows = {row["record_id"]: row | {"split": name} for name, split in splits.items() for row in split}
    else:
        with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
            for path in example.iterdir():
                archive.write(path, f"code15/{path.name}")
        rows = rows_by_id(tmp_path / "c.zip")
    assert rows == expected


def test_a_compressed_archive_is_refused_with_what_to_do(example, tmp_path):
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in example.iterdir():
            archive.write(path, path.name)
    with pytest.raises(EcgAccessError, match="is compressed and can only be read whole; unpack the archive"):
        build(tmp_path / "c.zip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {"tracings": arrays["tracings"]}, "should hold the array 'exam_id' itself"),
        (lambda arrays: arrays | {"tracings": arrays["tracings"][:, :4000]}, r"expected tracings of \(N, 4096, 12\)"),
        (lambda arrays: arrays | {"exam_id": arrays["exam_id"][:-1]}, "expected an exam_id for each tracing"),
        (lambda arrays: arrays | {"exam_id": arrays["exam_id"] * 1.0}, "expected an exam_id for each tracing"),
        (
            lambda arrays: arrays | {"exam_id": np.append(arrays["exam_id"][:1], arrays["exam_id"][:-1])},
            "expected every exam once",
        ),
    ],
)
def test_a_part_that_is_laid_out_otherwise_is_refused(change, message, example):
    change_part(example, change)
    with pytest.raises(EcgError, match=message):
        build(example)


@pytest.mark.parametrize("damage", ["cut", "page", "empty"])
def test_a_damaged_part_is_refused(damage, example):
    path = example / "exams_part0.hdf5"
    path.write_bytes({"cut": path.read_bytes()[:-5000], "page": b"<html>403</html>", "empty": b""}[damage])
    with pytest.raises(EcgFormatError, match=r"exams_part0\.hdf5 is no HDF5 file that can be read"):
        build(example)


def test_a_flipped_bit_in_a_compressed_tracing_is_found(example):
    path = example / "exams_part0.hdf5"
    with h5py.File(path) as file:
        offset = file["tracings"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 500] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(EcgFormatError, match=r"record \d+ of .*is no HDF5 file that can be read \(tracings"):
        rows_by_id(example)
