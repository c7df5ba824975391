import csv
import io
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from ecg_hf.corpora.loading import load_corpus, open_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.sources.challenge.cpsc2018 import COLUMNS, CPSC2018, REFERENCE, parse_reference
from ecg_hf.corpora.sources.challenge.record_tree import STYLES, write_matlab_record
from ecg_hf.corpora.sources.challenge.snomed import CPSC, FIRST_RELEASE
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.matlab import read_struct
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal
from places import SHARED

REAL = SHARED / "cpsc2018"
real = pytest.mark.skipif(not REAL.is_dir(), reason="no real data here")
FIELDS = ("sex", "age", "data")


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Ten recordings in their own form, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("cpsc2018") / "original"
    CPSC2018.write_original_example(folder, 10)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """The same, of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def rows_of(folder, config="original", **options):
    splits = load_corpus("cpsc2018", config, str(folder), streaming=True, **options)
    return {row["record_id"]: row | {"split": split} for split, rows in splits.items() for row in rows}


def names_in(row, label_set):
    return [label["name"] for label in row["labels"] if label["set"] == label_set]


def matlab(content, **options):
    file = io.BytesIO()
    savemat(file, content, **options)
    return file.getvalue()


def struct(**fields):
    return {"ECG": {"sex": "Male", "age": 52.0, "data": np.arange(24.0).reshape(12, 2) / 7} | fields}


# MATLAB 5


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_numbers_of_every_type_are_what_scipy_reads(dtype, compressed):
    numbers = np.random.default_rng(0).integers(0, 100, (12, 31)).astype(dtype)
    numbers = numbers / 7 if dtype == "f8" else numbers
    data = matlab(struct(data=numbers), do_compression=compressed)
    found = read_struct(data, "x.mat", "ECG", FIELDS)
    np.testing.assert_array_equal(found["data"], loadmat(io.BytesIO(data))["ECG"][0, 0]["data"].astype(float))
    assert found["data"].dtype == np.float64 and (found["sex"], found["age"].tolist()) == ("Male", [[52.0]])


@real
@pytest.mark.parametrize("path", sorted(REAL.rglob("*.mat")), ids=lambda path: path.stem)
def test_a_real_file_is_what_scipy_reads(path):
    found = read_struct(path.read_bytes(), path.name, "ECG", FIELDS)
    expected = loadmat(path)["ECG"][0, 0]
    np.testing.assert_array_equal(found["data"], expected["data"])
    assert found["sex"] == expected["sex"].item() and found["age"].item() == expected["age"].item()
    assert read_struct(path.read_bytes()[:4096], path.name, "ECG", FIELDS[:2])["sex"] == found["sex"]


def test_empty_fields_are_read_as_empty():
    data = matlab(struct(sex="", age=np.zeros((0, 0))))
    found = read_struct(data, "x.mat", "ECG", FIELDS)
    assert found["sex"] == "" and found["age"].size == 0


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_off_anywhere_is_refused(compressed):
    data = matlab(struct(), do_compression=compressed)
    for stop in range(0, len(data), 3):
        with pytest.raises(EcgFormatError, match=r"x\.mat: expected a MATLAB 5 file with the structure ECG"):
            read_struct(data[:stop], "x.mat", "ECG", FIELDS)


def test_a_changed_byte_of_a_compressed_file_is_found():
    numbers = np.random.default_rng(0).normal(size=(12, 40))
    data = matlab(struct(data=numbers), do_compression=True)
    for place in range(124, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(EcgFormatError, match=r"x\.mat: expected a MATLAB 5 file"):
            read_struct(bytes(changed), "x.mat", "ECG", FIELDS)


@pytest.mark.parametrize(
    "content",
    [
        {"ecg": struct()["ECG"]},
        {"ECG": np.zeros((12, 5))},
        {"ECG": {"age": 1.0, "sex": "Male", "data": np.zeros((12, 5))}},
        {"ECG": {"sex": "Male", "age": 1.0}},
        struct(data=np.zeros((12, 5)) + 1j),
        struct(data=np.zeros((12, 5), bool)),
        struct(data=np.zeros((12, 5), object)),
        struct(data=np.zeros((12, 5, 2))),
        struct(sex={"a": 1}),
        struct(sex=["a", "bc"]),
        struct() | {"other": np.zeros(3)},
        {"first": np.zeros(3)} | struct(),
        {},
    ],
    ids=range(13),
)
@pytest.mark.parametrize("compressed", [False, True])
def test_another_content_is_refused(content, compressed):
    with pytest.raises(EcgFormatError, match=r"x\.mat: expected a MATLAB 5 file"):
        read_struct(matlab(content, do_compression=compressed), "x.mat", "ECG", FIELDS)


def test_another_format_is_refused():
    for data in (b"", b"<!DOCTYPE html>", matlab({"val": np.zeros((12, 5))}, format="4"), b"MATLAB 5.0" + bytes(500)):
        with pytest.raises(EcgFormatError, match=r"x\.mat: expected a MATLAB 5 file"):
            read_struct(data, "x.mat", "ECG", FIELDS)


def test_a_file_that_would_unpack_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("ecg_hf.signals.formats.matlab.MAX_BYTES", 1 << 16)
    data = matlab(struct(data=np.zeros((12, 5000))), do_compression=True)
    assert len(data) < 2000
    with pytest.raises(EcgFormatError, match=r"x\.mat: expected a MATLAB 5 file"):
        read_struct(data, "x.mat", "ECG", FIELDS)


# the organisers' own form


@real
def test_every_real_recording_is_read_in_its_own_form(tmp_path):
    rows = rows_of(REAL, cache_dir=tmp_path)
    assert rows.keys() == {path.stem for path in REAL.rglob("*.mat")} and len(rows) == 6
    with (SHARED / "challenge-2021-metadata/stats_2020_tranches.csv").open(encoding="utf-8", newline="") as file:
        known = {row["record"]: row for row in csv.DictReader(file)}
    words = {"NSR": "Normal", "IAVB": "I-AVB", "VEB": "PVC"}
    for name, row in rows.items():
        expected = loadmat(REAL / f"TrainingSet1/{name}.mat")["ECG"][0, 0]["data"]
        signal = row_to_signal(row)
        assert signal.shape == expected.shape and np.abs(signal - expected).max() <= 0.000501
        assert (row["leads"], row["sampling_rate"], row["patient_id"]) == (list(LEADS), 500, None)
        assert row["sex"] == known[name]["sex"].lower() and row["age"] == float(known[name]["age"])
        codes = [FIRST_RELEASE[words.get(word, word)] for word in known[name]["diagnosis"].split(";")]
        assert names_in(row, "snomed") == codes and names_in(row, "diagnosis") == [CPSC[code] for code in codes]


def test_the_example_is_read_as_it_was_written(official, tmp_path):
    rows = rows_of(official, cache_dir=tmp_path)
    assert list(sorted(rows)) == [f"A{number:04d}" for number in range(1, 11)]
    for path in official.rglob("*.mat"):
        expected = loadmat(path)["ECG"][0, 0]
        row = rows[path.stem]
        np.testing.assert_allclose(row_to_signal(row), expected["data"], atol=0.000501)
        age = float(expected["age"].item())
        assert row["sex"] == expected["sex"].item().lower() and row["age"] == (None if np.isnan(age) else age)
    assert {len(names_in(row, "diagnosis")) for row in rows.values()} == {1, 2}


def test_both_forms_have_the_same_recordings_labels_and_splits(official, tmp_path):
    rows = rows_of(official, cache_dir=tmp_path / "cache")
    for name, row in rows.items():
        samples = np.rint(row_to_signal(row) * 1000).astype(np.int16)
        said = {"female": "Female", "male": "Male"}[row["sex"]]
        age = "NaN" if row["age"] is None else f"{row['age']:g}"
        comments = (f"Age: {age}", f"Sex: {said}", f"Dx: {','.join(names_in(row, 'snomed'))}")
        write_matlab_record(tmp_path / "b/training/cpsc_2018/g1" / name, samples, 500, comments, STYLES[0])
    assert rows_of(tmp_path / "b", "challenge", cache_dir=tmp_path / "cache") == rows
    first, second = (
        open_corpus("cpsc2018", config, str(folder))
        for config, folder in (("original", official), ("challenge", tmp_path / "b"))
    )
    names = [[corpus.canonical_id(entry) for entry in corpus.read_index(corpus._open())] for corpus in (first, second)]
    assert names[0] == names[1] == [f"cpsc2018:A{number:04d}" for number in range(1, 11)]


def test_a_missing_recording_is_missed(example, tmp_path):
    next(example.rglob("A0004.mat")).unlink()
    with pytest.raises(MissingFileError, match=r"1 records of .* lack files, such as \['A0004\.mat'\]"):
        rows_of(example, cache_dir=tmp_path / "cache")
    assert len(rows_of(example, cache_dir=tmp_path / "cache", allow_missing=True)) == 9


def test_a_recording_with_other_leads_or_another_age_is_refused(example, tmp_path):
    path = next(example.rglob("A0004.mat"))
    good = path.read_bytes()
    for content, message in (
        (struct(data=np.zeros((8, 50))), "expected data of 12 leads in rows"),
        (struct(data="none"), "expected data of 12 leads in rows"),
        (struct(age="old"), "expected a text as sex and a number as age"),
        (struct(age=np.ones(3)), "expected a text as sex and a number as age"),
        (struct(age=300.0), "A0004: expected an age"),
        (struct(sex="none"), "A0004: expected a sex"),
        (struct(data=np.full((12, 5), np.inf)), "expected finite samples"),
    ):
        path.write_bytes(matlab(content))
        with pytest.raises(EcgFormatError, match=message):
            rows_of(example, cache_dir=tmp_path / "cache")
    path.write_bytes(good[:-40])
    with pytest.raises(EcgFormatError, match=r"record A0004 of .*A0004\.mat: expected a MATLAB 5 file"):
        rows_of(example, cache_dir=tmp_path / "cache")


def test_a_recording_in_two_folders_is_refused(example, tmp_path):
    path = next(example.rglob("A0004.mat"))
    (example / "again").mkdir()
    shutil.copy(path, example / "again" / path.name)
    with pytest.raises(EcgIntegrityError, match="holds A0004 as"):
        rows_of(example, cache_dir=tmp_path / "cache")


def test_the_numbers_of_the_reference_are_the_nine_diagnoses():
    lines = [",".join(COLUMNS)] + [f"A{number:04d},{number},," for number in range(1, 10)] + ["A0010,5,2,7"]
    codes = parse_reference("\n".join(lines).encode())
    names = [CPSC[codes[f"A{number:04d}"][0]] for number in range(1, 10)]
    assert names == [
        "sinus rhythm",
        "atrial fibrillation",
        "1st degree av block",
        "left bundle branch block",
        "right bundle branch block",
        "premature atrial contraction",
        "ventricular ectopics",
        "st depression",
        "st elevation",
    ]
    assert codes["A0010"] == ("59118001", "164889003", "164884008")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A0001,10,,", r"A0001: expected diagnoses .* got \['10'\]"),
        ("A0001,0,,", r"got \['0'\]"),
        ("A0001,1.0,,", r"got \['1.0'\]"),
        ("A0001,,,", "expected names such as A0001 and a label"),
        ("Q0001,1,,", "expected names such as A0001 and a label"),
        ("../A0001,1,,", "expected the name of a recording of the Challenge"),
        ("A0001,1", "expected 4 fields, got 2"),
    ],
)
def test_a_reference_without_a_meaning_is_refused(row, message):
    with pytest.raises(EcgFormatError, match=message):
        parse_reference(f"{','.join(COLUMNS)}\n{row}\n".encode())
    with pytest.raises(EcgIntegrityError, match="expected A0001 once"):
        parse_reference(f"{','.join(COLUMNS)}\nA0001,1,,\nA0001,1,,\n".encode())


def test_the_own_form_is_found_by_its_reference(official, tmp_path):
    assert len(rows_of(official.parent, cache_dir=tmp_path)) == 10
    (tmp_path / "empty").mkdir()
    with pytest.raises(EcgAccessError, match=rf"holds no {REFERENCE}"):
        rows_of(tmp_path / "empty", cache_dir=tmp_path)
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", official)
    assert rows_of(archive, cache_dir=tmp_path) == rows_of(official, cache_dir=tmp_path)
