import hashlib
import logging
import pickle
import re
import runpy
import sys
from dataclasses import replace
from typing import ClassVar

import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

from ecg_hf.corpora import base
from ecg_hf.corpora import code_hash as module
from ecg_hf.corpora.base import CorpusConfig, EcgCorpus
from ecg_hf.corpora.index import Entry, check_index, encode_row, parse_table
from ecg_hf.corpora.loading import load_corpus
from ecg_hf.corpora.roots.base import MissingFileError
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.registry import CORPORA, load, register_corpora
from ecg_hf.signals.record import LEADS, MISSING, Record
from ecg_hf.signals.row import row_features, row_to_signal

SPDX = {"CC-BY-4.0", "CC0-1.0", "ODC-By-1.0", "ODbL-1.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0"}
UNITS = {"mV", "uncertain mV", "z-score"}


class Toy(EcgCorpus):
    """Two leads of eight samples each, ten records of five patients."""

    BUILDER_CONFIGS: ClassVar = [CorpusConfig(name="default")]
    licence, licence_url, access, homepage = "CC0-1.0", "https://example.org/licence", "open", "https://example.org"
    citation, description, data_version, patient_level = "Nobody 2026", "A toy.", "1.2.3", True
    label_sets: ClassVar = {"finding": ("A", "B")}
    marker = "toy.csv"

    def read_index(self, root):
        columns = ("id", "patient", "split")
        return [
            Entry(row["id"], row["split"], row["patient"], f"{row['id']}.dat", labels=(("finding", "A", 1.0),))
            for row in parse_table(root.read(self.marker), self.marker, columns)
        ]

    def read_record(self, root, entry):
        samples = np.frombuffer(root.read(entry.path), "<i2").reshape(2, -1).copy()
        return Record("x", samples, np.array([1000.0, 200.0]), np.array([0, 5], np.int32), ("V1", "I"), 100.0)

    @classmethod
    def write_example(cls, folder, num_records=10):
        folder.mkdir()
        names = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
        lines = [f"{number},p{number // 2},{names[number % 10]}\n" for number in range(num_records)]
        (folder / cls.marker).write_text("id,patient,split\n" + "".join(lines))
        for number in range(num_records):
            (folder / f"{number}.dat").write_bytes(np.arange(16, dtype="<i2").tobytes())


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    datasets.disable_progress_bars()
    monkeypatch.setattr(base, "SHARD_SIZE", 2)


@pytest.fixture
def toy(tmp_path):
    Toy.write_example(tmp_path / "toy")
    return tmp_path / "toy"


def build(folder, **options):
    return Toy(data_dir=str(folder), cache_dir=folder.parent / "cache", **options)


def record(leads=("V1", "I"), dtype=np.int16, **fields):
    samples = np.arange(4 * len(leads), dtype=dtype).reshape(len(leads), 4)
    gain, baseline = np.linspace(100, 200, len(leads)), np.arange(len(leads), dtype=np.int32)
    return replace(Record("x", samples, gain, baseline, tuple(leads), 500.0), **fields)


# rows


def test_a_row_gives_back_the_signal_whatever_the_order_of_the_leads():
    rng = np.random.default_rng(0)
    leads = tuple(rng.permutation(LEADS))
    samples = rng.integers(-32768, 32768, (12, 50)).astype(np.int16)
    made = Record("x", samples, rng.uniform(50, 5000, 12), rng.integers(-99, 99, 12).astype(np.int32), leads, 500.0)
    row = row_features().decode_example(row_features().encode_example(encode_row(made, Entry("1", "train"))))
    assert row["leads"] == list(LEADS)
    for lead, signal in zip(LEADS, row_to_signal(row), strict=True):
        place = leads.index(lead)
        expected = (samples[place].astype(np.float64) - made.baseline[place]) / made.gain[place]
        expected[samples[place] == MISSING] = np.nan
        np.testing.assert_array_equal(signal, expected.astype(np.float32))


def test_the_bytes_of_a_row_are_little_endian_and_lead_by_lead():
    row = encode_row(record(("II", "I")), Entry("1", "train"))
    assert row["signal"] == bytes.fromhex("0400 0500 0600 0700 0000 0100 0200 0300")
    assert (row["leads"], row["gain"], row["baseline"], row["num_samples"]) == (["I", "II"], [200, 100], [1, 0], 4)


def test_a_row_keeps_the_standard_leads_that_are_there_and_drops_others():
    row = encode_row(record(("vx", "V2", "vz", "aVR")), Entry("1", "train"))
    assert row["leads"] == ["aVR", "V2"] and row["gain"] == [200.0, pytest.approx(133.333333)]
    np.testing.assert_array_equal(row_to_signal(row)[1], record(("vx", "V2", "vz", "aVR")).signal[1])
    with pytest.raises(EcgLeadError, match="at least one of the leads"):
        encode_row(record(("vx", "vy")), Entry("1", "train"))


def test_a_wide_record_keeps_its_signal_in_a_row():
    wide = record(dtype=np.int32)
    wide.samples[0, 1] = np.iinfo(np.int32).min
    wide.samples[1, 2] = 30_000
    signal = row_to_signal(encode_row(wide, Entry("1", "train")))
    np.testing.assert_array_equal(signal, wide.signal[::-1])
    assert np.isnan(signal).sum() == 1


def test_a_row_carries_all_that_the_index_says():
    entry = Entry("7", "test", "p", "there", 56.0, False, "female", "d", "r", (("finding", "A", 0.5),))
    row = encode_row(record(), entry)
    said = ("record_id", "patient_id", "age", "age_over_89", "sex", "device", "report")
    assert [row[key] for key in said] == ["7", "p", 56.0, False, "female", "d", "r"]
    assert row["labels"] == [{"set": "finding", "name": "A", "value": 0.5}] and set(row) == set(row_features())


# the index


def test_a_table_is_read_by_column_name_whatever_its_byte_order_mark_and_line_ends():
    plain = 'b,a,"c,d"\n1,"x, ""y""\nz",3\n4,,6\n'
    expected = [{"b": "1", "a": 'x, "y"\nz', "c,d": "3"}, {"b": "4", "a": "", "c,d": "6"}]
    for text in (plain, "\ufeff" + plain):
        assert list(parse_table(text.encode(), "t.csv", ["b", "a", "c,d"])) == expected
    crlf = plain.replace('y""\nz', 'y"" z').replace("\n", "\r\n")
    assert next(parse_table(crlf.encode(), "t.csv", ["a"])) == {"a": 'x, "y" z'}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "should have each of the columns .'a'. once"),
        (b"b\n1\n", "should have each of the columns .'a'. once"),
        (b"a,a\n1,2\n", "should have each of the columns .'a'. once"),
        (b"a,b\n1,2\n3\n", "t.csv, line 3: expected 2 fields, got 1"),
        (b"a,b\n1,2,3\n", "t.csv, line 2: expected 2 fields, got 3"),
        (b'a,b\n1,"2\n', "not a table in UTF-8"),
        (b"a,b\n\xff,2\n", "not a table in UTF-8"),
        (b"a,b\n" + b"x" * 200_000 + b",2\n", "not a table in UTF-8"),
    ],
)
def test_a_damaged_table_is_refused(data, message):
    with pytest.raises(EcgFormatError, match=message):
        list(parse_table(data, "t.csv", ["a"]))


def entries(number):
    splits = ("train", "train", "train", "validation", "test")
    return [Entry(str(i), splits[i // 2 % 5], f"p{i // 2}") for i in range(number)]


def test_one_patient_of_a_hundred_thousand_in_two_splits_is_found():
    good = entries(100_000)
    check_index(good, {}, patient_level=True)
    leak = [*good[:-1], replace(good[-1], patient_id="p12345")]
    with pytest.raises(EcgIntegrityError, match=r"patient p12345 is in split train and, with record 99999, in test"):
        check_index(leak, {}, patient_level=True)
    check_index(leak, {}, patient_level=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record_id": "3"}, "record 3 is in the index twice"),
        ({"split": "all"}, "record 4 is in split 'all', expected one of"),
        ({"patient_id": None}, "record 4 has no patient"),
        ({"labels": (("finding", "C", 1.0),)}, r"record 4 has the label \('finding', 'C'\)"),
        ({"labels": (("other", "A", 1.0),)}, r"record 4 has the label \('other', 'A'\)"),
    ],
)
def test_an_index_that_breaks_a_promise_is_refused(change, message):
    index = entries(10)
    index[4] = replace(index[4], **change)
    with pytest.raises(EcgIntegrityError, match=message):
        check_index(index, Toy.label_sets, patient_level=True)
    with pytest.raises(EcgIntegrityError, match="empty"):
        check_index([], {}, patient_level=True)


# the builder


def test_streaming_and_arrow_files_give_the_same_rows_in_the_order_of_the_index(toy):
    builder = build(toy)
    builder.download_and_prepare()
    whole = builder.as_dataset()
    stream = build(toy).as_streaming_dataset()
    assert {name: len(split) for name, split in whole.items()} == {"train": 6, "validation": 2, "test": 2}
    for name, split in whole.items():
        assert list(stream[name]) == list(split)
    assert whole["train"]["record_id"][:] == list("012345")
    assert whole["train"].features == row_features()


def test_every_build_writes_the_same_bytes(toy):
    digests = set()
    for number in range(3):
        build(toy).download_and_prepare(toy.parent / f"out{number}")
        paths = sorted((toy.parent / f"out{number}").glob("*.arrow"))
        digests.add(tuple((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths))
    assert len(digests) == 1 and len(digests.pop()) == 3


@pytest.mark.parametrize("num_proc", [None, 2])
def test_the_number_of_processes_does_not_change_the_rows(num_proc, toy):
    builder = build(toy)
    builder.download_and_prepare(toy.parent / f"out{num_proc}", num_proc=num_proc, file_format="parquet")
    files = sorted(str(path) for path in (toy.parent / f"out{num_proc}").glob("*train*.parquet"))
    rows = datasets.Dataset.from_parquet(files, cache_dir=str(toy.parent / "parquet"))
    assert len(files) == (num_proc or 1) and list(rows) == list(build(toy).as_streaming_dataset("train"))


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_the_workers_of_a_loader_share_out_the_records(context, toy):
    stream = build(toy).as_streaming_dataset("train")
    assert stream.num_shards == 3
    loader = DataLoader(stream, batch_size=1, num_workers=2, collate_fn=list, multiprocessing_context=context)
    assert sorted(row["record_id"] for batch in loader for row in batch) == list("012345")


def test_a_pickled_builder_is_small_and_reads_the_index_again(toy):
    builder = build(toy)
    data = pickle.dumps(builder)
    assert len(data) < 10_000 and pickle.loads(data).fingerprint == builder.fingerprint
    copy = pickle.loads(data)
    assert [row["record_id"] for _, row in copy._generate_examples("train", [(0, 1), (4, 6)])] == ["0", "4", "5"]
    (toy / "toy.csv").write_text((toy / "toy.csv").read_text().replace("p0", "p9"))
    with pytest.raises(EcgIntegrityError, match="changed while it was in use"):
        list(pickle.loads(data)._generate_examples("train", [(0, 1)]))


def test_the_fingerprint_is_that_of_the_index_wherever_it_lies(toy):
    moved = toy.parent / "elsewhere"
    toy.rename(moved)
    first = build(moved).fingerprint
    assert re.fullmatch("[0-9a-f]{64}", first)
    moved.rename(toy)
    assert build(toy).fingerprint == first
    (toy / "toy.csv").write_text((toy / "toy.csv").read_text().replace("p4", "p5"))
    assert build(toy).fingerprint != first


def test_changed_data_are_never_served_from_an_old_cache(toy):
    def first(**options):
        builder = build(toy, **options)
        builder.download_and_prepare()
        return builder.cache_dir, builder.as_dataset("train")[0]

    old_place, old_row = first()
    assert first() == (old_place, old_row)
    (toy / "0.dat").write_bytes(np.arange(1, 17, dtype="<i2").tobytes())
    new_place, new_row = first()
    assert new_place != old_place and new_row["signal"] != old_row["signal"]
    (toy / "toy.csv").write_text((toy / "toy.csv").read_text().replace("p0", "p9"))
    assert first()[1]["patient_id"] == "p9"


def test_changed_code_is_never_served_from_an_old_cache(toy, monkeypatch):
    before = build(toy).cache_dir
    sources = {
        name: module.inspect.getsource(module.sys.modules[name])
        for name in ("ecg_hf.signals.record", "ecg_hf.corpora.base")
    }
    original = module.inspect.getsource
    for name, source in sources.items():
        monkeypatch.setattr(
            module.inspect,
            "getsource",
            lambda it, name=name, source=source: source + "#" if it.__name__ == name else original(it),
        )
        assert build(toy).cache_dir != before
    monkeypatch.setattr(module.inspect, "getsource", original)
    assert build(toy).cache_dir == before


def test_the_version_of_the_data_is_that_of_every_config():
    assert str(Toy.VERSION) == "1.2.3" and [str(config.version) for config in Toy.BUILDER_CONFIGS] == ["1.2.3"]


def test_a_corpus_without_a_place_says_what_to_do(tmp_path):
    with pytest.raises(EcgAccessError, match=r"open access, see https://example\.org\); pass data_dir="):
        Toy(cache_dir=tmp_path).as_streaming_dataset()


def test_missing_files_are_counted_and_named(toy):
    for name in ("3.dat", "7.dat"):
        (toy / name).unlink()
    with pytest.raises(MissingFileError, match=r"2 records of .* lack files, such as \['3\.dat', '7\.dat'\]; complete"):
        build(toy).as_streaming_dataset()


def test_missing_files_that_are_allowed_are_left_out_counted_and_named(toy, caplog):
    for name in ("3.dat", "7.dat"):
        (toy / name).unlink()
    with caplog.at_level(logging.WARNING, "ecg_hf.corpora.base"):
        stream = build(toy, allow_missing=True).as_streaming_dataset()
    assert "left out 2 records without files: ['3', '7']" in caplog.text
    assert [row["record_id"] for split in stream.values() for row in split] == list("01245689")


def test_what_was_missing_is_read_once_it_is_there(toy):
    data = (toy / "3.dat").read_bytes()
    (toy / "3.dat").unlink()
    for number in (5, 6):
        builder = build(toy, allow_missing=True)
        builder.download_and_prepare()
        assert len(builder.as_dataset("train")) == number
        (toy / "3.dat").write_bytes(data)


def test_a_corpus_of_which_only_the_index_was_downloaded_is_refused(toy):
    for path in toy.glob("*.dat"):
        path.unlink()
    with pytest.raises(MissingFileError, match=r"all 10 records of .* lack files"):
        build(toy, allow_missing=True).as_streaming_dataset()


def test_an_error_in_a_record_keeps_its_kind_and_names_the_record(toy):
    (toy / "3.dat").write_bytes(b"<!DOCTYPE html><html>")
    message = r"record 3 of .*toy: .*3\.dat should hold data but is a web page"
    with pytest.raises(EcgAccessError, match=message):
        list(build(toy).as_streaming_dataset("train"))
    for num_proc in (None, 2):
        with pytest.raises(EcgAccessError, match=message):
            build(toy).download_and_prepare(num_proc=num_proc)
    assert not any(path.is_dir() and path.name == build(toy).hash for path in toy.parent.rglob("*"))


# registration


# older releases of datasets leave the csv file open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_registering_twice_wraps_once_and_leaves_other_names_alone(tmp_path):
    register_corpora()
    wrapped = datasets.load.dataset_module_factory
    register_corpora()
    assert datasets.load.dataset_module_factory is wrapped is datasets.inspect.dataset_module_factory
    assert not hasattr(wrapped.ecg_hf_original, "ecg_hf_original")
    (tmp_path / "a.csv").write_text("x\n1\n")
    rows = datasets.load_dataset(
        "csv", data_files=str(tmp_path / "a.csv"), cache_dir=str(tmp_path / "c"), split="train"
    )
    assert rows["x"][:] == [1]


def test_data_files_are_refused_for_a_corpus():
    register_corpora()
    with pytest.raises(ValueError, match="pass the place of the corpus as data_dir instead of data_files"):
        datasets.load_dataset("ecg_hf/ptbxl", data_files="x.csv")


def test_load_corpus_refuses_what_has_no_meaning(toy):
    with pytest.raises(KeyError, match="'nothing' is not registered; choose one of"):
        load_corpus("nothing")
    with pytest.raises(ValueError, match="num_proc=2 has no meaning"):
        load_corpus("ptbxl", data_dir=toy, streaming=True, num_proc=2)


# what every corpus of the registry promises


@pytest.fixture(params=sorted(CORPORA))
def example(request, tmp_path):
    corpus = load(CORPORA, request.param)
    if not corpus.needs_data_dir:
        return request.param, corpus, {"num_records": 40}
    corpus.write_example(tmp_path / "raw", 40)
    return request.param, corpus, {"data_dir": str(tmp_path / "raw")}


def test_a_corpus_states_its_facts(example):
    key, corpus, _ = example
    assert corpus.licence in SPDX or corpus.licence.startswith("LicenseRef-")  # SPDX' prefix of all that it lacks
    assert corpus.access in ("open", "restricted", "credentialed") and corpus.unit in UNITS
    assert corpus.__module__.startswith("ecg_hf.corpora.sources.") and corpus.__module__.endswith(f".{key}")
    assert corpus.description and corpus.label_sets
    assert all(config.version == corpus.VERSION for config in corpus.BUILDER_CONFIGS)
    assert all(len(set(names)) == len(names) for names in corpus.label_sets.values())
    assert datasets.get_dataset_config_names(f"ecg_hf/{key}")


def test_a_corpus_is_loaded_alike_in_every_way(example, tmp_path):
    key, corpus, options = example
    register_corpora()
    cache = {"cache_dir": str(tmp_path / "cache")}
    whole = datasets.load_dataset(f"ecg_hf/{key}", num_proc=2, **options, **cache)
    ways = [
        datasets.load_dataset(f"ecg_hf/{key}", streaming=True, **options, **cache),
        load_corpus(key, **options, **cache),
        load_corpus(key, streaming=True, **options, **cache),
        corpus(**options, **cache).as_streaming_dataset(),
    ]
    for name, split in whole.items():
        assert split.features == row_features()
        for way in ways:
            assert list(way[name]) == list(split)
    for name, split in whole.items():
        assert [file["filename"] for file in ways[1][name].cache_files] == [
            file["filename"] for file in split.cache_files
        ]


def test_the_rows_of_a_corpus_keep_its_promises(example, tmp_path):
    key, corpus, options = example
    splits = load_corpus(key, streaming=True, cache_dir=tmp_path / "cache", **options)
    rows = [row | {"split": name} for name, split in splits.items() for row in split]
    builder = corpus(cache_dir=tmp_path / "cache", **options)
    assert builder.fingerprint  # reads the index, from which a corpus of a user's own records learns its labels
    known = {(label_set, name) for label_set, names in builder.label_sets.items() for name in names}
    for row in rows:
        signal = row_to_signal(row)
        assert signal.shape == (len(row["leads"]), row["num_samples"]) and signal.dtype == np.float32
        assert 0.005 < np.nanmax(np.abs(signal)) < 20 and row["leads"] == [x for x in LEADS if x in row["leads"]]
        assert {(label["set"], label["name"]) for label in row["labels"]} <= known
        assert row["sex"] in ("female", "male", None) and not (row["age_over_89"] and row["age"])
    assert len({row["record_id"] for row in rows}) == len(rows) == 40
    if builder.patient_level:
        homes = {(row["patient_id"], row["split"]) for row in rows}
        assert len({patient for patient, _ in homes}) == len(homes)


def test_every_corpus_has_its_row_in_the_list(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ecg_hf.corpora.__main__", raising=False)
    runpy.run_module("ecg_hf.corpora", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(CORPORA)]] == list(CORPORA)
    (row,) = (line for line in lines if line.startswith("mimic_iv_ecg"))
    assert "800,035" in row and "161,352" in row and "credentialed" in row
