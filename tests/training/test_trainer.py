import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from ecg_hf import PretrainingArguments, load_corpus, pretrain, row_to_signal
from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.errors import EcgAccessError, EcgCheckpointError
from ecg_hf.training import trainer as training
from ecg_hf.training.step import TrainStep
from ecg_hf.training.trainer import Pretrainer
from mixture import build_mixture
from places import ROOT

CORPUS = ["num_records=24", "sampling_rate=100", "seed=1"]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
MODEL = ["hidden_size=16", "num_layers=1", "num_negatives=8"]


def arguments_for(folder, **changes):
    settings = {
        "size": "20k",
        "model_fields": MODEL,
        "corpus_fields": CORPUS,
        "sampling_rate": 100.0,
        "max_steps": 8,
        "batch_size": 4,
        "warmup_steps": 2,
        "validation_steps": 4,
        "checkpoint_steps": 3,
    }
    return PretrainingArguments(output_dir=str(folder), **(settings | changes))


def rows_of(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def losses_of(folder):
    return [(row["step"], row["loss"], row["grad_norm"], row.get("validation_loss")) for row in rows_of(folder)]


def assert_same_run(folder, other):
    assert losses_of(folder) == losses_of(other)
    weights, others = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def interrupt(monkeypatch, number):
    """Lets a signal arrive in the fifth step."""
    run = TrainStep.run

    def interrupted(self, step, *rest):
        if step == 4:
            signal.raise_signal(number)
        return run(self, step, *rest)

    monkeypatch.setattr(TrainStep, "run", interrupted)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    # Accelerate keeps one state per process, and a process has one run; a test process has many.
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return pretrain(arguments_for(tmp_path_factory.mktemp("whole")))


def test_a_run_ends_in_a_folder_that_loads_as_a_model(whole_run):
    pair = AutoModelForPreTraining.from_pretrained(whole_run)
    assert type(pair).__name__ == "EcgS4ForCPC"
    row = next(iter(load_corpus("synthetic", split="test", streaming=True, num_records=24, sampling_rate=100, seed=1)))
    features = AutoFeatureExtractor.from_pretrained(whole_run)(
        row_to_signal(row), sampling_rate=100, return_tensors="pt"
    )
    tokens = AutoModel.from_pretrained(whole_run)(**features).last_hidden_state
    assert tokens.shape == (1, 500, 16) and tokens.isfinite().all()
    assert {path.name for path in whole_run.iterdir()} >= {"run.json", "metrics.jsonl", "loss.png"}


def test_every_step_has_one_row_and_the_run_says_what_it_was(whole_run):
    rows, run = rows_of(whole_run), json.loads((whole_run / "run.json").read_text())
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["step"] for row in rows if "validation_loss" in row] == [4, 8]
    assert (run["steps"], run["examples_seen"], run["kind"], run["pair"]) == (8, 32, "pretraining", "s4-cpc")
    (corpus,) = run["corpora"]
    assert corpus["name"] == "synthetic" and corpus["licence"] and len(corpus["fingerprint"]) == 64
    assert sum(split["num_records"] for split in corpus["splits"].values()) <= 24


def test_the_same_seed_gives_the_same_run_and_another_seed_another(whole_run, tmp_path):
    assert_same_run(pretrain(arguments_for(tmp_path / "again")), whole_run)
    assert losses_of(pretrain(arguments_for(tmp_path / "other", seed=1))) != losses_of(whole_run)


def test_workers_do_not_change_a_run(whole_run, tmp_path):
    assert_same_run(pretrain(arguments_for(tmp_path, num_workers=2)), whole_run)


def test_the_random_numbers_of_a_step_do_not_depend_on_what_was_drawn_before(whole_run, tmp_path, monkeypatch):
    run = TrainStep.run
    monkeypatch.setattr(TrainStep, "run", lambda self, step, *rest: (torch.rand(step), run(self, step, *rest))[1])
    assert_same_run(pretrain(arguments_for(tmp_path)), whole_run)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_writes_a_checkpoint_and_continues_as_if_nothing_had_been(
    whole_run, tmp_path, monkeypatch, number, status
):
    interrupt(monkeypatch, number)
    with pytest.raises(SystemExit) as stop:
        pretrain(arguments_for(tmp_path))
    assert stop.value.code == status
    assert (tmp_path / "checkpoints" / "step-00000006" / "manifest.json").exists()
    monkeypatch.undo()
    assert_same_run(pretrain(arguments_for(tmp_path, resume=True)), whole_run)


@pytest.mark.parametrize("kill_at", [2, 5])
def test_a_run_killed_while_it_writes_a_checkpoint_continues_from_the_last_whole_one(whole_run, tmp_path, kill_at):
    # A checkpoint's three files are hashed one by one: the process dies within the first or the second checkpoint.
    code = f"""
        import os, signal
        import ecg_hf.training.checkpoints.folder as checkpoints
        from ecg_hf import PretrainingArguments, pretrain
        hash_file, calls = checkpoints.sha256_of, []

        def killed(path):
            calls.append(path)
            if len(calls) == {kill_at}:
                os.kill(os.getpid(), signal.SIGKILL)
            return hash_file(path)

        checkpoints.sha256_of = killed
        pretrain(PretrainingArguments(**{vars(arguments_for(tmp_path))!r}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (tmp_path / "checkpoints" / ("step-00000003" if kill_at > 3 else ".step-00000003.partial")).exists()
    assert_same_run(pretrain(arguments_for(tmp_path, resume=True)), whole_run)


def test_resuming_twice_is_as_good_as_not_at_all(whole_run, tmp_path, monkeypatch):
    run = TrainStep.run
    for stop_at in (4, 7):

        def failing(self, step, *rest, stop_at=stop_at):
            if step == stop_at:
                raise RuntimeError("power cut")
            return run(self, step, *rest)

        monkeypatch.setattr(TrainStep, "run", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            pretrain(arguments_for(tmp_path, resume=True))
    monkeypatch.undo()
    assert_same_run(pretrain(arguments_for(tmp_path, resume=True)), whole_run)


def test_a_folder_with_another_run_is_not_overwritten(whole_run):
    with pytest.raises(EcgCheckpointError, match="continue it with resume=True"):
        pretrain(arguments_for(whole_run))


def test_a_run_is_not_continued_with_other_arguments(whole_run):
    with pytest.raises(EcgCheckpointError, match="with crops_per_step=4, got 5"):
        pretrain(arguments_for(whole_run, batch_size=5, resume=True))


def test_a_run_is_not_continued_with_other_data(whole_run, monkeypatch):
    monkeypatch.setattr(EcgCorpus, "fingerprint", property(lambda self: "0" * 64))
    with pytest.raises(EcgCheckpointError, match=r"belongs to a run with data=.*got \['0000"):
        pretrain(arguments_for(whole_run, resume=True))


def test_best_weights_that_an_earlier_run_left_behind_are_not_taken_for_this_runs(whole_run, tmp_path):
    stale = tmp_path / "run" / "best-00000004"
    shutil.copytree(whole_run, stale)
    fill = load_file(stale / "model.safetensors")
    zeros = {name: torch.zeros_like(value) for name, value in fill.items()}
    save_file(zeros, stale / "model.safetensors", metadata={"format": "pt"})
    assert_same_run(pretrain(arguments_for(tmp_path / "run")), whole_run)
    assert not stale.exists()


def test_micro_batches_add_up_to_the_batch_they_are_part_of(tmp_path):
    # Without batch norm, dropout and drawn negatives a crop's gradient does not depend on its neighbours.
    fields = [*MODEL, "stem=linear", "dropout=0", "negatives=sequence"]
    whole = pretrain(arguments_for(tmp_path / "a", model_fields=fields, batch_size=4))
    parts = pretrain(arguments_for(tmp_path / "b", model_fields=fields, batch_size=2, gradient_accumulation_steps=2))
    for row, other in zip(rows_of(whole), rows_of(parts), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


@pytest.fixture
def trainers(monkeypatch):
    """The Pretrainers that a test makes."""
    made, start = [], Pretrainer._start
    monkeypatch.setattr(Pretrainer, "_start", lambda self: (made.append(self), start(self)))
    return made


def break_gradients(monkeypatch, steps):
    """Lets a gradient be NaN in some steps; gives the state dict before each step."""
    backward, run, before = TrainStep._backward, TrainStep.run, {}
    running = []

    def noted(self, step, *rest):
        running.append(step)
        before[step] = {name: value.clone() for name, value in self.pair.state_dict().items()}
        return run(self, step, *rest)

    def broken(self, batches):
        sums = backward(self, batches)
        if running[-1] in steps:
            next(self.model.parameters()).grad.fill_(float("nan"))
        return sums

    monkeypatch.setattr(TrainStep, "run", noted)
    monkeypatch.setattr(TrainStep, "_backward", broken)
    return before


@pytest.mark.parametrize("pair", ["s4-cpc", "s4-jepa", "s4-dinosr", "resnet-data2vec"])
def test_a_step_whose_gradient_is_not_finite_moves_nothing(tmp_path, monkeypatch, trainers, pair):
    before = break_gradients(monkeypatch, {3, 4})
    fields = [] if pair.startswith("resnet") else ["hidden_size=16", "num_layers=1"]
    pretrain(arguments_for(tmp_path, pair=pair, model_fields=fields, max_steps=7))
    assert all(torch.equal(value, before[5][name]) for name, value in before[3].items())
    assert not all(torch.equal(value, before[6][name]) for name, value in before[5].items())
    assert [row["grad_norm"] is None for row in rows_of(tmp_path)] == [False] * 3 + [True] * 2 + [False] * 2
    assert [row["skipped_steps"] for row in rows_of(tmp_path)] == [0, 0, 0, 1, 2, 2, 2]
    adam = trainers[0].step.adam.state
    assert {int(state["step"]) for state in adam.values()} == {5}
    assert json.loads((tmp_path / "run.json").read_text())["skipped_steps"] == 2


def test_too_many_such_steps_in_a_row_stop_the_run(tmp_path, monkeypatch):
    break_gradients(monkeypatch, {2, 3, 4, 5, 6})
    with pytest.raises(FloatingPointError, match="3 steps in a row, up to step 5"):
        pretrain(arguments_for(tmp_path, max_nonfinite_steps=3, checkpoint_steps=100))
    assert [row["grad_norm"] is None for row in rows_of(tmp_path)] == [False, False, True, True, True]


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    run = TrainStep.run

    def poisoned(self, step, *rest):
        report = run(self, step, *rest)
        if step == 4:
            next(self.pair.parameters()).data.fill_(float("nan"))
        return report

    monkeypatch.setattr(TrainStep, "run", poisoned)
    with pytest.raises(EcgCheckpointError, match=r"such as .* are not finite"):
        pretrain(arguments_for(tmp_path, max_nonfinite_steps=100, validation_steps=0))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]


def test_early_stopping_ends_the_run_and_keeps_the_best_weights(tmp_path, monkeypatch):
    bests, seen = iter([3.0, 2.0, 4.0, 5.0, 6.0]), []

    def scripted(pair, *rest):
        seen.append({name: value.clone() for name, value in pair.state_dict().items()})
        return next(bests)

    monkeypatch.setattr(training, "validation_loss", scripted)
    folder = pretrain(arguments_for(tmp_path, validation_steps=1, early_stopping_patience=2))
    assert [row["step"] for row in rows_of(folder)] == [1, 2, 3, 4]
    weights = load_file(folder / "model.safetensors")
    statistics = {name for name in weights if name.startswith("backbone.") and name.split(".")[-1] in STATISTICS}
    assert all(torch.equal(value, seen[1][name]) for name, value in weights.items() if name not in statistics)
    # those of batch norms are gathered anew, from whole crops under the best weights
    assert statistics and not all(torch.equal(weights[name], seen[1][name]) for name in statistics)
    assert json.loads((folder / "run.json").read_text())["validation_step"] == 2
    # killed before its model was written, it would not begin to learn again
    (folder / "run.json").unlink()
    AcceleratorState._reset_state(reset_partial_state=True)
    pretrain(arguments_for(tmp_path, validation_steps=1, early_stopping_patience=2, resume=True))
    assert [row["step"] for row in rows_of(folder)] == [1, 2, 3, 4]
    assert json.loads((folder / "run.json").read_text())["validation_step"] == 2


def test_a_supervised_pair_learns_the_labels_of_a_task(tmp_path):
    changes = {"pair": "s4-supervised", "task": "synthetic", "model_fields": MODEL[:2]}
    folder = pretrain(arguments_for(tmp_path, **changes))
    config = json.loads((folder / "config.json").read_text())
    assert len(config["id2label"]) == 11
    assert all(row["loss"] > 0 for row in rows_of(folder))


def test_several_corpora_mix_by_weight(tmp_path):
    mixed = {"corpus": ["synthetic", "synthetic"], "corpus_weights": [0.75, 0.25], "max_steps": 2}
    run = json.loads((pretrain(arguments_for(tmp_path, **mixed)) / "run.json").read_text())
    assert [corpus["weight"] for corpus in run["corpora"]] == [0.75, 0.25]


@pytest.fixture(scope="module")
def four_built(tmp_path_factory):
    return [str(folder) for folder in build_mixture(tmp_path_factory.mktemp("four"))]


@pytest.mark.parametrize("sample_by", ["record", "patient"])
def test_a_run_on_a_weighted_mixture_of_four_built_corpora_resumes_exactly(
    four_built, tmp_path, monkeypatch, sample_by
):
    mixed = {"corpus": four_built, "corpus_weights": [4.0, 2.0, 1.0, 1.0], "corpus_fields": [], "sample_by": sample_by}
    whole = pretrain(arguments_for(tmp_path / "whole", **mixed))
    run = json.loads((whole / "run.json").read_text())
    assert [corpus["name"] for corpus in run["corpora"]] == ["synthetic", "synthetic", "ptbxl", "code15"]
    assert [corpus["unit"] for corpus in run["corpora"]] == ["mV", "mV", "mV", "uncertain mV"]
    interrupt(monkeypatch, signal.SIGTERM)
    with pytest.raises(SystemExit):
        pretrain(arguments_for(tmp_path / "cut", **mixed))
    monkeypatch.undo()
    assert_same_run(pretrain(arguments_for(tmp_path / "cut", **mixed, resume=True)), whole)


def test_a_folder_that_holds_no_built_corpus_is_refused(tmp_path):
    with pytest.raises(EcgAccessError, match=r"has no manifest.json: finish building the corpus there"):
        pretrain(arguments_for(tmp_path / "run", corpus=[str(tmp_path)], corpus_fields=[]))
    with pytest.raises(KeyError, match="'nothing' is not registered"):
        pretrain(arguments_for(tmp_path / "run", corpus=["nothing"], corpus_fields=[]))


def test_bf16_training_stays_near_full_precision(whole_run, tmp_path):
    half = pretrain(arguments_for(tmp_path, mixed_precision="bf16", gradient_checkpointing=True))
    for row, other in zip(rows_of(half), rows_of(whole_run), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=0.05)


def test_data_without_a_place_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data_dir must name a place for each of \['ptbxl'\], got \[\]"):
        pretrain(arguments_for(tmp_path, corpus=["ptbxl"], corpus_fields=[]))


def test_an_unknown_pair_and_size_are_refused(tmp_path):
    with pytest.raises(KeyError, match="pair 's4-magic' is not registered"):
        pretrain(arguments_for(tmp_path, pair="s4-magic"))
    with pytest.raises(KeyError, match="has no size 'huge'"):
        pretrain(arguments_for(tmp_path, size="huge"))


def test_two_processes_make_the_run_that_one_makes_with_twice_the_micro_batches(tmp_path):
    fields = [*MODEL, "dropout=0", "negatives=sequence"]
    alone = pretrain(arguments_for(tmp_path / "one", model_fields=fields, batch_size=2, gradient_accumulation_steps=2))
    words = [
        word
        for name, value in vars(arguments_for(tmp_path / "two", model_fields=fields, batch_size=2)).items()
        for word in (
            [f"--{name}", *map(str, value)]
            if isinstance(value, list) and value
            else []
            if isinstance(value, list) or value is None
            else [f"--{name}", str(value)]
        )
    ]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    script = ROOT / "scripts" / "pretrain.py"
    done = subprocess.run(
        [*launch, str(script), *words], capture_output=True, env=os.environ | {"ACCELERATE_USE_CPU": "true"}
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert run["examples_seen"] == 32
    for row, other in zip(rows_of(tmp_path / "two"), rows_of(alone), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_a_run_that_early_stopping_ended_is_not_taken_further_by_resuming_it(tmp_path, monkeypatch):
    bests = iter([3.0, 2.0, 4.0, 5.0])
    monkeypatch.setattr(training, "validation_loss", lambda *_: next(bests))
    stopped = arguments_for(tmp_path, validation_steps=1, early_stopping_patience=2)
    before = load_file(pretrain(stopped) / "model.safetensors")
    after = load_file(pretrain(replace(stopped, resume=True)) / "model.safetensors")
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 4]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-00000002"]


def test_early_stopping_is_not_changed_by_an_interruption(tmp_path, monkeypatch):
    changes = {"validation_steps": 2, "early_stopping_patience": 2, "checkpoint_steps": 3}
    whole = pretrain(arguments_for(tmp_path / "whole", **changes))
    interrupt(monkeypatch, signal.SIGTERM)
    with pytest.raises(SystemExit):
        pretrain(arguments_for(tmp_path / "cut", **changes))
    monkeypatch.undo()
    assert_same_run(pretrain(arguments_for(tmp_path / "cut", **changes, resume=True)), whole)


def test_a_validation_loss_that_is_not_finite_is_never_the_best(tmp_path, monkeypatch):
    losses = iter([float("nan"), 2.0, float("inf"), 3.0])
    monkeypatch.setattr(training, "validation_loss", lambda *_: next(losses))
    run = json.loads((pretrain(arguments_for(tmp_path, validation_steps=2)) / "run.json").read_text())
    assert (run["validation_loss"], run["validation_step"]) == (2.0, 4)


def test_a_task_is_refused_by_a_pair_that_learns_no_labels_and_asked_for_by_one_that_does(tmp_path):
    with pytest.raises(ValueError, match="s4-cpc learns without labels, got task='synthetic'; leave out the task"):
        pretrain(arguments_for(tmp_path, task="synthetic"))
    with pytest.raises(ValueError, match="s4-supervised learns labels, got task=None; name the task"):
        pretrain(arguments_for(tmp_path, pair="s4-supervised", model_fields=[]))
