"""Building a corpus: every shard a pure function of the corpus, the recipe and its number."""

import hashlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecg_hf.corpora.index import encode_row
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.built import BuiltCorpus
from ecg_hf.data.shard_file import check_shard, row_groups
from ecg_hf.data.shards import (
    Recipe,
    build_shards,
    describe_build,
    drop_missing_leads,
    resample_record,
    select_entries,
    shard_files,
    shard_paths,
    split_order,
    write_manifest,
)
from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError, EcgLeadError
from ecg_hf.registry import CORPORA, load
from ecg_hf.signals.record import LEADS, Record
from ecg_hf.signals.resampling import resample
from ecg_hf.signals.row import row_to_signal
from places import ROOT

FIELDS = {"num_records": 60, "sampling_rate": 100, "seed": 4}
RECIPE = Recipe(target_rate=120, num_shards=3, seed=5)


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("synthetic", **FIELDS)


@pytest.fixture(scope="module")
def built(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    for shard in range(RECIPE.num_shards):
        build_shards(corpus, RECIPE, folder, [shard])
    write_manifest(corpus, RECIPE, folder)
    return folder


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.parquet"))}


def test_the_shards_hold_every_record_once_in_its_split(corpus, built):
    for split, entries in corpus.entries().items():
        ids = [row for path in shard_paths(len(entries), split, 3) for row in ids_of(built / path)]
        assert sorted(ids) == sorted(entry.record_id for entry in entries)
        assert ids != [entry.record_id for entry in entries], "the order was not drawn"


def ids_of(path):
    return pq.read_table(path)["record_id"].to_pylist()


def test_a_row_of_a_shard_is_the_record_at_the_target_rate(corpus, built):
    entries = {entry.record_id: entry for entries in corpus.entries().values() for entry in entries}
    for path in sorted(built.rglob("*.parquet")):
        for row in pq.read_table(path).to_pylist()[:2]:
            record = corpus.read(entries[row["record_id"]])
            expected = resample(record.signal, 100, 120)
            assert row["sampling_rate"] == 120 and row["leads"] == list(LEADS)
            assert np.abs(row_to_signal(row) - expected).max() <= 0.5001 / 1000
            own = encode_row(record, entries[row["record_id"]])
            assert {name: row[name] for name in ("patient_id", "age", "sex", "labels")} == {
                name: own[name] for name in ("patient_id", "age", "sex", "labels")
            }


def test_records_of_the_target_rate_keep_their_samples(corpus):
    record = corpus.read(corpus.entries()["train"][0])
    assert resample_record(record, 100) is record


def test_missing_samples_stay_missing_and_a_lead_of_them_alone_is_left_out():
    samples = np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)
    samples[0], samples[1, 100:150] = np.nan, np.nan
    record = drop_missing_leads(Record.from_millivolts("a", samples, ("I", "II", "V1"), 500))
    resampled = resample_record(record, 100)
    assert resampled.leads == ("II", "V1")
    assert np.flatnonzero(np.isnan(resampled.signal[0])).tolist() == list(range(20, 31))
    assert not np.isnan(resampled.signal[1]).any()
    with pytest.raises(EcgLeadError, match="expected at least one lead with samples"):
        drop_missing_leads(Record.from_millivolts("a", samples[:1], ("I",), 500))


def test_the_bytes_do_not_depend_on_who_builds_when(corpus, built, tmp_path):
    other = open_corpus("synthetic", **FIELDS)
    for shard in (2, 0, 1):
        build_shards(other, RECIPE, tmp_path, [shard])
    assert hashes(tmp_path) == hashes(built)


def test_another_seed_gives_another_order():
    orders = [split_order(1_000, seed) for seed in (0, 1)]
    assert all(sorted(order) == list(range(1_000)) for order in orders)
    assert not np.array_equal(*orders)


def test_a_finished_shard_is_left_alone_and_a_foreign_one_refused(corpus, built, tmp_path):
    folder = tmp_path / "built"
    shutil.copytree(built, folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    build_shards(corpus, RECIPE, folder, [1])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == stamps
    with pytest.raises(EcgIntegrityError, match=r"was built with another recipe, expected the same for all shards"):
        build_shards(corpus, replace(RECIPE, seed=6), folder, [1])
    with pytest.raises(EcgIntegrityError, match="was built with another fingerprint, options, recipe, records"):
        write_manifest(open_corpus("synthetic", **{**FIELDS, "seed": 5}), replace(RECIPE, target_rate=100), folder)


def test_a_file_that_arrives_while_a_corpus_is_built_is_noticed(tmp_path):
    load(CORPORA, "ptbxl").write_example(tmp_path / "raw", num_records=30)
    victim = sorted((tmp_path / "raw/records500").rglob("*.dat"))[0]
    data = victim.read_bytes()
    victim.unlink()

    def source():
        return open_corpus("ptbxl", "500hz", tmp_path / "raw", allow_missing=True)

    recipe = Recipe(None, num_shards=2)
    build_shards(source(), recipe, tmp_path / "built", [0])
    victim.write_bytes(data)
    build_shards(source(), recipe, tmp_path / "built", [1])
    with pytest.raises(EcgIntegrityError, match="was built with another records, expected the same"):
        write_manifest(source(), recipe, tmp_path / "built")


def test_another_reading_of_the_same_table_is_noticed(tmp_path):
    load(CORPORA, "csv").write_example(tmp_path / "raw", num_records=30)
    recipe = Recipe(None, num_shards=2)
    build_shards(open_corpus("csv", data_dir=tmp_path / "raw", sampling_rate=500), recipe, tmp_path / "built", [0])
    other = open_corpus("csv", data_dir=tmp_path / "raw", sampling_rate=250)
    with pytest.raises(EcgIntegrityError, match=r"was built with another .*options"):
        build_shards(other, recipe, tmp_path / "built", [0])


def test_shards_of_another_build_do_not_stay_beside_those_of_this(corpus, built, tmp_path):
    shutil.copytree(built, tmp_path / "built")
    recipe = replace(RECIPE, num_shards=1)
    build_shards(corpus, recipe, tmp_path / "built", [0])
    with pytest.raises(EcgIntegrityError, match=r"holds 9 shards of another build, such as .*; delete them"):
        write_manifest(corpus, recipe, tmp_path / "built")


def test_what_a_killed_build_left_half_written_is_removed(corpus, built, tmp_path):
    shutil.copytree(built, tmp_path / "built")
    (tmp_path / "built/data/.train-00000-of-00003.parquet.123.partial").write_bytes(b"half")
    write_manifest(corpus, RECIPE, tmp_path / "built")
    assert not list((tmp_path / "built").rglob(".*"))


def test_a_manifest_is_written_only_when_all_is_there(corpus, built, tmp_path):
    build_shards(corpus, RECIPE, tmp_path, [1])
    files = shard_files(corpus, RECIPE, tmp_path)
    assert [all(path.is_file() for path in paths) for paths in files] == [False, True, False]
    with pytest.raises(EcgIntegrityError, match=r"[26] shards are missing, such as"):
        write_manifest(corpus, RECIPE, tmp_path)
    with pytest.raises(EcgAccessError, match=r"has no manifest.json: finish building the corpus there"):
        BuiltCorpus(tmp_path)


def test_a_split_with_fewer_records_than_shards_has_a_shard_for_each():
    assert len(shard_paths(2, "test", 5)) == 2
    assert shard_paths(10, "train", 2) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]


def test_records_are_left_out_by_name_and_the_manifest_says_so(corpus, tmp_path):
    name = corpus.entries()["train"][3].record_id
    recipe = Recipe(None, excluded=(name,))
    build_shards(corpus, recipe, tmp_path, [0])
    manifest = write_manifest(corpus, recipe, tmp_path)
    assert name not in ids_of(tmp_path / "data/train-00000-of-00001.parquet")
    assert manifest["recipe"]["excluded"] == [name]
    with pytest.raises(EcgIntegrityError, match=r"1 records to leave out are not in synthetic, such as \['nobody'\]"):
        build_shards(corpus, Recipe(None, excluded=("nobody",)), tmp_path / "b", [0])


def test_a_record_that_cannot_be_read_stops_the_build_by_name(corpus, tmp_path, monkeypatch):
    bad = corpus.entries()["train"][0]

    def read(entry):
        if entry == bad:
            raise EcgFormatError("torn")
        return type(corpus).read(corpus, entry)

    monkeypatch.setattr(corpus, "read", read)
    with pytest.raises(EcgFormatError, match=f"record {bad.record_id} of synthetic: torn; to build without it"):
        build_shards(corpus, Recipe(None), tmp_path, [0])
    assert list(tmp_path.rglob("*.parquet")) == list(tmp_path.rglob(".*.partial")) == []


def test_row_groups_stay_small_however_long_the_records():
    def sizes(num_bytes, number=250):
        return [len(group) for group in row_groups(iter([{"signal": bytes(num_bytes)}] * number))]

    assert sizes(10) == [100, 100, 50]
    assert sizes(5 * 2**20, 5) == [2, 2, 1]


def test_the_manifest_has_the_hash_of_every_shard(built):
    manifest = json.loads((built / "manifest.json").read_text())
    files = [file for split in manifest["splits"].values() for file in split["files"]]
    listed = {Path(file["path"]).name: file["sha256"] for file in files}
    assert listed == hashes(built)
    BuiltCorpus(built).check()


def test_a_changed_shard_is_found(built, tmp_path):
    folder = tmp_path / "built"
    shutil.copytree(built, folder)
    victim = sorted(folder.rglob("*.parquet"))[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(EcgIntegrityError, match=r"has SHA-256 [0-9a-f]{64}, expected"):
        BuiltCorpus(folder).check()
    victim.write_bytes(data[:-1])
    with pytest.raises(EcgIntegrityError, match=r"should have \d+ bytes, it has \d+; build or download it again"):
        BuiltCorpus(folder)


def test_a_file_that_is_no_shard_is_refused(corpus, tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(EcgIntegrityError, match=r"is not a shard of a built corpus .*; delete it"):
        check_shard(path, describe_build(corpus, RECIPE, select_entries(corpus, RECIPE)))


COMMAND = ["synthetic", "-", "OUT", "--fields", "num_records=60", "sampling_rate=100", "seed=4", "--target_rate", "120"]
COMMAND += ["--num_shards", "3", "--seed", "5"]


def run_build(monkeypatch, folder, *more):
    monkeypatch.setattr(sys, "argv", ["build.py", *COMMAND[:2], str(folder), *COMMAND[3:], *more])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "dataset_scripts/build.py"), run_name="__main__")
    assert ended.value.code == 0


def test_two_local_workers_build_the_same_bytes(built, tmp_path, monkeypatch, capsys):
    run_build(monkeypatch, tmp_path, "--workers", "2")
    assert hashes(tmp_path) == hashes(built)
    assert f"built synthetic: {tmp_path}" in capsys.readouterr().out
    assert "load_dataset" in (tmp_path / "README.md").read_text()


def test_shards_built_one_by_one_need_no_engine(built, tmp_path, monkeypatch):
    for shard in range(3):
        run_build(monkeypatch, tmp_path, "--shard", str(shard))
    assert hashes(tmp_path) == hashes(built)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.slow
def test_killed_at_many_points_a_build_ends_with_the_same_bytes(built, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "dataset_scripts/build.py"), *COMMAND[:2], str(tmp_path), *COMMAND[3:]]
    rng, kills = np.random.default_rng(0), 0
    for _ in range(12):
        with subprocess.Popen([*command, "--shard", str(rng.integers(3))], env=environment) as process:
            time.sleep(float(rng.uniform(3, 9)))
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
    assert kills > 0
    for shard in range(3):
        subprocess.run([*command, "--shard", str(shard)], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert hashes(tmp_path) == hashes(built)
