import json
import os
import shutil
import threading
import time
import tracemalloc
from collections import namedtuple

import numpy as np
import pytest
import torch

from ecg_hf import CLASSIFIERS
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.prepared import PreparedSplit
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.probes import feature_store as frozen_file
from ecg_hf.evaluation.probes import frozen_features as module
from ecg_hf.evaluation.probes.feature_store import ABOUT, UNUSED_DAYS, VALUES
from ecg_hf.evaluation.probes.frozen_features import cache_features, identify
from ecg_hf.registry import BACKBONES, load
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

EXTRACTOR = EcgFeatureExtractor(sampling_rate=100, num_samples=250)


def make(name="s4", head="linear", seed=0, **fields):
    config_class = load(BACKBONES, name).config_class
    sizes = {"hidden_size": 16, "num_layers": 1} if name == "s4" else load(BACKBONES, name).sizes["20k"]
    torch.manual_seed(seed)
    settings = {**sizes, "head": head, "head_num_heads": 1, "num_labels": 3, **fields}
    return CLASSIFIERS[name](config_class(**settings))


@pytest.fixture(scope="module")
def split():
    return PreparedSplit(open_corpus("synthetic", num_records=60, sampling_rate=100, seed=2), "train", EXTRACTOR)


@pytest.fixture
def counted(monkeypatch):
    """How often the backbone has run over a split."""
    runs, encode = [], module._encode

    def counting(*args):
        runs.append(args)
        return encode(*args)

    monkeypatch.setattr(module, "_encode", counting)
    return runs


@pytest.mark.parametrize("head", ["linear", "attention"])
@torch.no_grad()
def test_features_are_what_the_backbone_gives_for_each_tile_alone(split, tmp_path, head):
    model = make(head=head)
    some = split.select([7, 3, 20])
    features = cache_features(model, some, EXTRACTOR, tmp_path, batch_size=7)
    assert features.counts.tolist() == [4, 4, 4]
    for record in range(3):
        for number in range(4):
            crop = some.signal(record)[:, 250 * number : 250 * (number + 1)]
            tokens = model.eval().backbone(torch.tensor(crop)[None]).last_hidden_state[0]
            found = features.take(features.first[[record]] + number)[0]
            assert found.dtype == torch.float32
            assert torch.allclose(found, tokens.mean(dim=0) if head == "linear" else tokens, atol=1e-5)


def test_other_records_heads_and_splits_of_the_same_table_find_what_is_there(split, tmp_path, counted):
    first = cache_features(make(), split, EXTRACTOR, tmp_path)
    model = make()
    torch.nn.init.normal_(model.head.linear.weight)
    some = cache_features(model, split.select([5, 2]), EXTRACTOR, tmp_path)
    assert len(counted) == 1 and some.first.tolist() == first.first[[5, 2]].tolist()
    assert torch.equal(some.take(some.first), first.take(first.first[[5, 2]]))


def test_whatever_decides_the_features_names_another_folder(split, tmp_path, counted, monkeypatch):
    test = PreparedSplit(open_corpus("synthetic", num_records=60, sampling_rate=100, seed=2), "test", EXTRACTOR)
    other = PreparedSplit(open_corpus("synthetic", num_records=60, sampling_rate=100, seed=3), "train", EXTRACTOR)
    longer, kinds = EcgFeatureExtractor(sampling_rate=100, num_samples=500), {"num_labels": 3}
    moved = make()
    with torch.no_grad():
        next(moved.backbone.parameters())[..., 0] += 1e-3
    variants = [
        (make(), split, EXTRACTOR, "float32"),
        (make(), split, EXTRACTOR, "float16"),
        (moved, split, EXTRACTOR, "float32"),
        (make(head="attention"), split, EXTRACTOR, "float32"),
        (make(causal=True, **kinds), split, EXTRACTOR, "float32"),
        (make(), split, longer, "float32"),
        (make(), test, EXTRACTOR, "float32"),
        (make(), other, EXTRACTOR, "float32"),
    ]
    for model, records, extractor, dtype in variants * 2:
        cache_features(model, records, extractor, tmp_path, dtype)
    assert len(counted) == len(variants)
    monkeypatch.setattr(module.torch, "__version__", "9.9")
    cache_features(*variants[0][:3], tmp_path)
    assert len(counted) == len(variants) + 1


def test_another_task_does_not_name_another_folder(split):
    identities = [identify(make(num_labels=number), split, EXTRACTOR, "float32") for number in (3, 7)]
    assert identities[0] == identities[1] == json.loads(json.dumps(identities[0]))


@pytest.mark.parametrize("name", sorted(BACKBONES))
@torch.no_grad()
def test_a_frozen_backbone_knows_no_neighbours_and_no_chance_even_in_training(name):
    model = make(name)
    model.freeze_backbone()
    model.train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    signal = torch.randn(6, 12, 300, generator=torch.Generator().manual_seed(0))
    together = model.backbone(signal).last_hidden_state
    alone = torch.cat([model.backbone(one[None]).last_hidden_state for one in signal])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(together, model.backbone(signal).last_hidden_state)
    assert all(torch.equal(before[key], value) for key, value in model.backbone.state_dict().items())


def test_a_run_that_is_killed_while_it_writes_leaves_nothing_that_is_used(split, tmp_path, monkeypatch, counted):
    expected = cache_features(make(), split, EXTRACTOR, tmp_path / "whole")
    encode = module._encode

    def failing(*args):
        batches = encode(*args)
        yield next(batches)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_encode", failing)
    monkeypatch.setattr(frozen_file.shutil, "rmtree", lambda *args, **kwargs: None)  # as if killed without warning
    with pytest.raises(KeyboardInterrupt):
        cache_features(make(), split, EXTRACTOR, tmp_path / "cut")
    monkeypatch.undo()
    (half,) = (tmp_path / "cut").glob(f".*.partial/{VALUES}")
    assert half.stat().st_size and not list((tmp_path / "cut").glob(f"*/{ABOUT}"))
    again = cache_features(make(), split, EXTRACTOR, tmp_path / "cut")
    assert np.array_equal(again.values, expected.values) and not half.parent.exists()


@pytest.mark.parametrize(
    "damage, why",
    [
        (lambda folder: os.truncate(folder / VALUES, 5000), "is incomplete"),
        (lambda folder: os.truncate(folder / VALUES, 50_000), "is incomplete"),
        (lambda folder: (folder / VALUES).write_bytes(b""), "is incomplete"),
        (lambda folder: (folder / VALUES).unlink(), "No such file"),
        (lambda folder: (folder / ABOUT).write_text('{"identity"'), "Expecting ':'"),
        (lambda folder: (folder / ABOUT).write_text("[]"), "describes other features"),
        (
            lambda folder: (folder / ABOUT).write_text((folder / ABOUT).read_text().replace("II", "V9")),
            "describes other",
        ),
    ],
)
def test_features_that_are_not_whole_or_of_others_are_computed_again(split, tmp_path, caplog, counted, damage, why):
    expected = np.array(cache_features(make(), split, EXTRACTOR, tmp_path).values)
    damage(next(tmp_path.glob(f"*/{VALUES}")).parent)
    assert np.array_equal(cache_features(make(), split, EXTRACTOR, tmp_path).values, expected)
    assert len(counted) == 2 and "are computed again" in caplog.text and why in caplog.text
    cache_features(make(), split, EXTRACTOR, tmp_path)
    assert len(counted) == 2


def test_two_runs_at_once_compute_once(split, tmp_path, counted):
    found = []

    def run(model):
        found.append(cache_features(model, split, EXTRACTOR, tmp_path))

    threads = [threading.Thread(target=run, args=(model,)) for model in (make(), make())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1 and np.array_equal(found[0].values, found[1].values)


def test_values_are_streamed_to_the_disk(tmp_path):
    batches = (np.full((16, 300, 64), value, np.float32) for value in range(64))  # 1.2 MB each
    tracemalloc.start()
    frozen_file.write_values(tmp_path / "features", {}, 64 * 16, np.dtype("float32"), batches)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6
    values = frozen_file.open_values(tmp_path / "features", {})
    assert values.shape == (1024, 300, 64) and np.array_equal(values[:, 0, 0], np.repeat(np.arange(64), 16))


def test_features_that_nobody_has_used_for_long_are_deleted_and_nothing_else(split, tmp_path):
    cache_features(make(), split, EXTRACTOR, tmp_path)
    (old,) = (path.parent for path in tmp_path.glob(f"*/{ABOUT}"))
    kept = shutil.copytree(old, tmp_path / "mine")
    long_ago = time.time() - (UNUSED_DAYS + 1) * 86_400
    for folder in (old, kept):
        os.utime(folder / ABOUT, (long_ago, long_ago))
    cache_features(make(), split, EXTRACTOR, tmp_path)  # used again, so it stays
    cache_features(make(seed=1), split, EXTRACTOR, tmp_path)
    assert old.exists() and kept.exists()
    os.utime(old / ABOUT, (long_ago, long_ago))
    cache_features(make(seed=2), split, EXTRACTOR, tmp_path)
    assert not old.exists() and kept.exists() and len(list(tmp_path.glob(f"*/{ABOUT}"))) == 3


def test_a_disk_without_room_is_noticed_before_it_is_full(split, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(frozen_file.shutil, "disk_usage", lambda folder: usage(1000))
    with pytest.raises(ValueError, match=r"take 0\.0 GB, .* has 0\.0 GB; set feature_cache to a folder on a larger"):
        cache_features(make(), split, EXTRACTOR, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("value, dtype, remedy", [(1e5, "float16", "to float32"), (np.nan, "float32", "the corpus$")])
def test_features_that_are_not_finite_are_refused(tmp_path, value, dtype, remedy):
    batches = iter([np.array([[1.0, value]], np.float32)])
    with pytest.raises(EcgIntegrityError, match=f"some that {dtype} does not hold; .*{remedy}"):
        frozen_file.write_values(tmp_path / "features", {}, 1, np.dtype(dtype), batches)


@pytest.mark.parametrize("name", ["s4", "resnet"])
def test_features_of_other_backbone_code_are_not_read_back(name, split, monkeypatch):
    hashed = []
    monkeypatch.setattr(module, "code_hash", lambda modules: hashed.extend(modules) or "")
    identify(make(name), split, EXTRACTOR, "float32")
    assert load(BACKBONES, name).__module__ in hashed
