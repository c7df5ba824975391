"""Publishing a built corpus: what arrives is read by plain `datasets`, and nothing closed ever leaves."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard

from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.built import BuiltCorpus
from ecg_hf.data.shards import Recipe, build_shards, write_manifest
from ecg_hf.errors import EcgAccessError, EcgIntegrityError
from ecg_hf.hub.dataset_cards import dataset_card, hub_licence, require_shareable
from ecg_hf.hub.publishing import publish_corpus
from ecg_hf.registry import CORPORA, load
from ecg_hf.signals.row import row_to_signal
from places import ROOT, SHARED

# huggingface_hub 2.4 sends LFS files through an argument that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
READ = """
import sys
sys.modules["ecg_hf"] = None  # not installed, as far as this process can tell
import numpy as np
from datasets import load_dataset
rows = load_dataset(sys.argv[1], split="train", streaming=True)
lines = []
for row in rows:
    samples = np.frombuffer(row["signal"], "<i2").reshape(len(row["leads"]), row["num_samples"])
    signal = (samples - np.array(row["baseline"])[:, None]) / np.array(row["gain"])[:, None]
    lines.append(f"{row['record_id']} {signal.shape} {signal.sum():.6f} {len(row['labels'])}")
print("\\n".join(lines))
"""


def build(folder, name, place=None, config=None, rate=None, **fields):
    corpus, recipe = open_corpus(name, config, place, **fields), Recipe(rate, num_shards=2)
    for shard in range(2):
        build_shards(corpus, recipe, folder, [shard])
    write_manifest(corpus, recipe, folder)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built"), "synthetic", num_records=40, sampling_rate=100)


def closed(folder, **facts):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["facts"] |= facts
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return BuiltCorpus(folder)


def read_elsewhere(hub, repo_id, home):
    environment = {**os.environ, **hub.environment(home)}
    command = [sys.executable, "-c", READ, repo_id]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def expected_lines(folder):
    rows = BuiltCorpus(folder).as_dataset("train")
    signals = (np.asarray(row_to_signal(row), np.float64) for row in rows)
    return [
        (row["record_id"], signal.shape, signal.sum(), len(row["labels"]))
        for row, signal in zip(rows, signals, strict=True)
    ]


@pytest.mark.parametrize("name", ["synthetic", "ptbxl"])
def test_a_published_corpus_is_read_without_this_library(name, hub, built, tmp_path):
    folder = built
    if name == "ptbxl":
        load(CORPORA, "ptbxl").write_example(tmp_path / "ptbxl", num_records=30)
        folder = build(tmp_path / "built", "ptbxl", tmp_path / "ptbxl", "500hz", 240)
    publish_corpus(folder, f"org/{name}")
    lines = read_elsewhere(hub, f"org/{name}", tmp_path)
    expected = expected_lines(folder)
    assert len(lines) == len(expected) > 0
    for line, (record, shape, total, labels) in zip(lines, expected, strict=True):
        assert line.startswith(f"{record} {shape} ") and line.endswith(f" {labels}")
        assert float(line.split(") ")[1].split()[0]) == pytest.approx(total, abs=0.01)


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data")
def test_real_ptbxl_goes_to_the_hub_and_back(hub, tmp_path):
    folder = build(tmp_path / "built", "ptbxl", SHARED / "ptb-xl", "100hz", 100)
    publish_corpus(folder, "org/real")
    assert len(read_elsewhere(hub, "org/real", tmp_path)) == 301


def test_the_repository_holds_the_shards_the_manifest_and_the_card_and_nothing_else(hub, built):
    (built / ".jobs").mkdir(exist_ok=True)
    (built / ".jobs/log").write_text("private")
    publish_corpus(built, "org/whole")
    files = hub.repos["dataset", "org/whole"].commits[-1][2]
    shards = {file["path"] for file in BuiltCorpus(built).files()}
    assert set(files) - {".gitattributes"} == shards | {"manifest.json", "README.md"}
    for path in shards:
        assert files[path] == (built / path).read_bytes()


def test_a_folder_gets_the_same_as_the_hub(built, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["publish.py", str(built), "org/x", "--to_folder", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "dataset_scripts/publish.py"), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"published {built} as {tmp_path / 'out'}\n"
    BuiltCorpus(tmp_path / "out").check()
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_a_card_says_what_the_manifest_says(built):
    card = dataset_card(BuiltCorpus(built), "org/synthetic")
    assert isinstance(card, DatasetCard) and card.data.license == "cc0-1.0"
    assert card.data.configs[0]["data_files"][0] == {"split": "train", "path": "data/train-*.parquet"}
    facts = BuiltCorpus(built).facts
    for text in (facts["description"], facts["name"], "as recorded", "n<1K"):
        assert text in str(card)
    assert 'load_dataset("org/synthetic", split="train", streaming=True)' in card.text


@pytest.mark.parametrize("access", ["restricted", "credentialed"])
def test_a_source_that_is_not_open_is_never_published(access, hub, built, tmp_path):
    folder = publish_here(built, tmp_path)
    closed(folder, access=access, homepage="https://apply.example")
    with pytest.raises(EcgAccessError, match=rf"has {access} access, .* whoever wants them applies at https://apply"):
        publish_corpus(folder, "org/closed")
    assert ("dataset", "org/closed") not in hub.repos


def publish_here(built, tmp_path):
    return Path(publish_corpus(built, "org/copy", to_folder=tmp_path / "copy"))


@pytest.mark.parametrize("licence", ["CC-BY-NC-ND-4.0", "CC-BY-ND-4.0", "LicenseRef-own-records"])
def test_a_licence_that_forbids_changed_copies_is_respected(licence, built, tmp_path):
    with pytest.raises(EcgAccessError, match=f"has the licence {licence}, expected one that allows changed copies"):
        require_shareable(closed(publish_here(built, tmp_path), licence=licence))


def test_every_open_corpus_has_a_licence_that_the_hub_knows():
    for name in CORPORA:
        corpus = load(CORPORA, name)
        assert corpus.access != "open" or hub_licence(corpus.licence), name


def test_a_changed_shard_is_not_published(hub, built, tmp_path):
    folder = publish_here(built, tmp_path)
    victim = sorted(folder.rglob("*.parquet"))[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(EcgIntegrityError, match="has SHA-256"):
        publish_corpus(folder, "org/changed")
    assert ("dataset", "org/changed") not in hub.repos


def test_a_name_that_is_none_is_refused(built):
    with pytest.raises(ValueError, match="repo_id must be 'organisation/name', got 'x'"):
        publish_corpus(built, "x")
