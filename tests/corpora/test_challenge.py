import csv
import logging
import shutil
import warnings
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from scipy.io import loadmat

from ecg_hf.corpora.demographics import parse_age, parse_codes, parse_comments, parse_sex
from ecg_hf.corpora.loading import load_corpus, open_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.sources.challenge.cohort import COHORTS, ODD, canonical_id, cohort_of, deal_splits
from ecg_hf.corpora.sources.challenge.ecg_arrhythmia import ECGArrhythmia
from ecg_hf.corpora.sources.challenge.ningbo import Ningbo
from ecg_hf.corpora.sources.challenge.record_tree import STYLES, write_lists, write_matlab_record
from ecg_hf.corpora.sources.challenge.snomed import CHALLENGE, CPSC, FIRST_RELEASE, NINGBO
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError, EcgUnitsError
from ecg_hf.registry import CORPORA, load
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal
from file_server import serve
from places import SHARED

with warnings.catch_warnings():  # wfdb 4.3.1 asks pandas 3.1 for what pandas 4 will not have
    warnings.simplefilter("ignore")
    import wfdb

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")

REAL = SHARED / "challenge-2021"
real = pytest.mark.skipif(not REAL.is_dir(), reason="no real data here")
NUM_REAL = {"chapman_shaoxing": 12, "cpsc_2018": 12, "georgia": 52, "ningbo": 48, "ptb-xl": 33}


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Fourteen recordings of Ningbo and two broken ones, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("ningbo") / "challenge-2021/1.0.3"
    Ningbo.write_example(folder, 14)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """The same, of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def rows_of(name, folder, config=None, **options):
    place = folder if str(folder).startswith("http") else str(folder)
    splits = load_corpus(name, config, place, streaming=True, **options)
    return {row["record_id"]: row | {"split": split} for split, rows in splits.items() for row in rows}


def entries_of(name, folder, config=None, **options):
    corpus = open_corpus(name, config, str(folder), **options)
    return {entry.record_id: entry for entry in corpus.read_index(corpus._open())}


def names_in(row, label_set):
    return [label["name"] for label in row["labels"] if label["set"] == label_set]


def edit(path, *replacements):
    text = path.read_text(encoding="ascii")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="ascii")


# real recordings


@real
@pytest.mark.parametrize("place", ["challenge-2021", "legacy-headers", "ecg-arrhythmia"])
def test_every_real_recording_is_what_scipy_and_wfdb_read(place, tmp_path):
    name = "ecg_arrhythmia" if place == "ecg-arrhythmia" else "challenge2021"
    rows = rows_of(name, SHARED / place, cache_dir=tmp_path)
    paths = sorted((SHARED / place).rglob("*.mat"))
    assert {path.stem for path in paths} == rows.keys()
    refused = 0
    for path in paths:
        row = rows[path.stem]
        signal = row_to_signal(row)
        np.testing.assert_array_equal(signal, (loadmat(path)["val"] / 1000).astype(np.float32))
        assert (row["leads"], row["sampling_rate"]) == (list(LEADS), 500) and set(row["gain"]) == {1000.0}
        try:
            record = wfdb.rdrecord(str(path.with_suffix("")))
        except wfdb.io.header.HeaderSyntaxError:
            refused += 1  # the names with .mat of 2020
            continue
        np.testing.assert_array_equal(signal, record.p_signal.T.astype(np.float32))
        said = dict(comment.split(": ", 1) for comment in record.comments)
        assert row["sex"] == said["Sex"].lower() and row["age_over_89"] == (float(said["Age"]) > 89)
        assert row["age"] == (None if row["age_over_89"] else float(said["Age"]))
        assert [FIRST_RELEASE.get(word, word) for word in said["Dx"].split(",")] == names_in(row, "snomed")
        assert [CHALLENGE[code] for code in names_in(row, "snomed")] == names_in(row, "diagnosis")
    assert refused == (2 if place == "legacy-headers" else 0)


@real
def test_age_sex_and_codes_of_real_headers_are_those_of_an_independent_list():
    with (SHARED / "challenge-2021-metadata/stats_2020_tranches.csv").open(encoding="utf-8", newline="") as file:
        known = {row["record"]: row for row in csv.DictReader(file)}
    entries = entries_of("challenge2021", REAL) | entries_of("challenge2021", SHARED / "legacy-headers")
    shared = [entry for name, entry in entries.items() if name in known]
    assert len(shared) == 12 + 52 + 33
    for entry in shared:
        row = known[entry.record_id]
        assert entry.sex == row["sex"].lower() and entry.age == float(row["age"])
        assert {name for kind, name, _ in entry.labels if kind == "diagnosis"} == set(row["diagnosis"].split(";"))


@real
@pytest.mark.parametrize("cohort", NUM_REAL)
def test_a_config_holds_its_cohort_and_nothing_else(cohort):
    entries = entries_of("challenge2021", REAL, cohort)
    assert len(entries) == NUM_REAL[cohort] and {cohort_of(name) for name in entries} == {cohort}
    everything = entries_of("challenge2021", REAL)
    assert {name: everything[name] for name in entries} == entries and len(everything) == sum(NUM_REAL.values())


@real
def test_the_same_recordings_are_recognised_under_all_their_names(tmp_path):
    canonical = {}
    for name, place in {"challenge2021": "challenge-2021", "ecg_arrhythmia": "ecg-arrhythmia"}.items():
        corpus = open_corpus(name, None, str(SHARED / place))
        for entry in corpus.read_index(corpus._open()):
            record = corpus.read_record(corpus._open(), entry)
            canonical.setdefault(corpus.canonical_id(entry), []).append(record.samples.tobytes())
    twice = [samples for samples in canonical.values() if len(samples) == 2]
    assert len(twice) == 4 and all(first == second for first, second in twice)
    ptbxl = open_corpus("ptbxl", None, str(SHARED / "ptb-xl"))
    same = 0
    for entry in ptbxl.read_index(ptbxl._open()):
        if ptbxl.canonical_id(entry) in canonical:
            same += ptbxl.read_record(ptbxl._open(), entry).samples.tobytes() == canonical[ptbxl.canonical_id(entry)][0]
    assert same == 10


# names


def test_every_recording_has_one_cohort_and_one_name_across_corpora():
    assert {name: cohort_of(name) for name in ("JS10646", "JS10647", "A0001", "Q3581", "E10344", "S0549", "I0075")} == {
        "JS10646": "chapman_shaoxing",
        "JS10647": "ningbo",
        "A0001": "cpsc_2018",
        "Q3581": "cpsc_2018_extra",
        "E10344": "georgia",
        "S0549": "ptb",
        "I0075": "st_petersburg_incart",
    }
    names = ("HR00123", "HR21837", "JS00007", "JS45551", "A0012", "Q0001", "E00001", "S0001", "I0001")
    assert [canonical_id(name) for name in names] == [
        "ptbxl:123",
        "ptbxl:21837",
        "ecg_arrhythmia:JS00007",
        "ecg_arrhythmia:JS45551",
        "cpsc2018:A0012",
        "cpsc_extra:Q0001",
        "georgia:E00001",
        "challenge2021:S0001",
        "challenge2021:I0001",
    ]
    assert sum(cohort.num_records for cohort in COHORTS.values()) == 88_253
    assert all(cohort.owner in CORPORA for cohort in COHORTS.values())


@pytest.mark.parametrize(
    "name",
    ["JS00000", "JS45552", "A0000", "A6878", "A00001", "a0001", "HR21838", "00001_hr", "", "JS1", "A" + "1" * 5000],
)
def test_a_name_that_no_cohort_has_is_refused(name):
    with pytest.raises(EcgFormatError, match="expected the name of a recording of the Challenge"):
        cohort_of(name)


# headers


def test_comments_of_all_generations_are_read_alike():
    for header in (
        b"x\n#Age: 78\n#Sex: Male\n#Dx: 1,2\n#Rx: Unknown\n",
        b"x\r\n# Age: 78\r\n#  Sex:Male \r\n # Dx: 1,2",
    ):
        said = parse_comments(header, "A0001")
        assert [said[key] for key in ("age", "sex", "dx")] == ["78", "Male", "1,2"]


@pytest.mark.parametrize(
    "header",
    [b"", b"#Age: 78\n#Sex: Male\n", b"#Age: 78\n#Sex: Male\n#Dx: 1\n#Dx: 2\n", b"#Age: 1\n#Age: 1\n#Sex:\n#Dx:\n"],
)
def test_a_header_without_a_diagnosis_or_with_two_is_refused(header):
    with pytest.raises(EcgFormatError, match=r"A0001: expected comments of Age, Sex and Dx, each once"):
        parse_comments(header, "A0001")


def test_ages_and_sexes_are_read_as_they_are_meant():
    ages = {"56": (56.0, False), "0": (0.0, False), "89": (89.0, False), "90": (None, True), "104": (None, True)}
    unknown = {text: (None, False) for text in ("NaN", "nan", "-1", "", "Unknown")}
    for text, expected in (ages | unknown | {"57.0": (57.0, False)}).items():
        assert parse_age(text, "A0001") == expected
    for text in ("300", "-2", "5 6", "12d", "1e1", "inf"):
        with pytest.raises(EcgFormatError, match="A0001: expected an age from 0 to 120 or NaN"):
            parse_age(text, "A0001")
    assert [parse_sex(text, "x") for text in ("Male", "F", "FEMALE", "Unknown", "NaN", "")] == ["male"] + [
        "female",
        "female",
    ] + [None] * 3
    with pytest.raises(EcgFormatError, match="A0001: expected a sex of"):
        parse_sex("other", "A0001")


def test_a_list_of_codes_keeps_each_once_and_passes_over_empty_places():
    assert parse_codes("426783006, 284470004,426783006,,", "JS00344", CHALLENGE, {}) == ("426783006", "284470004")
    assert parse_codes("", "x", CHALLENGE, {}) == parse_codes("Unknown", "x", CHALLENGE, {}) == ()
    assert parse_codes("RBBB,AF", "A0001", CPSC, FIRST_RELEASE) == ("59118001", "164889003")


@pytest.mark.parametrize("text", ["251238007", "426783006,6180003", "RBBB", "426783006;284470004", "4.26783006e8"])
def test_a_code_without_a_meaning_is_refused_by_its_name(text):
    with pytest.raises(EcgFormatError, match=rf"JS10650: expected diagnoses .* got \['{text.split(',')[-1]}'\]"):
        parse_codes(text, "JS10650", NINGBO, {})


def test_the_three_generations_of_headers_give_the_same_rows(tmp_path):
    samples = np.arange(12 * 50, dtype=np.int16).reshape(12, 50)
    comments = ("Age: 60", "Sex: Male", "Dx: 426783006")
    rows = []
    for number, style in enumerate(STYLES):
        write_matlab_record(tmp_path / str(number) / "E00002", samples, 500, comments, style)
        rows.append(rows_of("georgia", tmp_path / str(number), cache_dir=tmp_path / "cache"))
    assert len(rows) == 3 and rows[0] == rows[1] == rows[2]
    np.testing.assert_array_equal(row_to_signal(rows[0]["E00002"]), (samples / 1000).astype(np.float32))


@pytest.mark.parametrize("gain", ["306000/mV", "2000000/mV", "4880/mV", "1000/uV", "1000(5)/mV"])
def test_the_wrong_gains_of_the_first_releases_are_refused(gain, example, tmp_path):
    path = next(path for path in example.rglob("*.hea") if "1000.0(0)/mV" in path.read_text() and path.stem not in ODD)
    edit(path, ("1000.0(0)/mV", gain))
    with pytest.raises(EcgUnitsError, match=f"record {path.stem} of .* expected"):
        rows_of("ningbo", example, cache_dir=tmp_path / "cache")


def test_a_changed_sample_or_another_rate_is_found(example, tmp_path):
    path = next(path for path in sorted(example.rglob("*.hea")) if path.stem not in ODD)
    signals = path.with_suffix(".mat")
    data = bytearray(signals.read_bytes())
    data[5000] ^= 4
    signals.write_bytes(data)
    with pytest.raises(EcgIntegrityError, match="expected the checksums"):
        rows_of("ningbo", example, cache_dir=tmp_path / "cache")
    data[5000] ^= 4
    signals.write_bytes(data)
    edit(path, (" 12 500 ", " 12 250 "))
    with pytest.raises(EcgIntegrityError, match="expected 500 Hz, got 250"):
        rows_of("ningbo", example, cache_dir=tmp_path / "cache")


def test_a_header_that_names_another_file_is_refused(example, tmp_path):
    path = next(path for path in sorted(example.rglob("*.hea")) if path.stem not in ODD)
    other = next(name for name in sorted(path.stem for path in path.parent.glob("*.hea")) if name != path.stem)
    edit(path, (f"{path.stem}.mat 16", f"{other}.mat 16"))
    with pytest.raises(EcgIntegrityError, match=rf"names \('{other}\.mat',\), expected {path.stem}\.mat"):
        rows_of("ningbo", example, cache_dir=tmp_path / "cache")


# trees


def test_recordings_are_found_whatever_their_folders(official, tmp_path):
    expected = rows_of("ningbo", official, cache_dir=tmp_path / "cache")
    assert len(expected) == 14
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in official.rglob("*.*"):
        if path.suffix in (".hea", ".mat"):
            shutil.copy(path, flat / path.name)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in official.rglob("*"):
            archive.write(path, f"slug-1.0.3/{path.relative_to(official)}")
    nested = tmp_path / "nested/physionet.org/files"
    shutil.copytree(official.parent, nested / "challenge-2021")
    (nested / "challenge-2021/index.html").write_text("<html>")
    places = [flat, official / "training", official / "training/ningbo", tmp_path / "all.zip", tmp_path / "nested"]
    for place in places:
        assert rows_of("ningbo", place, cache_dir=tmp_path / "cache") == expected
    with serve(official) as (address, _):
        assert rows_of("ningbo", address, cache_dir=tmp_path / "cache") == expected


def test_a_header_that_a_list_promises_is_missed(example, tmp_path):
    path = sorted(path for path in example.rglob("*.hea") if path.stem not in ODD)[3]
    path.unlink()
    with pytest.raises(MissingFileError, match=rf"lacks 1 of the headers and folders .*{path.stem}.*complete"):
        entries_of("ningbo", example)
    assert len(entries_of("ningbo", example, allow_missing=True)) == 13


def test_a_folder_that_a_list_promises_is_missed(example, caplog):
    folder = next(folder for folder in sorted((example / "training/ningbo").iterdir()) if folder.is_dir())
    count = len(list(folder.glob("*.hea")))
    shutil.rmtree(folder)
    with pytest.raises(MissingFileError, match=rf"lacks 1 of the headers and folders .*/{folder.name}/"):
        entries_of("ningbo", example)
    with caplog.at_level(logging.WARNING):
        assert len(entries_of("ningbo", example, allow_missing=True)) >= 14 - count
    assert "left out 1 headers and folders that are not there" in caplog.text


def test_a_missing_signal_is_missed(example, tmp_path):
    path = sorted(path for path in example.rglob("*.mat") if path.stem not in ODD)[3]
    path.unlink()
    with pytest.raises(MissingFileError, match=r"1 records of .* lack files"):
        rows_of("ningbo", example, cache_dir=tmp_path / "cache")
    rows = rows_of("ningbo", example, cache_dir=tmp_path / "cache", allow_missing=True)
    assert len(rows) == 13 and path.stem not in rows


def test_recordings_that_are_known_to_be_broken_are_left_out_counted_and_named(official, example, caplog, tmp_path):
    header = next(example.rglob("JS23074.hea"))
    header.rename(header.with_name("S23074.hea"))
    for folder in (official, example):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            rows = rows_of("ningbo", folder, cache_dir=tmp_path / "cache")
        assert len(rows) == 14 and not ODD & rows.keys()
        assert "left out 2 records" in caplog.text and "JS13118, as its signal file" in caplog.text


def test_another_broken_recording_stops_the_reading(example, tmp_path):
    path = sorted(path for path in example.rglob("*.hea") if path.stem not in ODD)[0]
    text = path.read_text()
    path.write_text(text.replace("\n", " ", 1))
    with pytest.raises(EcgError, match=f"record {path.stem} of"):
        rows_of("ningbo", example, cache_dir=tmp_path / "cache")


def test_a_recording_that_is_there_twice_is_refused(example):
    path = sorted(path for path in example.rglob("*.hea") if path.stem not in ODD)[0]
    (example / "copy").mkdir()
    shutil.copy(path, example / "copy" / path.name)
    with pytest.raises(EcgIntegrityError, match=rf"holds record {path.stem} as copy/{path.stem} and as training/"):
        entries_of("ningbo", example)


def test_a_place_that_holds_other_records_or_none_is_refused(example, tmp_path):
    (example / "1.hea").write_text("1 12 500 5000\n")
    with pytest.raises(EcgFormatError, match="got '1'; set data_dir to a folder that holds nothing else"):
        entries_of("ningbo", example)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EcgIntegrityError, match="index of the corpus is empty"):
        rows_of("ningbo", tmp_path / "empty", cache_dir=tmp_path / "cache")
    with pytest.raises(EcgAccessError, match="is not a folder, zip archive or"):
        rows_of("ningbo", tmp_path / "nothing", cache_dir=tmp_path / "cache")
    with pytest.raises(EcgAccessError, match=r"open access, see https://physionet\.org/.*pass data_dir="):
        load_corpus("ningbo", streaming=True)


def test_a_link_out_of_the_place_is_passed_over_by_name_and_never_read(official, example, tmp_path, caplog):
    (example / "more").symlink_to(official / "training", target_is_directory=True)
    with caplog.at_level(logging.WARNING):
        assert len(entries_of("ningbo", example)) == 14
    assert "passed over more" in caplog.text and "is a link out of" in caplog.text


# splits


def codes_of(numbers, seed=0):
    rng = np.random.default_rng(seed)
    codes, weights = sorted(CHALLENGE), 1 / np.arange(1, len(CHALLENGE) + 1) ** 1.5
    draw = lambda: rng.choice(codes, rng.integers(1, 4), p=weights / weights.sum(), replace=False)  # noqa: E731
    return {number: tuple(draw()) for number in numbers}


def test_a_split_follows_from_names_and_codes_whatever_else_differs():
    names = [f"JS{number:05d}" for number in range(1000, 1600)]
    codes = codes_of(names)
    splits = deal_splits(codes, "chapman_shaoxing")
    shuffled = {name: codes[name][::-1] for name in np.random.default_rng(1).permutation(names).tolist()}
    assert deal_splits(shuffled, "chapman_shaoxing") == splits
    without = {name: code for name, code in codes.items() if name != "JS01052"}
    assert splits["JS01052"] == "train" and deal_splits(without, "chapman_shaoxing") == {
        name: split for name, split in splits.items() if name != "JS01052"
    }
    assert (
        abs(list(splits.values()).count("test") - 60) <= 3 and abs(list(splits.values()).count("validation") - 60) <= 3
    )


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """The same recordings in the Challenge's form and in that of ecg-arrhythmia, each with its own broken ones."""
    folder = tmp_path_factory.mktemp("twins")
    names = [
        COHORTS[cohort].name(number)
        for cohort in ("chapman_shaoxing", "ningbo")
        for number in COHORTS[cohort].numbers[1040:1065]
    ] + ["JS13118"]
    samples = np.ones((12, 20), np.int16)
    for name, codes in codes_of(names).items():
        for place, style in (("a/training/" + cohort_of(name) + "/g1", STYLES[0]), ("b/WFDBRecords/01/010", STYLES[1])):
            path = folder / place / name
            kept = tuple(code for code in codes if code in NINGBO) or ("426783006",)
            write_matlab_record(path, samples, 500, ("Age: 1", "Sex: M", f"Dx: {','.join(kept)}"), style)
    write_lists(folder / "a")
    write_lists(folder / "b")
    (folder / "b" / ECGArrhythmia.marker).write_text("AcronymName,FullName,Snomed_CT\n")
    return folder


def test_a_recording_has_the_same_split_and_name_in_every_corpus(twins):
    here = {
        config: entries_of("challenge2021", twins / "a", config) for config in ("all", "chapman_shaoxing", "ningbo")
    }
    ningbo, other = entries_of("ningbo", twins / "a"), entries_of("ecg_arrhythmia", twins / "b")
    splits = {name: entry.split for name, entry in here["all"].items()}
    assert set(splits.values()) == {"train", "validation", "test"}
    for entries in (here["chapman_shaoxing"], here["ningbo"], ningbo):
        assert {name: splits[name] for name in entries} == {name: entry.split for name, entry in entries.items()}
    assert other.keys() ^ splits.keys() == {"JS01052", "JS13118"}
    shared = other.keys() & splits.keys()
    assert {name: other[name].split for name in shared} == {name: splits[name] for name in shared}
    assert other["JS13118"].split == splits["JS01052"] == "train"


def test_only_the_patients_of_chapman_are_told_apart(twins):
    for name, folder in {"challenge2021": "a", "ecg_arrhythmia": "b"}.items():
        for record, entry in entries_of(name, twins / folder).items():
            assert entry.patient_id == (record if cohort_of(record) == "chapman_shaoxing" else None)
    names = ("challenge2021", "cpsc2018", "cpsc_extra", "ecg_arrhythmia", "georgia", "ningbo")
    assert not any(load(CORPORA, name).patient_level for name in names)


def test_a_part_of_a_cohort_is_said_to_have_folds_of_its_own(official, caplog):
    with caplog.at_level(logging.WARNING):
        entries_of("ningbo", official)
    assert "only 14 of 34903 records of ningbo are here, so their folds may differ from those of all" in caplog.text


def test_the_example_has_the_traps_of_the_real_corpus(official):
    texts = [path.read_text() for path in official.rglob("*.hea")]
    for trap in ("# Age: ", "\n#Age: ", "16+24 1000/mV", "16x1+24 1000.0(0)/mV", "/mv", ".mat 12 500", "NaN", ",\n"):
        assert any(trap in text for text in texts), trap
    assert any("Unknown" in text.split("Sex: ")[1].split("\n")[0] for text in texts)


@pytest.mark.parametrize("name", ["cpsc_extra", "cpsc2018"])
def test_recordings_of_any_length_are_kept_whole(name, tmp_path):
    load(CORPORA, name).write_example(tmp_path / "raw", 8)
    rows = rows_of(name, tmp_path / "raw", cache_dir=tmp_path / "cache")
    lengths = {path.stem: loadmat(path)["val"].shape[1] for path in (tmp_path / "raw").rglob("*.mat")}
    assert {record: row["num_samples"] for record, row in rows.items()} == lengths and len(set(lengths.values())) > 3
