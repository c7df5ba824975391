import csv
import json
from collections import Counter

import pytest

from ecg_hf.corpora.demographics import label_sets_of, labels_of
from ecg_hf.corpora.sources.challenge.chapman import COLUMNS, read_workbook
from ecg_hf.corpora.sources.challenge.snomed import (
    ACRONYMS,
    CHALLENGE,
    CPSC,
    CPSC_EXTRA,
    FIRST_RELEASE,
    GEORGIA,
    NINGBO,
)
from places import SHARED

METADATA = SHARED / "challenge-2021-metadata"
real = pytest.mark.skipif(not METADATA.is_dir(), reason="no real data here")
SOURCES = {"CPSC": CPSC, "CPSC_Extra": CPSC_EXTRA, "Georgia": GEORGIA, "Ningbo": NINGBO}


@pytest.fixture(scope="module")
def mapped():
    """The Challenge's own table of codes, with how many recordings of each source have them."""
    rows = []
    for name in ("dx_mapping_scored.csv", "dx_mapping_unscored.csv"):
        with (METADATA / name).open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    return {row["SNOMEDCTCode"]: row for row in rows}


@pytest.fixture(scope="module")
def chapman():
    data = (SHARED / "chapman-figshare/Diagnostics.xlsx").read_bytes()
    return list(read_workbook(data, "Diagnostics.xlsx", COLUMNS))


@pytest.fixture(scope="module")
def sheets():
    """First name of each code in each sheet of the workbook."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(SHARED / "label-mappings/Label mappings 2021.xlsx", read_only=True, data_only=True)
    names = {}
    for title in book.sheetnames:
        names[title] = {}
        for name, code, *_ in book[title].iter_rows(min_row=2, max_row=150, max_col=3, values_only=True):
            if name and code:
                names[title].setdefault(str(int(code)), " ".join(name.replace("\xa0", " ").split()))
    book.close()
    return names


@real
def test_the_names_of_each_source_are_those_of_its_sheet_the_first_one_where_there_are_several(sheets):
    assert sheets["CPSC"] == CPSC and len(CPSC) == 9
    assert sheets["CPSC-Extra"] == CPSC_EXTRA and len(CPSC_EXTRA) == 72
    assert sheets["G12EC"] == GEORGIA and len(GEORGIA) == 123
    assert sheets["Ningbo"] | {"106068003": "ARH"} == NINGBO and len(NINGBO) == 82
    assert NINGBO["251146004"] == "LQRSV" and NINGBO["164909002"] == NINGBO["733534002"] == "CLBBB"


@real
def test_the_names_of_the_challenge_are_its_abbreviations_and_no_two_codes_share_one(mapped, sheets):
    assert {code: CHALLENGE[code] for code in mapped} == {code: row["Abbreviation"] for code, row in mapped.items()}
    assert len(set(CHALLENGE.values())) == len(CHALLENGE) == 147
    others = {code for names in sheets.values() for code in names}
    assert others <= CHALLENGE.keys()


@real
def test_every_code_that_recordings_of_a_source_have_is_known_there(mapped):
    for source, names in SOURCES.items():
        used = {code for code, row in mapped.items() if int(row[source])}
        assert used <= names.keys()
    with (SHARED / "ecg-arrhythmia/ConditionNames_SNOMED-CT.csv").open(encoding="utf-8-sig", newline="") as file:
        assert {row["Snomed_CT"] for row in csv.DictReader(file)} <= CHALLENGE.keys()


@real
def test_as_many_labels_are_frequent_as_the_study_counts(mapped):
    frequent = {}
    for source, names in SOURCES.items():
        counts = Counter()
        for code, name in names.items():
            counts[name] += int(mapped[code][source]) if code in mapped else 0
        frequent[source] = sum(count >= 10 for count in counts.values())
    assert frequent == {"CPSC": 9, "CPSC_Extra": 33, "Georgia": 50, "Ningbo": 68}


@real
def test_the_codes_of_the_recordings_of_2020_each_once_count_up_to_the_published_numbers(mapped):
    codes = {name: code for code, name in CHALLENGE.items()}
    found = {"A": Counter(), "B": Counter(), "F": Counter()}
    with (METADATA / "stats_2020_tranches.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["tranche"] in found:
                found[row["tranche"]].update({codes[name] for name in row["diagnosis"].split(";")})
    for tranche, source in {"A": "CPSC", "B": "CPSC_Extra", "F": "Georgia"}.items():
        assert found[tranche].keys() <= SOURCES[source].keys()
        expected = {code: int(row[source]) for code, row in mapped.items() if int(row[source])}
        assert dict(found[tranche]) == expected


@real
def test_the_acronyms_of_chapman_give_the_codes_that_the_challenge_counts(mapped, chapman):
    counts = Counter()
    for row in chapman:
        if row["Rhythm"] != "SA":
            counts.update({ACRONYMS[name] for name in [*row["Beat"].split(), row["Rhythm"]] if name in ACRONYMS})
    expected = {code: int(row["Chapman_Shaoxing"]) for code, row in mapped.items() if int(row["Chapman_Shaoxing"])}
    assert dict(counts) == expected and len(expected) == 54


@real
def test_the_recordings_of_sinus_irregularity_are_those_that_the_challenge_left_out(chapman):
    records = json.loads((METADATA / "record_list.json").read_text())["G"]
    here = {name for name in records if name <= "JS10646"}
    kept = {f"JS{number:05d}" for number, row in enumerate(chapman, 1) if row["Rhythm"] != "SA"}
    assert here == kept and len(kept) == 10_247


def test_the_words_of_the_first_release_are_the_nine_diagnoses_of_cpsc2018():
    assert set(FIRST_RELEASE.values()) == CPSC.keys() and len(FIRST_RELEASE) == 9
    assert CPSC[FIRST_RELEASE["I-AVB"]] == "1st degree av block" and CPSC[FIRST_RELEASE["Normal"]] == "sinus rhythm"


def test_two_codes_of_one_meaning_are_two_codes_and_one_diagnosis():
    assert labels_of(("164909002", "733534002"), NINGBO) == (
        ("snomed", "164909002", 1.0),
        ("snomed", "733534002", 1.0),
        ("diagnosis", "CLBBB", 1.0),
    )
    sets = label_sets_of(NINGBO)
    assert (
        len(sets["snomed"]) == 82
        and len(sets["diagnosis"]) == 81
        and list(sets["diagnosis"]) == sorted(sets["diagnosis"])
    )
