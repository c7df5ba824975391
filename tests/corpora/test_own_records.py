import csv
import json
import logging
import pickle
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np
import pytest

from counting_file import Counting
from ecg_hf.corpora.examples import example_samples, write_table, write_wfdb
from ecg_hf.corpora.loading import load_corpus, open_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.corpora.roots.folder import FolderRoot
from ecg_hf.corpora.sources.own.csv import Csv
from ecg_hf.corpora.sources.own.hdf5 import Hdf5
from ecg_hf.corpora.sources.own.label_table import flag_columns, parse_labels, read_table
from ecg_hf.corpora.sources.own.own_records import check_amplitude
from ecg_hf.corpora.sources.own.wfdb_folder import WfdbFolder
from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.registry import register_corpora
from ecg_hf.signals.formats.hdf5 import Form, Hdf5File, decode
from ecg_hf.signals.record import LEADS, LIMB_LEADS, Record
from ecg_hf.signals.row import row_to_signal
from file_server import serve

h5py = pytest.importorskip("h5py")
CORPORA = {"csv": Csv, "hdf5": Hdf5, "wfdb_folder": WfdbFolder}
SETTINGS = {"unit": "uV", "sampling_rate": 500, "leads": list(LEADS)}
ARRAY = {"dataset": "ecg", "axes": ["lead", "sample"]}


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    register_corpora()


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A small folder of each kind, never to be changed by a test."""
    folders = {}
    for name, corpus in CORPORA.items():
        folders[name] = tmp_path_factory.mktemp(name) / "raw"
        folders[name].mkdir()
        corpus.write_example(folders[name], 12)
    return folders


@pytest.fixture(params=sorted(CORPORA))
def kind(request):
    return request.param


@pytest.fixture
def example(kind, examples, tmp_path):
    """A small folder of a test's own."""
    return Path(shutil.copytree(examples[kind], tmp_path / "raw"))


def build(name, folder, **options):
    return CORPORA[name](data_dir=str(folder), cache_dir=Path(folder).parent / "cache", **options)


def rows_by_id(name, folder, **options):
    splits = build(name, folder, **options).as_streaming_dataset()
    return {row["record_id"]: row | {"split": split} for split, rows in splits.items() for row in rows}


def table(folder):
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rewrite(folder, rows, columns=None):
    write_table(folder / "labels.csv", columns or list(rows[0]), rows)


def write_files(folder, kind, numbers, labels="record_id\n", **settings):
    """Writes simulated records in one file each, in microvolts as integers, and a note of settings."""
    folder.mkdir()
    for number in numbers:
        samples = example_samples(number)[:, :500]
        if kind == "hdf5":
            with h5py.File(folder / f"r{number}.h5", "w") as file:
                file["ecg"] = samples
        elif kind == "csv":
            np.savetxt(folder / f"r{number}.csv", samples.T, fmt="%d", delimiter=",")
        else:
            write_wfdb(folder / f"r{number}", samples, 500)
    lines = labels if len(labels) > 10 else labels + "".join(f"r{number}\n" for number in numbers)
    (folder / "labels.csv").write_text(lines)
    if settings:
        (folder / "ecg_hf.yaml").write_text(json.dumps(settings))


# signals


def test_every_kind_of_file_gives_the_signals_that_were_written(kind, examples):
    rows = rows_by_id(kind, examples[kind])
    assert len(rows) == 12
    for name, row in rows.items():
        expected = (example_samples(int(name[1:])) / 1000).astype(np.float32)
        assert row["leads"] == list(LEADS) and row["sampling_rate"] == 500
        np.testing.assert_array_equal(row_to_signal(row), expected)


@pytest.mark.parametrize("unit", ["nV", "uV", "mV", "V"])
@pytest.mark.parametrize("name", ["csv", "hdf5"])
def test_the_unit_that_is_stated_is_the_one_that_is_read(name, unit, tmp_path):
    per_microvolt = {"nV": 1000, "uV": 1, "mV": 0.001, "V": 1e-6}[unit]
    folder, signal = tmp_path / "raw", example_samples(0)[:, :500] * float(per_microvolt)
    write_files(folder, name, [0], **SETTINGS | (ARRAY if name == "hdf5" else {}) | {"unit": unit})
    if name == "csv":
        np.savetxt(folder / "r0.csv", signal.T, delimiter=",")
    else:
        with h5py.File(folder / "r0.h5", "w") as file:
            file["ecg"] = signal
    read = row_to_signal(rows_by_id(name, folder)["r0"])
    np.testing.assert_allclose(read, example_samples(0)[:, :500] / 1000, rtol=1e-6)


@pytest.mark.parametrize("name", ["csv", "hdf5"])
@pytest.mark.parametrize("unit", ["mV", "V", "nV"])
def test_a_unit_that_makes_of_it_no_ecg_is_found(name, unit, tmp_path):
    write_files(tmp_path / "raw", name, [0], **SETTINGS | (ARRAY if name == "hdf5" else {}) | {"unit": unit})
    with pytest.raises(EcgUnitsError, match=r"record r0 of .*expected an ECG of 0\.005 to 50\.0 mV, got "):
        rows_by_id(name, tmp_path / "raw")


def test_the_size_of_an_ecg_is_judged_without_the_offset_of_its_leads_and_its_gaps():
    signal = np.stack([example_samples(0)[lead] / 1000 + 300 * lead for lead in range(3)])
    signal[1, :100], signal[2] = np.nan, np.nan
    check_amplitude(Record.from_millivolts("r", signal, LEADS[:3], 500))
    check_amplitude(Record.from_millivolts("r", signal[2:], LEADS[:1], 500))
    for scale in (1000, 0.001):
        with pytest.raises(EcgUnitsError, match="correct the unit or the gain that is stated"):
            check_amplitude(Record.from_millivolts("r", scale * signal, LEADS[:3], 500, 1e6))


def test_leads_are_put_into_order_by_the_names_that_are_stated(tmp_path):
    order = np.random.default_rng(0).permutation(12)
    leads = [("DI", "Lead II", "iii", "AVR", "avl", "aVF", *LEADS[6:])[place] for place in order]
    folder = tmp_path / "raw"
    write_files(folder, "csv", [3], unit="uV", sampling_rate=500, leads=leads)
    np.savetxt(folder / "r3.csv", example_samples(3)[order, :500].T, fmt="%d", delimiter=",")
    signal = row_to_signal(rows_by_id("csv", folder)["r3"])
    np.testing.assert_array_equal(signal, (example_samples(3)[:, :500] / 1000).astype(np.float32))
    np.testing.assert_allclose(signal[:6], LIMB_LEADS @ signal[:2], atol=0.0016)


def test_two_leads_and_another_rate_stay_what_they_are(tmp_path):
    write_files(tmp_path / "raw", "hdf5", [0], **ARRAY, unit="uV", sampling_rate=257, leads=["V1", "II"])
    with h5py.File(tmp_path / "raw/r0.h5", "w") as file:
        file["ecg"] = example_samples(0)[[6, 1]]
    row = rows_by_id("hdf5", tmp_path / "raw")["r0"]
    assert row["leads"] == ["II", "V1"] and row["sampling_rate"] == 257 and row["num_samples"] == 5000
    np.testing.assert_array_equal(row_to_signal(row), (example_samples(0)[[1, 6]] / 1000).astype(np.float32))


def test_a_gap_stays_a_gap(tmp_path):
    write_files(tmp_path / "raw", "csv", [0], **SETTINGS)
    lines = (tmp_path / "raw/r0.csv").read_text().splitlines()
    lines[7] = "nan" + lines[7][lines[7].index(",") :]
    (tmp_path / "raw/r0.csv").write_text("\n".join(lines))
    signal = row_to_signal(rows_by_id("csv", tmp_path / "raw")["r0"])
    assert np.argwhere(np.isnan(signal)).tolist() == [[0, 7]]


def test_wfdb_records_may_differ_in_rate_gain_leads_and_folder(tmp_path):
    folder = tmp_path / "raw"
    write_files(folder, "wfdb_folder", [0], labels="record_id,file\na,r0\nb,deep/er/r1.hea\n")
    write_wfdb(folder / "deep/er/r1", example_samples(1)[:2, ::5], 100, ["V2", "avf"])
    rows = rows_by_id("wfdb_folder", folder)
    assert (rows["a"]["sampling_rate"], rows["b"]["sampling_rate"]) == (500, 100)
    assert rows["b"]["leads"] == ["aVF", "V2"] and rows["b"]["num_samples"] == 1000
    np.testing.assert_array_equal(row_to_signal(rows["b"])[1], (example_samples(1)[0, ::5] / 1000).astype(np.float32))


# nothing is guessed


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        *(("csv", name) for name in ("unit", "sampling_rate", "leads")),
        *(("hdf5", name) for name in ("unit", "sampling_rate", "leads", "dataset", "axes")),
    ],
)
def test_what_files_do_not_say_must_be_said(name, lacking, tmp_path):
    settings = {**SETTINGS, **ARRAY} if name == "hdf5" else dict(SETTINGS)
    value = settings.pop(lacking)
    write_files(tmp_path / "raw", name, [0, 1], **settings)
    message = rf"does not state {lacking} of its records, which is never guessed; write a line '{lacking}: \.\.\.'"
    with pytest.raises(EcgFormatError, match=message):
        build(name, tmp_path / "raw")
    assert len(rows_by_id(name, tmp_path / "raw", **{lacking: value})) == 2


def test_without_a_note_all_that_is_lacking_is_named(tmp_path):
    write_files(tmp_path / "raw", "hdf5", [0])
    with pytest.raises(EcgFormatError, match="does not state dataset, axes, unit, sampling_rate, leads of its records"):
        build("hdf5", tmp_path / "raw")


def test_arguments_count_for_more_than_the_note(tmp_path):
    write_files(tmp_path / "raw", "hdf5", [0], **SETTINGS | ARRAY | {"gain": 4})
    by_note = rows_by_id("hdf5", tmp_path / "raw")["r0"]
    by_argument = rows_by_id("hdf5", tmp_path / "raw", gain=0.5, sampling_rate=250)["r0"]
    assert (by_note["sampling_rate"], by_argument["sampling_rate"]) == (500, 250)
    np.testing.assert_array_equal(8 * row_to_signal(by_note), row_to_signal(by_argument))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"unit": "mmHg"}, EcgUnitsError, "expected a unit of voltage"),
        ({"unit": 1}, EcgUnitsError, "expected a unit of voltage"),
        ({"sampling_rate": 0}, EcgFormatError, "expected a sampling_rate in Hz, got 0"),
        ({"sampling_rate": "500 Hz"}, EcgFormatError, "expected a sampling_rate in Hz, got '500 Hz'"),
        ({"sampling_rate": True}, EcgFormatError, "expected a sampling_rate in Hz, got True"),
        ({"leads": "I, II"}, EcgFormatError, "expected leads as a list of names, got 'I, II'"),
        ({"leads": []}, EcgFormatError, "expected leads as a list of names"),
        ({"leads": ["I", "MLII"]}, EcgLeadError, "got 'MLII'; rename it if you know it"),
        ({"leads": ["I", "DI"]}, EcgLeadError, "expected every lead once"),
        ({"axes": ["sample", "record", "lead"]}, EcgFormatError, "expected axes of "),
        ({"axes": "lead,sample"}, EcgFormatError, "expected axes of "),
        ({"gain": "2"}, EcgFormatError, "expected a gain in steps per uV, got '2'"),
        ({"gain": 0}, EcgUnitsError, "expected a gain above 0"),
        (
            {"rate": 500},
            EcgFormatError,
            r"ecg_hf\.yaml: expected lines of \[.*\], got \[.*'rate'.*\]; correct or remove",
        ),
        ({"table": "x.csv"}, EcgFormatError, r"ecg_hf\.yaml: expected lines of "),
        ({"label_columns": ["AF"]}, EcgFormatError, r"expected label_columns to be a list of columns of labels\.csv"),
        ({"label_columns": "AF"}, EcgFormatError, "expected label_columns to be a list"),
    ],
)
def test_a_setting_without_a_meaning_is_refused(change, error, message, tmp_path):
    write_files(tmp_path / "raw", "hdf5", [0], **SETTINGS | ARRAY | change)
    with pytest.raises(error, match=message):
        build("hdf5", tmp_path / "raw")


@pytest.mark.parametrize("text", ["unit: [", "- unit", "", "\xff", "!!python/object/apply:os.getcwd []", "a" * 70_000])
def test_a_note_that_is_no_list_of_settings_is_refused(text, tmp_path):
    write_files(tmp_path / "raw", "csv", [0])
    (tmp_path / "raw/ecg_hf.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(EcgFormatError, match=r"^ecg_hf\.yaml"):
        build("csv", tmp_path / "raw")


def test_a_changed_note_is_never_served_from_an_old_cache(tmp_path):
    folder, settings = tmp_path / "raw", SETTINGS | ARRAY
    options = {"data_dir": folder, "cache_dir": tmp_path / "c", "split": "train"}
    write_files(folder, "hdf5", [0, 1, 2], **settings)
    before = load_corpus("hdf5", **options)[0]
    builder = build("hdf5", folder)
    assert builder.fingerprint
    (folder / "ecg_hf.yaml").write_text(json.dumps(settings | {"gain": 2}))
    after = load_corpus("hdf5", **options)[0]
    np.testing.assert_array_equal(row_to_signal(before), 2 * row_to_signal(after))
    with pytest.raises(EcgIntegrityError, match=r"ecg_hf\.yaml changed while the corpus was in use"):
        list(pickle.loads(pickle.dumps(builder)).as_streaming_dataset("train"))


# the table of labels


def test_a_table_says_what_each_record_has(kind, examples):
    rows = rows_by_id(kind, examples[kind])
    for said in table(examples[kind]):
        row = rows[said["record_id"]]
        of = defaultdict(dict)
        for label in row["labels"]:
            of[label["set"]][label["name"]] = label["value"]
        listed = {name.strip() for name in said["labels"].split(";") if name}
        assert of["label"] == dict.fromkeys(listed | ({"AF"} if said["AF"] == "1" else set()), 1.0)
        assert of["value"] == {name: float(said[name]) for name in ("AF", "heart_rate") if said[name]}
        assert row["patient_id"] == said["patient_id"] and row["age_over_89"] == (said["age"] == "93")
        assert row["age"] == (56.0 if said["age"] == "56" else None)
        assert row["sex"] == {"female": "female", "M": "male", "": None}[said["sex"]]
    builder = build(kind, examples[kind])
    assert builder.fingerprint and builder.patient_level
    assert builder.label_sets == {"label": ("1AVB", "AF", "LBBB"), "value": ("AF", "heart_rate")}


def test_zeros_and_empty_fields_are_told_apart_only_in_values():
    rows = [{"AF": text} for text in ("1", "0", "", "1.0", "0.0")]
    assert flag_columns(rows, ["AF"]) == ["AF"]
    assert [parse_labels(row, ["AF"], ["AF"], "r") for row in rows] == [
        (("label", "AF", 1.0), ("value", "AF", 1.0)),
        (("value", "AF", 0.0),),
        (),
        (("label", "AF", 1.0), ("value", "AF", 1.0)),
        (("value", "AF", 0.0),),
    ]
    numbers = [{"rate": "1"}, {"rate": "60"}]
    assert flag_columns(numbers, ["rate"]) == []
    assert parse_labels(numbers[0], ["rate"], [], "r") == (("value", "rate", 1.0),)


@pytest.mark.parametrize("text", ["yes", "nan", "NA", "1,5", "inf", "1e999", "0x1"])
def test_a_column_of_labels_that_holds_no_number_is_refused(text):
    with pytest.raises(EcgFormatError, match="r: expected numbers or empty fields in columns of labels, got"):
        parse_labels({"AF": text}, ["AF"], [], "r")


def test_a_label_that_its_column_denies_is_refused():
    with pytest.raises(EcgFormatError, match=r"r: expected labels to agree with the columns, got \['AF'\] with 0"):
        parse_labels({"labels": "LBBB; AF", "AF": "0"}, ["AF"], ["AF"], "r")


def test_only_the_columns_that_are_asked_for_are_labels(tmp_path):
    labels = "record_id,AF,hospital\nr0,1,A\nr1,0,B\n"
    write_files(tmp_path / "raw", "wfdb_folder", [0, 1], labels=labels)
    with pytest.raises(EcgFormatError, match=r"record 'r0' of labels\.csv: expected numbers .*'hospital': 'A'"):
        build("wfdb_folder", tmp_path / "raw")
    builder = build("wfdb_folder", tmp_path / "raw", label_columns=["AF"])
    assert builder.fingerprint and builder.label_sets == {"label": ("AF",), "value": ("AF",)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected columns separated by commas"),
        (b"id,AF\n1,1\n", "one of them record_id"),
        (b"record_id;AF\n1;1\n", r"got \['record_id;AF'\]; rename them"),
        (b",record_id\n0,a\n", r"leave out an index \(index=False in pandas\)"),
        (b"record_id,AF,AF\n1,1,1\n", "each with a name of its own"),
        (b"record_id,AF\n1\n", "line 2: expected 2 fields, got 1"),
        ("record_id,l\u00fc\n".encode("latin-1"), "save it as 'CSV UTF-8'"),
    ],
)
def test_a_table_of_another_form_is_refused(data, message):
    with pytest.raises(EcgFormatError, match=rf"^labels\.csv.*{message}"):
        read_table(data, "labels.csv")


def test_a_table_from_a_spreadsheet_is_read():
    data = "\ufeffrecord_id, AF \r\n r0 ,1\r\n".encode()
    assert read_table(data, "t") == (["record_id", "AF"], [{"record_id": "r0", "AF": "1"}])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"record_id": ""}, EcgError, "expected a record_id"),
        ({"record_id": "r0001"}, EcgIntegrityError, "are each the file of several records|is in the index twice"),
        ({"record_id": "../r0000"}, EcgAccessError, "is not a plain path below the root"),
        ({"patient_id": ""}, EcgFormatError, "a patient_id in every row or in none"),
        ({"age": "-5"}, EcgFormatError, "an age from 0 to 120"),
        ({"age": "old"}, EcgFormatError, "an age from 0 to 120"),
        ({"sex": "x"}, EcgFormatError, "expected female, male or nothing"),
        ({"AF": "no"}, EcgFormatError, "expected numbers or empty fields"),
    ],
)
def test_a_field_without_a_meaning_is_refused(change, error, message, examples, tmp_path):
    folder = Path(shutil.copytree(examples["wfdb_folder"], tmp_path / "raw"))
    rows = table(folder)
    rewrite(folder, [rows[0] | change, *rows[1:]])
    with pytest.raises(error, match=message):
        build("wfdb_folder", folder).as_streaming_dataset()


# splits


def test_given_splits_are_kept_and_a_patient_in_two_is_found(kind, example):
    rows = table(example)
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    rewrite(example, [row | {"split": split} for row, split in zip(rows, splits, strict=True)])
    found = rows_by_id(kind, example)
    assert [found[row["record_id"]]["split"] for row in rows] == splits
    splits[0] = "test"
    rewrite(example, [row | {"split": split} for row, split in zip(rows, splits, strict=True)])
    with pytest.raises(EcgIntegrityError, match="patient p0000 is in split test and, with record r0001, in train"):
        build(kind, example)
    splits[0] = "val"
    rewrite(example, [row | {"split": split} for row, split in zip(rows, splits, strict=True)])
    with pytest.raises(EcgFormatError, match=r"a split of \('train', 'validation', 'test'\), got .* 'val'"):
        build(kind, example)


def test_two_thousand_records_are_dealt_out_by_patient_with_their_share_of_labels(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    rows = [
        {"record_id": f"r{number}", "patient_id": f"p{rng.integers(1200)}", "AF": int(rng.random() < 0.1), "LBBB": 0}
        for number in range(2000)
    ]
    rewrite(tmp_path / "raw", rows)
    entries = build("csv", tmp_path / "raw", **SETTINGS).read_index(FolderRoot(tmp_path / "raw"))
    homes = defaultdict(set)
    for entry in entries:
        homes[entry.patient_id].add(entry.split)
    assert {len(splits) for splits in homes.values()} == {1}
    test = [entry for entry in entries if entry.split == "test"]
    assert abs(len(test) - 200) <= 5
    positive = [entry for entry in entries if ("label", "AF", 1.0) in entry.labels]
    assert abs(sum(entry in test for entry in positive) - len(positive) / 10) <= 2
    again = build("csv", tmp_path / "raw", **SETTINGS).read_index(FolderRoot(tmp_path / "raw"))
    assert again == entries


def test_without_patients_the_risk_is_logged_and_said(tmp_path, caplog):
    write_files(tmp_path / "raw", "wfdb_folder", [0, 1, 2])
    builder = build("wfdb_folder", tmp_path / "raw")
    assert builder.fingerprint and not builder.patient_level
    assert "records of one patient may be in both train and test" in caplog.text


# places and files


def test_map_style_and_streaming_give_the_same_rows(kind, examples, tmp_path):
    options = {"data_dir": str(examples[kind]), "cache_dir": str(tmp_path)}
    whole = datasets.load_dataset(f"ecg_hf/{kind}", **options)
    stream = datasets.load_dataset(f"ecg_hf/{kind}", streaming=True, **options)
    assert sum(len(split) for split in whole.values()) == 12
    assert all(list(stream[name]) == list(split) for name, split in whole.items())


@pytest.mark.parametrize("place", ["server", "zip", "parent"])
def test_every_place_gives_the_same_rows(place, kind, examples, tmp_path):
    folder, expected = examples[kind], rows_by_id(kind, examples[kind])
    if place == "server":
        with serve(folder) as (url, _):
            splits = load_corpus(kind, data_dir=url, streaming=True, cache_dir=tmp_path / "c")
            rows = {row["record_id"]: row | {"split": name} for name, split in splits.items() for row in split}
    elif place == "zip":
        with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"own/{path.name}")
        rows = rows_by_id(kind, tmp_path / "own.zip")
    else:
        shutil.copytree(folder, tmp_path / "some/where")
        rows = rows_by_id(kind, tmp_path / "some")
    assert rows == expected


def test_another_name_of_the_table_can_be_given(kind, example):
    (example / "labels.csv").rename(example / "cohort.csv")
    assert len(rows_by_id(kind, example, table="cohort.csv")) == 12
    with pytest.raises(EcgAccessError, match=r"holds no labels\.csv"):
        build(kind, example)


def test_without_a_place_the_error_says_what_to_pass(kind, tmp_path):
    with pytest.raises(EcgAccessError, match=r"pass data_dir=, the folder that holds labels\.csv and the records"):
        open_corpus(kind, cache_dir=tmp_path).as_streaming_dataset()


@pytest.mark.parametrize("name", ["csv", "wfdb_folder"])
def test_missing_files_are_counted_and_can_be_left_out(name, examples, tmp_path):
    folder = Path(shutil.copytree(examples[name], tmp_path / "raw"))
    (folder / {"csv": "r0003.csv", "wfdb_folder": "r0003.dat"}[name]).unlink()
    (folder / {"csv": "r0007.csv", "wfdb_folder": "r0007.hea"}[name]).unlink()
    with pytest.raises(MissingFileError, match=r"^2 records of .* lack files"):
        build(name, folder).as_streaming_dataset()
    assert rows_by_id(name, folder, allow_missing=True).keys() == {f"r{i:04d}" for i in range(12)} - {"r0003", "r0007"}


@pytest.mark.parametrize("name", ["csv", "wfdb_folder"])
def test_files_that_the_table_does_not_list_are_counted(name, examples, tmp_path, caplog):
    folder = Path(shutil.copytree(examples[name], tmp_path / "raw"))
    rewrite(folder, table(folder)[2:])
    with caplog.at_level(logging.WARNING):
        build(name, folder)
    assert "left out 2 files that the table does not list, such as ['r0000." in caplog.text


def test_a_changed_signal_file_is_never_served_from_an_old_cache(kind, example, tmp_path):
    places = {build(kind, example).cache_dir}
    name = {"csv": "r0002.csv", "hdf5": "ecgs.h5", "wfdb_folder": "r0002.dat"}[kind]
    data = (example / name).read_bytes()
    (example / name).write_bytes(data + b"\n")
    places.add(build(kind, example).cache_dir)
    assert len(places) == 2


# comma-separated files


def test_a_first_line_of_names_must_be_stated_and_must_be_there(tmp_path):
    write_files(tmp_path / "raw", "csv", [0], unit="uV", sampling_rate=500, leads="header")
    with pytest.raises(
        EcgFormatError, match=r"record r0 of .*; a file whose first line holds names needs leads: header"
    ):
        rows_by_id("csv", tmp_path / "raw")
    text = (tmp_path / "raw/r0.csv").read_text()
    (tmp_path / "raw/r0.csv").write_text(",".join(LEADS) + "\n" + text)
    assert rows_by_id("csv", tmp_path / "raw")["r0"]["num_samples"] == 500
    with pytest.raises(
        EcgFormatError, match=r"record r0 of .*; a file whose first line holds names needs leads: header"
    ):
        rows_by_id("csv", tmp_path / "raw", leads=list(LEADS))


@pytest.mark.parametrize("line", ["1,2,3", "x" + ",1" * 11, "0;1" + ",1" * 11])
def test_a_damaged_text_file_is_refused(line, tmp_path):
    write_files(tmp_path / "raw", "csv", [0], **SETTINGS)
    with (tmp_path / "raw/r0.csv").open("a") as file:
        file.write(line)
    with pytest.raises(EcgFormatError, match=r"record r0 of .*expected a comma-separated table"):
        rows_by_id("csv", tmp_path / "raw")


# arrays


def write_array(folder, signals, **arrays):
    folder.mkdir()
    with h5py.File(folder / "all.h5", "w") as file:
        file["ecg"] = signals
        for name, array in arrays.items():
            file[name] = array


MANY = SETTINGS | {"dataset": "ecg", "file": "all.h5"}


@pytest.mark.parametrize("axes", [["record", "lead", "sample"], ["record", "sample", "lead"]])
@pytest.mark.parametrize("by", ["row", "id_dataset"])
def test_rows_are_found_by_their_number_or_by_an_array_of_ids_and_never_by_order(by, axes, tmp_path):
    signals = np.stack([example_samples(number)[:, :300] for number in range(5)])
    ids = np.array([40, 10, 50, 20, 30])
    stored = signals if axes[1] == "lead" else signals.transpose(0, 2, 1)
    write_array(tmp_path / "raw", stored, exam=ids)
    rows = [
        {"record_id": exam} | ({"row": ids.tolist().index(exam)} if by == "row" else {}) for exam in (10, 20, 30, 50)
    ]
    rewrite(tmp_path / "raw", rows)
    with pytest.raises(EcgFormatError, match=r"record '10' .* expected a file of many records and a row in it"):
        build("hdf5", tmp_path / "raw", **MANY | {"file": None if by == "row" else "all.h5"}, axes=axes)
    found = rows_by_id("hdf5", tmp_path / "raw", **MANY, axes=axes, id_dataset=None if by == "row" else "exam")
    assert found.keys() == {"10", "20", "30", "50"}
    for exam, row in found.items():
        expected = signals[ids.tolist().index(int(exam))] / 1000
        np.testing.assert_array_equal(row_to_signal(row), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([1, 2, 2]), "exam holds a number twice"),
        (np.array([1, 2, 4]), "exam does not hold '3', the record_id in the table"),
        (np.array([1.0, 2.0, 3.0]), "expected whole numbers in exam, got float64"),
        (np.ones((3, 2), int), "expected whole numbers in exam, got int64"),
    ],
)
def test_ids_that_do_not_tell_which_row_is_whose_are_refused(ids, message, tmp_path):
    write_array(tmp_path / "raw", np.zeros((3, 12, 50)), exam=ids)
    rewrite(tmp_path / "raw", [{"record_id": number} for number in (1, 2, 3)])
    with pytest.raises(EcgFormatError, match=message):
        build("hdf5", tmp_path / "raw", **MANY, axes=["record", "lead", "sample"], id_dataset="exam")


@pytest.mark.parametrize(
    ("row", "error"), [("3", "should have a row 3"), ("-1", "a row from 0 on"), ("x", "from 0 on")]
)
def test_a_row_that_is_not_there_is_refused(row, error, tmp_path):
    write_array(tmp_path / "raw", np.zeros((3, 12, 50)))
    rewrite(tmp_path / "raw", [{"record_id": "a", "row": row}])
    with pytest.raises(EcgFormatError, match=error):
        rows_by_id("hdf5", tmp_path / "raw", **MANY, axes=["record", "lead", "sample"])


def test_two_records_in_one_row_are_refused(tmp_path):
    write_array(tmp_path / "raw", np.zeros((3, 12, 50)))
    rewrite(tmp_path / "raw", [{"record_id": "a", "row": 1}, {"record_id": "b", "row": 1}])
    with pytest.raises(EcgIntegrityError, match=r"\['all\.h5\|1'\] are each the file of several records"):
        build("hdf5", tmp_path / "raw", **MANY, axes=["record", "lead", "sample"])


FORM = Form("ecg", ("lead", "sample"), LEADS, 500.0, "uV")


def opened(folder, array, name="ecg", **options):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset(name, data=array, **options)
    return Hdf5File((folder / "a.h5").open("rb"), "a.h5")


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<i8", "<u2", "<f2", "<f4", "<f8", ">f8"])
def test_numbers_of_every_kind_give_the_same_signal(dtype, tmp_path):
    samples = np.abs(example_samples(0)[:, :400])
    record = decode(opened(tmp_path, samples.astype(dtype)), "r", FORM)
    tolerance = 0.0011 if dtype == "<f2" else 0
    assert np.abs(record.signal - (samples / 1000).astype(np.float32)).max() <= tolerance


def test_integers_are_kept_as_they_are_with_the_gain_that_is_stated(tmp_path):
    samples = np.array([[-32768, 5, 32767], [0, -7, 1]], np.int16)
    form = Form("ecg", ("sample", "lead"), ("V1", "II"), 250.0, "mV", "204.8")
    record = decode(opened(tmp_path, samples.T), "r", form)
    np.testing.assert_array_equal(record.samples, samples)
    assert record.gain.tolist() == [204.8, 204.8] and record.leads == ("V1", "II") and np.isnan(record.signal[0, 0])


def test_a_file_that_points_elsewhere_is_never_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["ecg"] = np.zeros((12, 50))
    (tmp_path / "secret.bin").write_bytes(bytes(12 * 50 * 8))
    layout = h5py.VirtualLayout((12, 50), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "ecg", (12, 50))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["real"] = np.zeros((12, 50))
        file["soft"] = h5py.SoftLink("/real")
        file["outside"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/ecg")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("stored", (12, 50), "f8", external=[(str(tmp_path / "secret.bin"), 0, 4800)])
        file.create_dataset("text", data=["a"])
        file.create_group("group")
    file = Hdf5File((tmp_path / "a.h5").open("rb"), "a.h5")
    assert file.shape("real") == (12, 50)
    for name in ("soft", "outside", "virtual", "stored", "text", "group", "none", "", "real/x", "../a.h5", "."):
        with pytest.raises(EcgFormatError, match=r"a\.h5 should hold (the array|numbers of its own)"):
            file.read(name)
    file.close()


def test_an_array_that_would_fill_the_memory_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("wide", (12, 1 << 40), "f4", chunks=(12, 1024))
        file.create_dataset("many", (1 << 20, 12, 500), "f4", chunks=(1 << 14, 12, 500))
    file = Hdf5File((tmp_path / "a.h5").open("rb"), "a.h5")
    for name, row in (("wide", None), ("wide", 0), ("many", 3)):
        with pytest.raises(EcgFormatError, match=r"takes \d+ bytes, expected at most 268435456; rewrite it in chunks"):
            file.read(name, row)
    file.close()


def test_a_file_is_closed_when_nobody_needs_it(tmp_path):
    file = opened(tmp_path, np.zeros((12, 50)))
    raw = Counting(tmp_path / "a.h5")
    other = Hdf5File(raw, "a.h5")
    del other
    assert raw.closed
    file.close()
    file.close()
    (tmp_path / "b.h5").write_bytes(b"no")
    raw = Counting(tmp_path / "b.h5")
    with pytest.raises(EcgFormatError, match="is no HDF5 file that can be read"):
        Hdf5File(raw, "b.h5")
    assert raw.closed


@pytest.mark.parametrize(
    ("shape", "axes", "row"),
    [
        ((12, 50), ("sample", "lead"), None),
        ((50, 12), ("lead", "sample"), None),
        ((12,), ("lead", "sample"), None),
        ((4, 12, 50), ("record", "sample", "lead"), 1),
        ((4, 12, 50), ("lead", "sample"), None),
    ],
)
def test_axes_that_do_not_fit_the_array_are_refused(shape, axes, row, tmp_path):
    file = opened(tmp_path, np.zeros(shape))
    with pytest.raises(EcgFormatError, match="r: expected 12 leads on the axes"):
        decode(file, "r", Form("ecg", axes, LEADS, 500.0, "mV"), row=row)
    file.close()
