"""F35, F36, F38: numbers that are not numbers, shards that have changed, representations that collapse."""

import json
import shutil

import numpy as np
import pytest
from children import Fault, arguments_for, messages, rows, run
from safetensors.torch import load_file

from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.batches import MixedCrops
from ecg_hf.data.built import BuiltCorpus, BuiltSplit
from ecg_hf.data.shards import Recipe, build_shards, write_manifest
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

SHARDS = 64


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "synthetic"
    corpus = open_corpus("synthetic", num_records=240, sampling_rate=100, seed=6)
    recipe = Recipe(target_rate=100, num_shards=SHARDS)
    build_shards(corpus, recipe, folder, range(SHARDS))
    write_manifest(corpus, recipe, folder)
    return folder


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(data)


def test_a_changed_shard_is_named_or_left_out_and_the_records_add_up(built, tmp_path, tally):
    shutil.copytree(built, tmp_path / "copy")
    whole, kept = BuiltCorpus(built), 0
    generator = np.random.default_rng(0)
    for file in whole.files():
        place = tmp_path / "copy" / file["path"]
        flip(place, int(generator.integers(1 << 30)))
        with pytest.raises(EcgIntegrityError, match=f"{place.name} has SHA-256"):
            BuiltCorpus(tmp_path / "copy").check()
        skipping = BuiltCorpus(tmp_path / "copy", skip_damaged=True)
        records = sum(other["num_records"] for other in skipping.files())
        expected = sum(other["num_records"] for other in whole.files()) - file["num_records"]
        kept += (
            skipping.left_out == [file["path"]] and records == expected and skipping.fingerprint != whole.fingerprint
        )
        shutil.copy2(built / file["path"], place)
    BuiltCorpus(tmp_path / "copy").check()
    tally(
        "F36 one shard in all of a corpus with a flipped bit: named, or left out with all others read",
        len(whole.files()),
        kept,
    )


def test_a_run_stops_at_a_damaged_shard_or_goes_on_without_it(built, tmp_path, tally):
    shutil.copytree(built, tmp_path / "copy")
    damaged = BuiltCorpus(built).files("train")[3]
    flip(tmp_path / "copy" / damaged["path"], 1000)
    arguments = arguments_for(tmp_path / "run", corpus=[str(tmp_path / "copy")], corpus_fields=[], max_steps=3)
    assert run(arguments) == [1]
    assert f"EcgIntegrityError: {tmp_path / 'copy' / damaged['path']} has SHA-256" in messages(tmp_path / "run")
    assert run(arguments | {"on_damage": "skip"}) == [0], messages(tmp_path / "run")
    (corpus,) = json.loads((tmp_path / "run" / "run.json").read_text())["corpora"]
    counted = corpus["splits"]["train"]["num_records"]
    expected = sum(file["num_records"] for file in BuiltCorpus(built).files("train")) - damaged["num_records"]
    named = corpus["left_out_shards"] == [damaged["path"]]
    tally(
        "F36 a run on a corpus with a damaged shard: stopped, or on without it and run.json says so",
        2,
        2 * (named and counted == expected),
    )


def test_a_sample_that_is_not_finite_never_reaches_a_model(built, tally):
    split = BuiltSplit(BuiltCorpus(built), "train", EcgFeatureExtractor(sampling_rate=100, num_samples=250), 250)
    crops, caught = split.crops, 0
    for value in (np.nan, np.inf, -np.inf):

        def poisoned(*arguments, value=value):
            signals = crops(*arguments)
            signals[1, 3, 7] = value
            return signals

        split.crops = poisoned
        with pytest.raises(EcgIntegrityError, match="has samples that are not finite"):
            MixedCrops([split], 250, 0).__getitems__([0, 1, 2])
        caught += 1
    tally("F35 NaN or infinity in a batch: EcgIntegrityError that names the record", 3, caught)


@pytest.mark.parametrize("number", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_gradient_that_is_not_finite_moves_nothing_and_too_many_stop_the_run(tmp_path, tally, number):
    for trial in range(number):
        folder = tmp_path / str(trial)
        assert run(arguments_for(folder), [Fault("poison", poisoned=(3 + trial,))]) == [0], messages(folder)
        skipped = [row["step"] for row in rows(folder) if row["grad_norm"] is None]
        finite = all(value.isfinite().all() for value in load_file(folder / "model.safetensors").values())
        assert skipped == [4 + trial] and rows(folder)[-1]["skipped_steps"] == 1 and finite
    assert run(
        arguments_for(tmp_path / "all", max_nonfinite_steps=5), [Fault("poison", poisoned=tuple(range(3, 20)))]
    ) == [1]
    said = "FloatingPointError: the gradient was not finite for 5 steps in a row, up to step 8"
    tally(
        "F35 NaN in the gradient of a step: skipped and counted; of five in a row: stopped",
        number + 1,
        number + (said in messages(tmp_path / "all")),
    )


@pytest.mark.parametrize(
    "pair", ["s4-jepa", *(pytest.param(name, marks=pytest.mark.slow) for name in ("s4-data2vec", "s4-dinosr"))]
)
def test_a_collapse_that_was_planted_is_seen_within_two_hundred_steps(tmp_path, tally, pair):
    arguments = arguments_for(
        tmp_path / "run", pair=pair, max_steps=250, validation_steps=0, checkpoint_steps=1000, on_collapse="stop"
    )
    assert run(arguments, [Fault(collapse=True, step=50)]) == [1]
    said = "EcgCollapseError: representations have collapsed for 100 steps in a row: feature_std"
    seen = said in messages(tmp_path / "run") and len(rows(tmp_path / "run")) <= 50 + 200
    tally("F38 a collapse that was planted in jepa, data2vec, dinosr: EcgCollapseError within 200 steps", 1, int(seen))
