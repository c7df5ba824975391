import csv
import logging
import pickle
import shutil
import tracemalloc
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from ecg_hf.commands import mimic_measurements
from ecg_hf.corpora.sources.mimic import mimic_iv_ecg as module
from ecg_hf.corpora.sources.mimic.labels import (
    BIOMETRICS,
    LAB_VALUES,
    VITAL_SIGNS,
    parse_codes,
    parse_events,
    parse_machine,
    parse_person,
    with_ancestors,
)
from ecg_hf.corpora.sources.mimic.measurements import write_measurements
from ecg_hf.corpora.sources.mimic.mimic_iv_ecg import MimicIVECG, parse_record
from ecg_hf.data.targets import asked_for, labelled_split, resolve_labels
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.registry import TASKS, load
from ecg_hf.signals.record import LEADS
from ecg_hf.signals.row import row_to_signal
from hospital import write_hospital
from made_rows import split_of
from places import SHARED

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # wfdb is written for an older pandas
    import wfdb

DIAGNOSES = "labels/records_w_diag_icd10.csv"


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small corpus, never to be changed by a test."""
    folder = tmp_path_factory.mktemp("mimic") / "physionet.org/files/mimic-iv-ecg/1.0"
    MimicIVECG.write_example(folder, 20)
    return folder


@pytest.fixture
def example(official, tmp_path):
    """A small corpus of a test's own."""
    return Path(shutil.copytree(official, tmp_path / "raw"))


def build(folder, **options):
    return MimicIVECG(data_dir=str(folder), cache_dir=str(Path(folder).parent / "cache"), **options)


def entries_of(folder):
    return {entry.record_id: entry for split in build(folder)._entries().values() for entry in split}


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def change(path, number, **fields):
    rows = rows_of(path)
    rows[number] |= fields
    save(path, rows)


def save(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def of_set(entry, label_set):
    return {name: value for kind, name, value in entry.labels if kind == label_set}


# signals


def test_leads_go_by_name_although_the_files_have_avf_before_avl(official):
    builder = build(official)
    stream = builder.as_streaming_dataset()
    rows = {row["record_id"]: row for split in stream.values() for row in split}
    assert len(rows) == 20
    for row in rows.values():
        entry = entries_of(official)[row["record_id"]]
        theirs = wfdb.rdrecord(str(official / entry.path))
        assert theirs.sig_name[4:6] == ["aVF", "aVL"]
        signal, places = row_to_signal(row), [theirs.sig_name.index(lead) for lead in LEADS]
        np.testing.assert_array_equal(signal, theirs.p_signal.T[places].astype(np.float32))
        limb = signal[:, ~np.isnan(signal).any(axis=0)]
        # Goldberger: aVL = I - II / 2, aVF = II - I / 2, within the rounding of 5 uV steps
        assert np.abs(limb[4] - (limb[0] - limb[1] / 2)).max() < 0.02 > np.abs(limb[5] - (limb[1] - limb[0] / 2)).max()
        assert row["gain"] == [200.0] * 12 and row["sampling_rate"] == 500
    gaps = [np.isnan(row_to_signal(row)).sum(axis=1).tolist() for row in rows.values()]
    assert gaps.count([0, 0, 0, 200, 0, 0, 0, 0, 0, 200, 0, 0]) == 5 and gaps.count([0] * 12) == 15


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("200.0(0)/mV", "2000.0(0)/mV", EcgUnitsError, "expected 200.0 ADC units per mV"),
        ("200.0(0)/mV", "200.0(7)/mV", EcgUnitsError, "expected 0 as ADC value of 0 mV"),
        (" 500 5000", " 250 5000", EcgIntegrityError, "expected 500.0 Hz, got 250.0"),
        (" V6", " vx", EcgLeadError, "expected the twelve leads"),
        ("<subject_id>: 1", "<subject_id>: 2", EcgIntegrityError, "is of patient .'2.*expected 1"),
    ],
)
def test_a_header_that_breaks_the_layout_is_refused(old, new, error, message, example):
    path = next(iter(entries_of(example).values())).path
    header = (example / path).with_suffix(".hea")
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new, 1))
    with pytest.raises(error, match=message):
        list(build(example).as_streaming_dataset("train"))


# the index


def test_the_real_demo_is_listed_and_its_lack_of_labels_said_once(caplog, tmp_path):
    folder = SHARED / "mimic-iv-ecg-demo"
    if not folder.is_dir():
        pytest.skip("no real data here")
    builder = MimicIVECG(data_dir=str(folder), cache_dir=str(tmp_path))
    with caplog.at_level(logging.WARNING):
        entries = [entry for split in builder._entries().values() for entry in split]
        builder._index = None
        builder._entries()
        pickle.loads(pickle.dumps(builder))._entries()
    rows = rows_of(folder / "record_list.csv")
    assert {(entry.record_id, entry.patient_id, entry.path) for entry in builder.read_index(builder._root)} == {
        (row["study_id"], row["subject_id"], row["path"]) for row in rows
    }
    assert entries == [] and len(builder._missing) == 18  # the waveforms are not here
    said = [record.getMessage() for record in caplog.records if "lack tables" in record.getMessage()]
    assert len(said) == 1 and all(name in said[0] for name in module.TABLES)
    homes = {entry.patient_id: entry.split for entry in builder.read_index(builder._root)}
    assert all(entry.split == homes[entry.patient_id] for entry in builder.read_index(builder._root))


def test_paths_of_the_full_release_and_of_the_demo_are_taken_and_others_refused():
    row = {"subject_id": "10000032", "study_id": "40689238"}
    for path in ("files/p1000/p10000032/s40689238/40689238", "files/p10000032/s40689238/40689238"):
        assert parse_record(row | {"path": path}) == (40689238, 10000032, path)
    for path in (
        "files/p1001/p10000032/s40689238/40689238",
        "files/p1000/p10000033/s40689238/40689238",
        "files/p1000/p10000032/s40689238/40689239",
        "../files/p10000032/s40689238/40689238",
        "/files/p10000032/s40689238/40689238",
        "",
    ):
        with pytest.raises(
            EcgIntegrityError, match="study 40689238 of patient 10000032 should be in files/p1000/p1000"
        ):
            parse_record(row | {"path": path})


def test_official_folds_make_the_splits_and_other_patients_are_dealt_out_whole(example):
    table = {row["study_id"]: row for row in rows_of(example / DIAGNOSES)}
    split = {18: "validation", 19: "test"}
    entries = entries_of(example)
    assert {key: entry.split for key, entry in entries.items()} == {
        key: split.get(int(row["strat_fold"]), "train") for key, row in table.items()
    }
    assert Counter(entry.split for entry in entries.values()) == {"train": 12, "validation": 4, "test": 4}
    save(example / DIAGNOSES, [row for row in table.values() if row["strat_fold"] != "18"])
    (example / "labels/mds_ed.csv").unlink()
    fewer = entries_of(example)
    assert all(fewer[key].split == entry.split for key, entry in entries.items() if entry.split != "validation")
    homes = {}
    for entry in fewer.values():
        assert homes.setdefault(entry.patient_id, entry.split) == entry.split


def test_a_patient_keeps_the_fold_whose_record_the_table_does_not_list(example):
    rows = rows_of(example / DIAGNOSES)
    lost = next(row for row in rows if row["strat_fold"] == "19")
    save(example / DIAGNOSES, [row for row in rows if row != lost])
    (example / "labels/mds_ed.csv").unlink()
    assert entries_of(example)[lost["study_id"]].split == "test"


def test_mds_ed_alone_gives_its_folds_and_yields_to_the_other_table(example, caplog):
    (example / DIAGNOSES).rename(example / "kept.csv")
    table = rows_of(example / "labels/mds_ed.csv")
    listed = {row["general_subject_id"]: row["general_strat_fold"] for row in table}
    for entry in entries_of(example).values():
        assert entry.split == {"18": "validation", "19": "test"}.get(listed[entry.patient_id], "train")
        assert entry.sex is None and entry.age is None and not of_set(entry, "diagnosis")
    (example / "kept.csv").rename(example / DIAGNOSES)
    save(example / "labels/mds_ed.csv", [row | {"general_strat_fold": "5"} for row in table])
    with caplog.at_level(logging.WARNING):
        entries = entries_of(example)
    assert Counter(entry.split for entry in entries.values())["test"] == 4
    assert "10 patients in other folds" in caplog.text


def test_one_patient_in_two_folds_is_found(example):
    change(example / DIAGNOSES, 3, strat_fold="19")
    patient = rows_of(example / DIAGNOSES)[3]["subject_id"]
    with pytest.raises(EcgIntegrityError, match=f"patient {patient} is in fold 18 and, with study .*, in 19"):
        build(example)


# what the tables say

PERSON = {
    "study_id": "40689238",
    "subject_id": "10000032",
    "gender": "F",
    "age": "52.0",
    "anchor_age": "50.0",
    "strat_fold": "7",
    "ecg_no_within_stay": "0",
    "ecg_taken_in_ed": "True",
    "ecg_taken_in_hosp": "False",
    "ed_diag_ed": "['R079']",
    "ed_diag_hosp": "[]",
    "hosp_diag_hosp": "['W19XXXA', 'I2510']",
    "all_diag_all": "['W19XXXA', 'I2510']",
}


def test_a_row_of_diagnoses_is_read_as_it_is_meant():
    study, fold, person = parse_person(PERSON)
    assert (study, fold, person.subject, person.sex, person.age) == (40689238, 7, 10000032, "female", 52.0)
    assert person.labels == (
        *(("diagnosis", code, 1.0) for code in ("I25", "I251", "I2510", "W19")),
        ("ed_diag_ed", "R079", 1.0),
        ("hosp_diag_hosp", "W19XXXA", 1.0),
        ("hosp_diag_hosp", "I2510", 1.0),
        ("setting", "ecg_taken_in_ed", 1.0),
        ("setting", "first_ecg_of_stay", 1.0),
        ("age", "age", 52.0),
        ("sex", "male", 0.0),
    )
    man = parse_person(PERSON | {"gender": "M"})[2]
    assert man.sex == "male" and man.labels[-1] == ("sex", "male", 1.0)
    unknown = parse_person(PERSON | {"gender": "missing", "age": "", "anchor_age": ""})[2]
    assert (unknown.sex, unknown.age, unknown.age_over_89) == (None, None, False)
    assert not {"age", "sex"} & {kind for kind, *_ in unknown.labels}
    for number in ("-1", "1", "2"):
        later = parse_person(PERSON | {"ecg_no_within_stay": number})[2]
        assert ("setting", "first_ecg_of_stay", 1.0) not in later.labels


@pytest.mark.parametrize(
    ("age", "anchor", "known", "over"),
    [
        ("89.0", "80.0", 89.0, False),
        ("90.0", "85.0", None, True),
        ("93", "91", None, True),
        ("101.0", "91.0", None, True),
        ("88.0", "91.0", None, False),  # three years before a year in which all that is known is "over 89"
        ("18", "17", 18.0, False),
    ],
)
def test_an_age_over_89_or_counted_from_one_is_hidden(age, anchor, known, over):
    person = parse_person(PERSON | {"age": age, "anchor_age": anchor})[2]
    assert (person.age, person.age_over_89) == (known, over)
    assert [value for kind, _, value in person.labels if kind == "age"] == ([known] if known else [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"gender": "male"},
        {"gender": ""},
        {"age": "-1"},
        {"age": "200"},
        {"age": "52.5"},
        {"strat_fold": "20"},
        {"strat_fold": "-1"},
        {"strat_fold": ""},
        {"ecg_taken_in_ed": "1"},
        {"ecg_taken_in_hosp": ""},
        {"ecg_no_within_stay": ""},
        {"study_id": "x"},
        {"subject_id": ""},
    ],
)
def test_a_field_without_a_meaning_is_refused_and_its_study_named(wrong):
    with pytest.raises(
        EcgFormatError, match=f"study '{(PERSON | wrong)['study_id']}': .* has no meaning as {next(iter(wrong))}"
    ):
        parse_person(PERSON | wrong)


def test_codes_are_shortened_and_their_ancestors_added():
    def by_hand(codes):
        found = set()
        for code in codes:
            code = code[:5]
            while code.endswith("X"):
                code = code[:-1]
            while len(code) >= 3:
                found.add(code)
                code = code[:-1]
        return tuple(sorted(found))

    for codes in ((), ("I10",), ("W19XXXA",), ("S72001A", "S7200"), ("I2510", "I25", "Z7901"), ("T50905A", "O3483XX")):
        assert with_ancestors(codes) == by_hand(codes)
    assert with_ancestors(("W19XXXA",)) == ("W19",) and with_ancestors(("I2510",)) == ("I25", "I251", "I2510")
    assert parse_codes("[]") == () and parse_codes("['I10', 'E785', 'I10']") == ("I10", "E785")


@pytest.mark.parametrize(
    "text",
    ["", "nan", "I10", "['I10'", "['I10',]", "[I10]", "['I10' 'E78']", "[__import__('os')]", "['']", "('I10',)", "{}"],
)
def test_what_is_no_list_of_codes_is_refused_and_never_run(text):
    with pytest.raises(EcgFormatError, match="expected a list of codes"):
        parse_codes(text)


def test_events_are_1_or_0_and_unknown_ones_are_no_labels():
    names = ("severe_hypoxemia", "ecmo", "vasopressors", "inotropes", "mechanical_ventilation", "cardiac_arrest")
    deaths = tuple(f"mortality_{time}" for time in ("1d", "7d", "28d", "90d", "180d", "365d", "stay"))
    row = {f"deterioration_{name}": "-999.0" for name in (*names, *deaths, "icu_24h", "icu_stay")}
    row |= {"general_study_id": "4", "general_subject_id": "1", "general_strat_fold": "3"}
    assert parse_events(row)[2].labels == ()
    row |= {"deterioration_ecmo": "0.0", "deterioration_mortality_28d": "1.0", "deterioration_icu_stay": "1"}
    row |= {"deterioration_icu_24h": ""}
    assert parse_events(row)[2].labels == (
        ("deterioration", "ecmo", 0.0),
        ("mortality", "mortality_28d", 1.0),
        ("icu", "icu_stay", 1.0),
    )
    for text in ("2", "0.5", "yes"):
        with pytest.raises(EcgFormatError, match=r"study '4': .* has no meaning as deterioration_ecmo"):
            parse_events(row | {"deterioration_ecmo": text})


MACHINE = {
    **{f"report_{number}": "" for number in range(18)},
    "study_id": "4",
    "subject_id": "1",
    "cart_id": "6848296",
    "rr_interval": "640",
    "qrs_onset": "180",
    "qrs_end": "270",
    "t_end": "580",
    "p_axis": "51",
    "qrs_axis": "-30",
    "t_axis": "45",
}


def features(**fields):
    return {name: value for _, name, value in parse_machine(MACHINE | fields)[1].labels}


def test_ecg_features_are_what_the_machine_measured():
    # by hand: 640 ms is 0.8 squared
    assert features() == {
        "RR": 640.0, "QRS": 90.0, "QT": 400.0, "QTc": 500.0, "P_axis": 51.0, "QRS_axis": -30.0, "T_axis": 45.0
    }  # fmt: skip
    said = parse_machine(MACHINE | {"report_0": "Sinus rhythm", "report_5": " Borderline, ECG "})[1]
    assert (said.report, said.cart) == ("Sinus rhythm\nBorderline, ECG", "6848296")


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"rr_interval": "65535"}, {"RR", "QTc"}),
        ({"rr_interval": "0"}, {"QTc"}),
        ({"qrs_onset": "29999"}, {"QRS", "QT", "QTc"}),
        ({"qrs_end": "29999"}, {"QRS"}),
        ({"qrs_end": "170"}, {"QRS"}),
        ({"t_end": "29999"}, {"QT", "QTc"}),
        ({"p_axis": "32767", "qrs_axis": "-32768", "t_axis": "361"}, {"P_axis", "QRS_axis", "T_axis"}),
        ({"p_axis": "", "t_axis": "nan"}, {"P_axis", "T_axis"}),
    ],
)
def test_what_could_not_be_measured_is_no_label(fields, lost):
    assert features().keys() - features(**fields).keys() == lost
    with pytest.raises(EcgFormatError, match="'abc' has no meaning as t_end"):
        features(t_end="abc")


def test_entries_have_all_that_the_tables_say(official):
    entries = entries_of(official)
    measured = {row["study_id"]: row for row in rows_of(official / "labels/measurements.csv")}
    events = {row["general_study_id"] for row in rows_of(official / "labels/mds_ed.csv")}
    assert {key for key, entry in entries.items() if of_set(entry, "mortality")} == events
    for key, entry in entries.items():
        values = of_set(entry, "biometrics") | of_set(entry, "vital_signs") | of_set(entry, "lab_values")
        assert values == {name: float(x) for name, x in measured[key].items() if x and name != "study_id"}
        assert entry.device == "cart 6848296" and entry.report.startswith("Sinus rhythm")
    builder = build(official)
    assert builder.label_sets["diagnosis"] == (
        "E78",
        "E785",
        "I10",
        "I25",
        "I251",
        "I2510",
        "W19",
        "Z79",
        "Z790",
        "Z7901",
    )
    assert (
        builder.label_sets["ed_diag_hosp"] == ("E785", "W19XXXA", "Z7901") and MimicIVECG.label_sets["diagnosis"] == ()
    )


def test_codes_of_another_spelling_are_kept_counted_and_said(example, caplog):
    change(example / DIAGNOSES, 1, all_diag_all="['NoDx', 'I10']", ed_diag_ed="['NoDx']")
    with caplog.at_level(logging.WARNING):
        entry = entries_of(example)[rows_of(example / DIAGNOSES)[1]["study_id"]]
    assert "1 codes of" in caplog.text and "('NoDx', 1)" in caplog.text
    assert set(of_set(entry, "diagnosis")) == {"NoD", "NoDx", "I10"}


# tables that are missing or damaged


def test_a_table_may_stand_beside_the_index_but_not_twice(example):
    before = build(example).fingerprint
    shutil.copy(example / DIAGNOSES, example)
    with pytest.raises(EcgIntegrityError, match=r"holds records_w_diag_icd10\.csv twice"):
        build(example)
    (example / DIAGNOSES).unlink()
    assert build(example).fingerprint == before


def test_a_compressed_archive_and_a_byte_order_mark_change_nothing(example):
    before = build(example).fingerprint
    path = example / DIAGNOSES
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert build(example).fingerprint == before
    archive = example.parent / "mimic.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for item in sorted(example.rglob("*")):
            if item.is_file():
                file.write(item, f"mimic-iv-ecg-1.0/{item.relative_to(example)}")
    assert build(archive).fingerprint == before


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (DIAGNOSES, "all_diag_all"),
        ("labels/mds_ed.csv", "deterioration_icu_24h"),
        ("labels/measurements.csv", "Anion Gap"),
        ("machine_measurements.csv", "qrs_onset"),
        ("record_list.csv", "path"),
    ],
)
def test_a_table_with_other_columns_is_refused_and_the_missing_one_named(name, column, example):
    rows = rows_of(example / name)
    save(example / name, [{key: value for key, value in row.items() if key != column} for row in rows])
    with pytest.raises(
        EcgFormatError, match=rf"expected each of the columns \['{column}'\] once, got .*; download the"
    ):
        build(example)


def test_damaged_tables_are_refused(example):
    path = example / DIAGNOSES
    data = path.read_bytes()
    for damaged, error, message in (
        (data[:-30], EcgFormatError, "expected 23 fields|not a whole table|has no meaning"),
        (data + b"1,2\n", EcgFormatError, "expected 23 fields, got 2"),
        (data + data.splitlines(keepends=True)[-1], EcgIntegrityError, "has study .* twice"),
        (b"<!DOCTYPE html><html>login</html>", EcgAccessError, "is a web page"),
        (b"\xff\xfe" + data, EcgFormatError, "not a whole table in UTF-8"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(error, match=message):
            build(example)


def test_a_study_of_another_patient_is_refused(example):
    change(example / "machine_measurements.csv", 2, subject_id="19999999")
    with pytest.raises(EcgIntegrityError, match=r"is of patient .* and of \['19999999'\] in a table"):
        build(example)


def test_more_records_than_published_are_refused(example, monkeypatch):
    monkeypatch.setattr(module, "NUM_RECORDS", 19)
    with pytest.raises(EcgIntegrityError, match="has 20 records, expected at most 19"):
        build(example)


def test_without_a_place_the_error_says_where_to_apply(tmp_path):
    with pytest.raises(
        EcgAccessError, match=r"credentialed access, see https://physionet\.org/content/mimic-iv-ecg/1\.0/"
    ):
        MimicIVECG(cache_dir=str(tmp_path)).as_streaming_dataset()


def test_a_large_table_never_stands_in_memory_as_a_whole(example):
    path = example / "labels/mds_ed.csv"
    rows = rows_of(path)
    save(path, [row | {f"vitals_{number}": "1234567.5" for number in range(40)} for row in rows])
    text = path.read_text().splitlines(keepends=True)
    stray = [
        line.replace(rows[0]["general_study_id"], str(50_000_000 + n), 1) for n in range(4_000) for line in text[1:2]
    ]
    path.write_text("".join([*text, *stray]))
    size = path.stat().st_size
    tracemalloc.start()
    build(example)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 1.7e6 > peak


# tasks


def prepared(entries, name):
    return split_of(name, [entry.labels for entry in entries if entry.split == name])


def test_all_tasks_ask_for_the_same_records_of_the_emergency_department(official):
    entries = list(entries_of(official).values())
    table = {row["study_id"]: row for row in rows_of(official / DIAGNOSES)}
    task = load(TASKS, "mimic_mortality")
    for name in task.splits:
        rows = [table[entry.record_id] for entry in entries if entry.split == name]
        wanted = [
            row
            for row in rows
            if row["ecg_taken_in_ed"] == "True"
            and row["all_diag_all"] != "[]"
            and (name == "train" or row["ecg_no_within_stay"] == "0")
        ]
        assert 0 < len(asked_for(prepared(entries, name), task)) == len(wanted) < len(rows)


def test_every_task_finds_its_outputs(official):
    builder, entries = build(official), list(entries_of(official).values())
    sizes = {}
    for name in (name for name in TASKS if name.startswith("mimic_")):
        task = load(TASKS, name)
        train = asked_for(prepared(entries, "train"), task)
        if task.label_set == "diagnosis":
            with pytest.raises(Exception, match="at least 2000 records"):
                resolve_labels(task, [builder], [train])
            continue
        task = resolve_labels(task, [builder], [train])
        assert len(task.labels) == task.num_outputs
        sizes[name.removeprefix("mimic_")] = labelled_split(train, task, "drop").targets.shape[1]
    assert sizes == {
        "age": 1, "biometrics": 3, "deterioration": 6, "ecg_features": 7, "icu": 2, "lab_values": 18, "mortality": 7,
        "sex": 1, "vital_signs": 6,
    }  # fmt: skip


def test_an_unknown_event_is_no_target_and_an_absent_one_is_zero(official):
    entries = [entry for entry in entries_of(official).values() if entry.split == "train"]
    task = resolve_labels(load(TASKS, "mimic_mortality"), [build(official)], [prepared(entries, "train")])
    targets = prepared(entries, "train").targets(task)
    for entry, row in zip(entries, targets, strict=True):
        expected = [of_set(entry, "mortality").get(name, np.nan) for name in task.labels]
        np.testing.assert_array_equal(row, np.float32(expected))
    assert set(targets[~np.isnan(targets)].tolist()) == {0.0, 1.0} and np.isnan(targets).any()


# measurements near an ECG


@pytest.fixture
def hospital(tmp_path):
    return write_hospital(tmp_path / "hospital")


def test_the_value_nearest_to_each_ecg_is_found_in_the_unit_of_the_study(hospital, caplog):
    out = hospital / "labels/measurements.csv"
    with caplog.at_level(logging.INFO):
        counts = write_measurements(hospital, hospital, hospital, out)
    rows = {
        row["study_id"]: {name: float(x) for name, x in row.items() if x and name != "study_id"} for row in rows_of(out)
    }
    assert list(rows_of(out)[0]) == ["study_id", *BIOMETRICS, *VITAL_SIGNS, *LAB_VALUES]
    assert rows["11"] == {
        "Weight (Lbs)": 150, "temperature": 98.6, "heartrate": 75, "resprate": 16, "o2sat": 99, "sbp": 120, "dbp": 80,
        "Creatinine": 1.1,
    }  # fmt: skip
    assert rows["12"] == {"Weight (Lbs)": 160, "BMI (kg/m2)": 24.5, "Creatinine": 1.9}
    assert rows["21"] == pytest.approx(
        {"Weight (Lbs)": 154.3234, "temperature": 98.6, "Creatinine": 0.9, "Height (Inches)": 70.86618}
    )
    assert counts["Creatinine"] == 3 and counts["Weight (Lbs)"] == 3 and counts["Height (Inches)"] == 1
    assert "Creatinine: item 50912 in mg/dL" in caplog.text and "1 biometrics that are no numbers" in caplog.text


def test_the_command_writes_the_table_that_the_corpus_reads(hospital, capsys):
    words = [word for flag in ("--data_dir", "--mimic_iv", "--mimic_iv_ed") for word in (flag, str(hospital))]
    assert mimic_measurements.main(words) == 0
    assert "measurements.csv" in capsys.readouterr().out and (hospital / "labels/measurements.csv").is_file()


def test_missing_or_damaged_tables_of_the_hospital_are_refused(hospital):
    path = hospital / "hosp/labevents.csv.gz"
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    with pytest.raises(EcgFormatError, match=r"labevents\.csv\.gz is not a whole table"):
        write_measurements(hospital, hospital, hospital, hospital / "m.csv")
    path.unlink()
    with pytest.raises(EcgAccessError, match=r"holds no hosp/labevents\.csv\.gz; download MIMIC-IV"):
        write_measurements(hospital, hospital, hospital, hospital / "m.csv")
    assert not (hospital / "m.csv").exists()
