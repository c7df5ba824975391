import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from scipy.io import loadmat

from ecg_hf.corpora.loading import load_corpus, open_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.sources.challenge.chapman import (
    BEATS,
    COLUMNS,
    FOLDERS,
    RHYTHMS,
    Chapman,
    parse_labels,
    read_workbook,
    write_workbook,
)
from ecg_hf.corpora.sources.challenge.cohort import deal_splits
from ecg_hf.corpora.sources.challenge.snomed import ACRONYMS
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.csv import decode
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal
from places import SHARED

REAL = SHARED / "chapman-figshare"
real = pytest.mark.skipif(not REAL.is_dir(), reason="no real data here")
HEADER = ",".join(LEADS)


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("chapman") / "figshare"
    Chapman.write_example(folder, 12)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


@pytest.fixture(scope="module")
def table():
    """The rows of the complete official table."""
    return list(read_workbook((REAL / "Diagnostics.xlsx").read_bytes(), "Diagnostics.xlsx", COLUMNS))


@pytest.fixture(scope="module")
def index():
    corpus = open_corpus("chapman", None, str(REAL))
    return corpus.read_index(corpus._open())


def rows_of(folder, config="raw", **options):
    splits = load_corpus("chapman", config, str(folder), streaming=True, **options)
    return {row["record_id"]: row | {"split": split} for split, rows in splits.items() for row in rows}


def names_in(labels, label_set):
    return [name for kind, name, _ in labels if kind == label_set]


def rewrite(folder, change):
    """Changes the rows of a small corpus' table, header first."""
    rows = [
        COLUMNS,
        *(list(row.values()) for row in read_workbook((folder / "Diagnostics.xlsx").read_bytes(), "x", COLUMNS)),
    ]
    write_workbook(folder / "Diagnostics.xlsx", change([list(row) for row in rows]))


# comma-separated tables


@pytest.mark.parametrize("unit", ["uV", "mV"])
def test_a_table_is_what_numpy_reads(unit):
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(0, 500 if unit == "uV" else 0.5, (40, 12)), 3)
    text = "\n".join(",".join(map(str, row)) for row in values.tolist())
    expected = np.genfromtxt(text.splitlines(), delimiter=",").T / (1000 if unit == "uV" else 1)
    tables = (decode(f"{HEADER}\n{text}\n".encode(), "x", 500, unit), decode(text.encode(), "x", 500, unit, LEADS))
    for record in tables:
        assert record.leads == LEADS and record.samples.shape == (12, 40)
        np.testing.assert_allclose(record.signal, expected, atol=0.000501)


def test_the_columns_are_named_by_the_header_whatever_their_order():
    order = np.random.default_rng(0).permutation(12)
    lines = [",".join(LEADS[lead].upper() for lead in order), ",".join(str(100 * lead) for lead in order)]
    record = decode("\r\n".join(lines).encode(), "x", 500, "uV").select(LEADS)
    np.testing.assert_array_equal(record.samples[:, 0], 100 * np.arange(12))


def test_a_missing_sample_is_missing_and_no_step_is_lost():
    record = decode(b"I,II\n1,nan\n-30001,2\n", "x", 500, "uV")
    np.testing.assert_array_equal(record.signal, np.array([[0.001, -30.001], [np.nan, 0.002]], np.float32))


@pytest.mark.parametrize(
    ("data", "leads", "kind", "message"),
    [
        (b"", None, EcgFormatError, "where the names of the leads should be"),
        (b"I,II\n", None, EcgFormatError, "an empty line or no lines"),
        (b"1,2\n3,4\n", None, EcgFormatError, "'1,2' where the names of the leads should be"),
        (b"I,II\n1,2\n", ("I", "II"), EcgFormatError, "could not convert string 'I'"),
        (b"I,II\n1,2\n\n3,4\n", None, EcgFormatError, "an empty line or no lines"),
        (b"I,II\n1,2\n3\n", None, EcgFormatError, "number of columns changed"),
        (b"I,II\n1,2,3\n", None, EcgFormatError, "3 columns"),
        (b"I,II\n1,\n", None, EcgFormatError, "could not convert string ''"),
        (b"I,II\n1,1_0\n", None, EcgFormatError, "could not convert"),
        (b"I,II\n1;2\n", None, EcgFormatError, "could not convert"),
        (b"I,II\n1,0x1\n", None, EcgFormatError, "could not convert"),
        (b"I,II\n1,2#3\n", None, EcgFormatError, "could not convert"),
        (b"I,II\n1,inf\n", None, EcgFormatError, "expected finite samples"),
        (b"I,II\n1,\xff\n", None, EcgFormatError, "can't decode byte"),
        (b"I,VX1\n1,2\n", None, EcgLeadError, "expected a spelling of one of"),
        (b"I,I\n1,2\n", None, EcgLeadError, "expected every lead once"),
    ],
)
def test_what_is_no_table_of_samples_is_refused(data, leads, kind, message):
    with pytest.raises(kind, match=message):
        decode(data, "x", 500, "uV", leads)


def test_a_table_without_a_voltage_or_with_a_row_too_few_is_refused():
    with pytest.raises(EcgUnitsError, match="expected a unit of voltage"):
        decode(b"I\n1\n", "x", 500, "steps")
    layout = Layout(("I",), 500, num_samples=3)
    assert decode(b"I\n1\n2\n3\n", "x", 500, "uV", layout=layout).samples.shape == (1, 3)
    for stop in range(2, 7):
        with pytest.raises((EcgIntegrityError, EcgFormatError), match=r"x: expected"):
            decode(b"I\n1\n2\n3\n"[:stop], "x", 500, "uV", layout=layout)


# the official files


@real
def test_every_real_recording_is_that_of_the_physionet_form_sample_for_sample(tmp_path):
    rows = rows_of(REAL, cache_dir=tmp_path, allow_missing=True)
    assert rows.keys() == {path.stem for path in (REAL / "ECGData").iterdir()} and len(rows) == 12
    places = {
        path.stem: path
        for name in ("challenge-2021", "legacy-headers", "ecg-arrhythmia")
        for path in (SHARED / name).rglob("JS*.mat")
    }
    for row in rows.values():
        np.testing.assert_array_equal(
            row_to_signal(row), (loadmat(places[row["patient_id"]])["val"] / 1000).astype("f4")
        )
        assert (row["leads"], row["sampling_rate"], row["num_samples"]) == (list(LEADS), 500, 5000)


@real
def test_age_sex_and_diagnoses_are_those_of_the_physionet_headers(index):
    challenge = open_corpus("challenge2021", "chapman_shaoxing", str(SHARED / "challenge-2021"))
    others = {challenge.canonical_id(entry): entry for entry in challenge.read_index(challenge._open())}
    corpus = open_corpus("chapman", None, str(REAL))
    here = {corpus.canonical_id(entry): entry for entry in index}
    assert len(here) == 10_646 and len(others) == 12 and others.keys() <= here.keys()
    for name, other in others.items():
        entry = here[name]
        assert (entry.age, entry.sex, entry.patient_id) == (other.age, other.sex, other.patient_id)
        codes = {ACRONYMS[acronym] for acronym in names_in(entry.labels, "all")}
        assert codes == set(names_in(other.labels, "snomed"))


@real
def test_a_real_denoised_file_keeps_its_first_row(tmp_path):
    (row,) = rows_of(REAL, "denoised", cache_dir=tmp_path, allow_missing=True).values()
    expected = np.loadtxt(REAL / f"ECGDataDenoised/{row['record_id']}.csv", delimiter=",").T
    assert expected.shape == (12, 5000) and row["num_samples"] == 5000
    np.testing.assert_allclose(row_to_signal(row), expected / 1000, atol=0.000501)
    np.testing.assert_allclose(row_to_signal(row)[:2, 0], [-0.16533, -0.35897], atol=0.000501)


@real
def test_the_labels_of_the_real_table_are_as_many_as_the_study_counts(index, table):
    counts = Counter(name for entry in index for name in names_in(entry.labels, "all"))
    assert len(counts) == 67 and sum(count >= 10 for count in counts.values()) == 42
    assert set(counts) == {*BEATS, *RHYTHMS} and not set(BEATS) & set(RHYTHMS)
    for column, label_set in {"Rhythm": "rhythm", "Beat": "beat"}.items():
        expected = Counter(name for row in table for name in row[column].split() if name != "NONE")
        assert Counter(name for entry in index for name in names_in(entry.labels, label_set)) == expected
    assert sum(not names_in(entry.labels, "beat") for entry in index) == 5419
    assert Counter(entry.sex for entry in index) == {"male": 5956, "female": 4690}
    assert [entry.record_id for entry in index] == [row["FileName"] for row in table]
    for entry, row in zip(index, table, strict=True):
        assert entry.age_over_89 == (int(row["PatientAge"]) > 89)
        assert entry.age == (None if entry.age_over_89 else float(row["PatientAge"]))


@real
def test_a_recording_has_the_split_that_physionets_forms_give_it(index, table):
    codes = {}
    for number, row in reversed(list(enumerate(table, 1))):
        if row["Rhythm"] != "SA":
            names = sorted({*row["Beat"].split(), row["Rhythm"]} & ACRONYMS.keys())
            codes[f"JS{number:05d}"] = list(dict.fromkeys(ACRONYMS[name] for name in names))
    splits = {entry.patient_id: entry.split for entry in index}
    expected = deal_splits(codes, "chapman_shaoxing")
    assert len(expected) == 10_247 and {patient: splits[patient] for patient in expected} == expected


@real
def test_every_split_has_its_share_of_every_frequent_label(index):
    sizes = Counter(entry.split for entry in index)
    assert abs(sizes["test"] - 1064.6) < 15 and abs(sizes["validation"] - 1064.6) < 15
    counts = Counter(name for entry in index for name in names_in(entry.labels, "all"))
    in_test = Counter(name for entry in index if entry.split == "test" for name in names_in(entry.labels, "all"))
    for name, count in counts.items():
        share = 0.1 if name in RHYTHMS else 0.5  # beats that share a code are not told apart when folds are dealt
        if count >= 100:
            assert abs(in_test[name] - count / 10) <= share * count / 10 + 1, name


# labels


def row_with(**fields):
    return {"FileName": "MUSE_1", "Rhythm": "SB", "Beat": "NONE", "PatientAge": "85", "Gender": "MALE"} | fields


def test_none_is_no_beat_and_each_beat_counts_once():
    assert parse_labels(row_with()) == (("rhythm", "SB", 1.0), ("all", "SB", 1.0))
    assert parse_labels(row_with(Beat="RBBB  TWC RBBB ")) == (
        ("beat", "RBBB", 1.0),
        ("beat", "TWC", 1.0),
        ("rhythm", "SB", 1.0),
        ("all", "RBBB", 1.0),
        ("all", "TWC", 1.0),
        ("all", "SB", 1.0),
    )


@pytest.mark.parametrize(
    "change", [{"Beat": "NONE RBBB"}, {"Beat": "rbbb"}, {"Beat": "SB"}, {"Rhythm": "SI"}, {"Rhythm": ""}]
)
def test_a_label_that_the_table_does_not_use_is_refused(change):
    with pytest.raises(EcgFormatError, match="MUSE_1: expected beats and rhythms of the official table, got"):
        parse_labels(row_with(**change))


# trees


def test_the_example_is_read_in_both_forms(official, tmp_path):
    raw, denoised = (rows_of(official, config, cache_dir=tmp_path) for config in FOLDERS)
    assert len(raw) == len(denoised) == 12
    for name, row in raw.items():
        expected = np.loadtxt(official / f"ECGData/{name}.csv", delimiter=",", skiprows=1).T / 1000
        np.testing.assert_allclose(row_to_signal(row), expected, atol=1e-6)
        assert row == denoised[name]


def test_reading_one_form_as_the_other_is_refused(example, tmp_path):
    (example / "ECGData").rename(example / "x")
    (example / "ECGDataDenoised").rename(example / "ECGData")
    (example / "x").rename(example / "ECGDataDenoised")
    with pytest.raises(EcgFormatError, match="where the names of the leads should be"):
        rows_of(example, "raw", cache_dir=tmp_path / "cache")
    with pytest.raises(EcgFormatError, match="could not convert string 'I'"):
        rows_of(example, "denoised", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("config", FOLDERS)
def test_a_recording_that_is_cut_off_is_found(config, example, tmp_path):
    path = sorted((example / FOLDERS[config]).iterdir())[0]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(EcgIntegrityError, match=r"expected 5000 samples per lead, got 4999"):
        rows_of(example, config, cache_dir=tmp_path / "cache")


def test_leads_in_another_order_are_refused(example, tmp_path):
    path = sorted((example / "ECGData").iterdir())[0]
    path.write_text(path.read_text().replace("aVL,aVF", "aVF,aVL"))
    with pytest.raises(EcgLeadError, match=f"record {path.stem} of .* in this order"):
        rows_of(example, cache_dir=tmp_path / "cache")


def test_a_missing_recording_is_missed(example, tmp_path):
    path = sorted((example / "ECGData").iterdir())[0]
    path.unlink()
    with pytest.raises(MissingFileError, match=rf"1 records of .* lack files, such as \['ECGData/{path.name}'\]"):
        rows_of(example, cache_dir=tmp_path / "cache")
    assert len(rows_of(example, cache_dir=tmp_path / "cache", allow_missing=True)) == 11


def test_the_rows_of_a_part_of_the_table_are_not_taken_for_recordings_of_physionet(official):
    corpus = open_corpus("chapman", None, str(official))
    for entry in corpus.read_index(corpus._open()):
        assert entry.patient_id == entry.record_id
        assert corpus.canonical_id(entry) == f"chapman:{entry.record_id}"


def change(row, column, value):
    def apply(rows):
        rows[row][COLUMNS.index(column)] = value
        return rows

    return apply


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (change(0, "Beat", "Beats"), EcgFormatError, r"should have each of the columns \['Beat'\] once"),
        (change(0, "TOffset", "Beat"), EcgFormatError, r"should have each of the columns \['Beat'\] once"),
        (change(3, "PatientAge", ""), EcgFormatError, r"Diagnostics\.xlsx, row 4: expected every field filled"),
        (change(3, "PatientAge", "old"), EcgFormatError, "expected an age from 0 to 120"),
        (change(3, "Gender", "FEMAL"), EcgFormatError, "expected a sex of"),
        (change(3, "Rhythm", "XX"), EcgFormatError, r"expected beats and rhythms of the official table, got \['XX'\]"),
        (change(3, "FileName", "../MUSE"), EcgAccessError, "not a plain path below the root"),
        (change(3, "FileName", "MUSE_20180113_171327_00000"), EcgIntegrityError, "is in the index twice"),
        (lambda rows: rows[:1], EcgIntegrityError, "the index of the corpus is empty"),
    ],
    ids=range(9),
)
def test_a_damaged_table_is_refused(damage, kind, message, example, tmp_path):
    rewrite(example, damage)
    with pytest.raises(kind, match=message):
        rows_of(example, cache_dir=tmp_path / "cache")


def test_what_is_no_workbook_is_refused(example, tmp_path, monkeypatch):
    good = (example / "Diagnostics.xlsx").read_bytes()
    for data in (b"", b"FileName,Rhythm\n", good[:-100], good[: len(good) // 2]):
        with pytest.raises(EcgFormatError, match=r"Diagnostics\.xlsx: expected a workbook, got"):
            list(read_workbook(data, "Diagnostics.xlsx", COLUMNS))
    monkeypatch.setattr("ecg_hf.corpora.sources.challenge.chapman.MAX_BYTES", 1000)
    with pytest.raises(EcgFormatError, match="bytes when unpacked, over 1000"):
        list(read_workbook(good, "Diagnostics.xlsx", COLUMNS))


def test_a_workbook_needs_openpyxl_and_says_so(official, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"needs openpyxl; install it with pip install 'ecg_hf\[io\]'"):
        list(read_workbook((official / "Diagnostics.xlsx").read_bytes(), "Diagnostics.xlsx", COLUMNS))
