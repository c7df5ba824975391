import csv
import shutil
import warnings
from collections import Counter

import datasets
import numpy as np
import pytest

from ecg_hf.corpora.index import check_index
from ecg_hf.corpora.loading import load_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.ludb import LUDB, parse_entry
from ecg_hf.errors import EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.registry import register_corpora
from ecg_hf.signals.quality import quality_flags
from ecg_hf.signals.record import LEADS, LIMB_LEADS
from ecg_hf.signals.row import row_to_signal
from places import SHARED

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pandas, which wfdb uses in a way that it is about to lose
    import wfdb

SAMPLES = SHARED / "ludb"
real = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real data here")
ROW = dict.fromkeys(("Cardiac pacing", "Other states", "Extrasystolies", "Conduction abnormalities"), "") | {
    "ID": "4",
    "Sex": "M\n",
    "Age": "56\n",
    "Rhythms": "Sinus rhythm",
    "Electric axis of the heart": "Electric axis of the heart: normal",
    "Hypertrophies": "Left atrial hypertrophy\nLeft ventricular hypertrophy",
    "Ischemia": "Stemi: apical",
    "Non-specific repolarization abnormalities": "",
}


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    register_corpora()


def builder(folder, config, tmp_path, **options):
    return LUDB(config_name=config, data_dir=str(folder), cache_dir=tmp_path / "cache", **options)


@pytest.fixture
def example(tmp_path):
    LUDB.write_example(tmp_path / "raw", 12)
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    return LUDB(cache_dir=tmp_path_factory.mktemp("cache")).read_index(FolderRoot(SAMPLES))


# the table


def test_a_row_of_the_table_is_read_as_it_is_meant():
    entry = parse_entry(ROW)
    assert (entry.record_id, entry.patient_id, entry.path) == ("4", "4", "data/4")
    assert (entry.age, entry.age_over_89, entry.sex) == (56.0, False, "male")
    assert entry.labels == (
        ("rhythm", "Sinus rhythm", 1.0),
        ("axis", "Electric axis of the heart: normal", 1.0),
        ("hypertrophy", "Left atrial hypertrophy", 1.0),
        ("hypertrophy", "Left ventricular hypertrophy", 1.0),
        ("ischemia", "Stemi: apical", 1.0),
    )
    for age in (">89\n", "90"):
        old = parse_entry(ROW | {"Age": age, "Sex": "F\n"})
        assert (old.age, old.age_over_89, old.sex) == (None, True, "female")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Sex": "W"}, "a sex of"),
        ({"Sex": ""}, "a sex of"),
        ({"ID": "x"}, "expected a number"),
        ({"ID": "../4"}, "expected a number"),
        ({"Rhythms": "Sinus rythm"}, r"known diagnoses, got 'M' and \['Sinus rythm'\]"),
        ({"Ischemia": "Sinus rhythm"}, "known diagnoses"),
        ({"Age": "5 6"}, "row 4 of ludb.csv: expected an age"),
        ({"Age": "251"}, "expected an age"),
        ({"Age": ""}, "expected an age"),
    ],
)
def test_a_field_without_a_meaning_is_refused_and_its_row_named(change, message):
    with pytest.raises(EcgFormatError, match=message):
        parse_entry(ROW | change)


@real
def test_the_whole_corpus_has_the_published_counts(entries):
    check_index(entries, LUDB.label_sets, patient_level=True)
    assert len(entries) == LUDB.num_records == 200 and Counter(e.sex for e in entries) == {"male": 115, "female": 85}
    counts = Counter(name for entry in entries for _, name, _ in entry.labels)
    published = {  # of the corpus' own README
        "Sinus rhythm": 143,
        "Atrial fibrillation": 15,
        "Electric axis of the heart: vertical": 26,
        "I degree av block": 10,
        "Incomplete right bundle branch block": 29,
        "Left ventricular hypertrophy": 108,
        "Stemi: anterior wall": 8,
        "Ischemia: septal": 4,
        "Ventricular extrasystole, type: single pvc": 6,
    }
    assert {name: counts[name] for name in published} == published
    assert sum(kind == "axis" for entry in entries for kind, *_ in entry.labels) == 190
    assert [entry.record_id for entry in entries if entry.age_over_89] == ["34"]
    assert min(entry.age for entry in entries if entry.age is not None) == 11


@real
def test_every_label_is_used_and_every_field_of_the_table_is_a_label(entries):
    with (SAMPLES / "ludb.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    written = {row[0]: {line for field in row[3:] for line in field.split("\n") if line} for row in rows}
    assert {entry.record_id: {name for _, name, _ in entry.labels} for entry in entries} == written
    used = {label[:2] for entry in entries for label in entry.labels}
    assert used == {(kind, name) for kind, names in LUDB.label_sets.items() for name in names}


@real
def test_headers_say_what_the_table_says_but_for_six_undefined_pacemakers(entries):
    differ = []
    for entry in entries:
        path = SAMPLES / f"{entry.path}.hea"
        if not path.is_file():
            continue
        comments = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
        said = {line.rstrip(".").removeprefix("Rhythm: ").lower() for line in comments[3:]}
        missing = {name.lower() for _, name, _ in entry.labels} ^ said
        if missing:
            differ.append(entry.record_id)
            assert missing == {"pacemaker presence, undefined"}
        assert comments[1] == f"<sex>: {entry.sex[0].upper()}"
    assert sorted(differ, key=int) == ["8", "34", "45", "74", "90", "93"]


@real
def test_the_splits_are_eight_folds_one_and_one(entries):
    assert Counter(entry.split for entry in entries) == {"train": 160, "validation": 20, "test": 20}


# signals


@real
@pytest.mark.parametrize("config", ["header", "common_gain"])
def test_all_real_records_are_read_as_wfdb_reads_them(config, tmp_path):
    splits = load_corpus("ludb", config, SAMPLES, streaming=True, cache_dir=tmp_path, allow_missing=True)
    rows = [row for split in splits.values() for row in split]
    assert len(rows) == 170
    for row in rows[::4]:
        signal = row_to_signal(row)
        other = wfdb.rdrecord(str(SAMPLES / "data" / row["record_id"]), physical=config == "header")
        expected = other.p_signal if config == "header" else other.d_signal / 1000
        assert [name.lower() for name in row["leads"]] == other.sig_name and row["sampling_rate"] == other.fs
        np.testing.assert_allclose(signal, expected.T, rtol=0, atol=1e-6)


@real
def test_gains_of_the_headers_contradict_einthoven_and_one_gain_does_not(tmp_path):
    root = FolderRoot(SAMPLES)
    residuals = {"header": [], "common_gain": []}
    flagged = {"header": 0, "common_gain": 0}
    for config, values in residuals.items():
        corpus = builder(SAMPLES, config, tmp_path, allow_missing=True)
        for entry in corpus.read_index(root):
            if not root.exists(f"{entry.path}.dat"):
                continue
            record = corpus.read_record(root, entry)
            limb = record.signal[:6] - record.signal[:6].mean(axis=1, keepdims=True)
            values.append((limb[0] - limb[1] + limb[2]).std() / limb[:3].std())
            flagged[config] += any(flag.kind == "limb_leads" for flag in quality_flags(limb, LEADS[:6], 500))
            if config == "common_gain":
                raw = record.samples[:6].astype(np.float64)
                assert np.abs(raw - LIMB_LEADS @ raw[:2]).max() <= 0.5
    assert np.median(residuals["header"]) == pytest.approx(0.54, abs=0.01) and max(residuals["common_gain"]) < 1e-6
    assert flagged == {"header": 170, "common_gain": 0}


def test_amplitudes_are_uncertain_and_the_docs_say_why():
    assert LUDB.unit == "uncertain mV"
    for text in (LUDB.__doc__, LUDB.description):
        assert "Einthoven" in text and "gain" in text


def test_the_example_has_the_trap_of_the_real_one(example, tmp_path):
    rows = {}
    for config in ("header", "common_gain"):
        splits = load_corpus("ludb", config, example, streaming=True, cache_dir=tmp_path)
        rows[config] = {row["record_id"]: row_to_signal(row) for split in splits.values() for row in split}
    for number, signal in rows["common_gain"].items():
        np.testing.assert_allclose(signal[:6], LIMB_LEADS @ signal[:2], atol=1.6e-3)
        assert np.abs(rows["header"][number]).max() < 1
        assert np.abs(rows["header"][number][:6] - LIMB_LEADS @ rows["header"][number][:2]).max() > 0.05


# damaged trees


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("1 12 500", "1 12 250"), EcgIntegrityError, "expected 500 Hz"),
        (("0 i\n", "0 ii\n"), EcgError, "every lead once"),
        (("0 v1\n", "0 v9\n"), EcgLeadError, "v9"),
        (("1 12 500", "2 12 500"), EcgFormatError, "expected the header of '1'"),
        (("1.dat 16", "2.dat 16"), EcgError, "next to each other|names"),
        (("5000\n", "4999\n"), EcgIntegrityError, "bytes"),
    ],
)
def test_a_damaged_header_is_refused(change, error, message, example, tmp_path):
    path = example / "data" / "1.hea"
    text = path.read_text()
    assert text.count(change[0]) >= 1
    path.write_text(text.replace(*change, 1))
    with pytest.raises(error, match=message):
        for split in builder(example, "header", tmp_path).as_streaming_dataset().values():
            list(split)


def test_a_missing_record_is_named_and_a_foreign_folder_refused(example, tmp_path):
    (example / "data" / "7.dat").unlink()
    with pytest.raises(MissingFileError, match=r"1 records of .* lack files, such as \['data/7\.dat'\]"):
        builder(example, "header", tmp_path).as_streaming_dataset()
    shutil.rmtree(example / "data")
    (example / "ludb.csv").unlink()
    with pytest.raises(EcgError, match=r"holds no ludb\.csv"):
        builder(example, "header", tmp_path).as_streaming_dataset()
