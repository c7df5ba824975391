import _thread
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock

from ecg_hf.errors import EcgProcessError
from ecg_hf.scaling.sweep import sweep as sweeps
from ecg_hf.scaling.sweep.display import Display
from ecg_hf.scaling.sweep.grid import read_grid
from ecg_hf.scaling.sweep.sweep import Sweep
from ecg_hf.scaling.table.run_table import RunTable
from ecg_hf.training.jobs.job import last_row
from places import ROOT

SCRIPT = ROOT / "scripts" / "sweep.py"
OTHERS = ["num_records=200", "sampling_rate=100", "seed=2"]
GRID = {
    "arguments": {
        "corpus_fields": ["num_records=150", "sampling_rate=100", "seed=1"],
        "sampling_rate": 100,
        "crop_duration_s": 2.5,
        "max_steps": 30,
        "batch_size": 8,
        "warmup_steps": 2,
        "validation_steps": 10,
        "early_stopping_patience": 9,
        "checkpoint_steps": 5,
    },
    "families": {"transformer": {"model_fields": ["patch_size=8", "num_layers=1"]}},
    "objectives": {
        "masked": {"model_fields": ["mask_patch_size=8"]},
        "supervised": {"task": "synthetic", "labels": ["CRBBB", "NORM"]},
    },
    "sizes": ["20k"],
    "runs": [{"objectives": ["masked"]}, {"objectives": ["supervised"], "fractions": [0.5]}],
    "evaluations": [
        {"name": "id", "group": "id"},
        {
            "name": "seen",
            "group": "ood_seen",
            "task": "synthetic",
            "labels": ["NORM"],
            "corpus_fields": OTHERS,
            "probe_sizes": [60],
            "probe_dims": [0, 4],
        },
        {
            "name": "unseen",
            "group": "ood_unseen",
            "task": "synthetic",
            "labels": ["BRADY", "TACHY"],
            "corpus_fields": OTHERS,
            "probe_sizes": [0],
            "per_label": True,
        },
    ],
}
# Of a run that is to be stopped before its end.
LONGER = GRID["arguments"] | {"max_steps": 300, "validation_steps": 100, "checkpoint_steps": 20}
MASKED, SUPERVISED = "transformer-masked-20k-share1-seed0", "transformer-supervised-20k-share0.5-seed0"


def sweep_of(folder, grid=GRID, **changes):
    path = Path(folder).with_suffix(".yaml")
    path.write_text(yaml.safe_dump(grid))
    return Sweep(read_grid(path), Path(folder), stream=io.StringIO(), **changes)


def only(objective, **changes):
    """The grid of one of its runs, without evaluations."""
    return GRID | {"runs": [{"objectives": [objective]}], "evaluations": [], **changes}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    sweep = sweep_of(tmp_path_factory.mktemp("whole") / "out")
    assert sweep.run() == {}
    return sweep


def rows_of(folder):
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


def test_every_run_has_a_row_for_each_evaluation_that_a_run_table_reads(whole):
    table = RunTable.read(whole.folder / "runs.jsonl")
    assert [row.run_id for row in table.rows if row.eval_group == "id"] == [MASKED, *[SUPERVISED] * 3]
    metrics = {(row.paradigm, row.eval_id): set() for row in table.rows}
    for row in table.rows:
        metrics[row.paradigm, row.eval_id].add(row.metric)
        assert row.value_se > 0 and row.n_eval > 0
    scores = {"nll", "ne", "auroc"}
    names = ("seen", "unseen", "unseen/BRADY", "unseen/TACHY")
    assert metrics == {("ssl", "id"): {"mse"}, ("sl", "id"): scores} | {
        (paradigm, name): scores for paradigm in ("ssl", "sl") for name in names
    }
    assert {row.probe_dim for row in table.rows if row.eval_id == "seen"} == {None, 4}
    assert len({row.evaluation for row in table.rows if row.eval_group == "ood_seen" and row.metric == "ne"}) == 2


def test_a_row_says_what_was_trained_and_on_how_much(whole):
    runs = {row["run_id"]: row for row in rows_of(whole.folder)}
    full, half = runs[MASKED], runs[SUPERVISED]
    assert half["n_patients"] == round(full["n_patients"] / 2) and half["n_unique"] < 0.7 * full["n_unique"]
    assert (half["n_labels"], "n_labels" in full) == (2, False)
    run = json.loads((whole.folder / "runs" / MASKED / "run.json").read_text())
    assert full["n_params"] == run["parameters"]
    assert full["examples_seen"] == 8 * run["validation_step"]
    assert full["epochs"] == pytest.approx(full["examples_seen"] / full["n_unique"])
    assert full["es_interior"] == (run["validation_step"] < 30)
    assert {path.name for path in (whole.folder / "runs" / MASKED).iterdir()}.isdisjoint(
        {"checkpoints", "best", "features"}
    )


def test_the_loss_in_distribution_is_that_of_patients_never_trained_on(whole):
    from transformers import AutoModelForPreTraining

    from ecg_hf.data.opening import open_split
    from ecg_hf.scaling.sweep.evaluations.in_distribution import _by_patient, tiles_of_patients
    from ecg_hf.training.pretrain import make_extractor, open_corpora

    (row,) = [row for row in rows_of(whole.folder) if row["run_id"] == MASKED and row["eval_id"] == "id"]
    arguments = next(iter(whole.jobs().values())).arguments
    (corpus,) = open_corpora(arguments)
    split = _by_patient(open_split(corpus, "test", make_extractor(arguments)), None)
    pair = AutoModelForPreTraining.from_pretrained(whole.folder / "runs" / MASKED).eval()
    batches = list(tiles_of_patients(split, 250))
    losses = [pair(signal).loss.item() for signal, _ in batches]
    assert row["value"] == pytest.approx(np.average(losses, weights=[len(records) for _, records in batches]), rel=1e-5)
    owners = [{split.patient_ids[record] for record in records} for _, records in batches]
    assert sum(map(len, owners)) == len(set().union(*owners)) and len(batches) > 1
    assert sum(len(records) for _, records in batches) == 4 * len(split) and row["n_eval"] == len(split)


def test_what_is_done_is_not_done_again(whole, monkeypatch):
    before = (whole.folder / "runs.jsonl").read_bytes()
    (whole.folder / "runs.jsonl").unlink()
    monkeypatch.setattr(sweeps, "run_processes", None)
    assert whole.run() == {}
    assert (whole.folder / "runs.jsonl").read_bytes() == before


def sweep_alone(folder):
    """Runs a sweep in a process of its own."""
    sweep_of(folder).run()


def test_a_sweep_killed_with_its_processes_ends_with_the_same_rows(whole, tmp_path):
    folder = tmp_path / "out"
    sweep = sweep_of(folder)
    started = multiprocessing.get_context("forkserver").Process(target=sweep_alone, args=(folder,))
    started.start()
    metrics = folder / "runs" / MASKED / "metrics.jsonl"
    wait_for(lambda: last_row(metrics).get("step", 0) >= 1)
    started.kill()
    started.join()
    with FileLock(folder / "logs" / f"{MASKED}.lock", timeout=60):
        assert not (folder / "runs" / MASKED / "run.json").exists()  # the orphan stopped in its work
    assert sweep.run() == {}
    assert rows_of(folder) == rows_of(whole.folder)


def test_an_interrupted_sweep_stops_its_runs_at_a_checkpoint_and_goes_on(tmp_path):
    sweep = sweep_of(tmp_path / "out", only("masked", arguments=LONGER))
    metrics = sweep.folder / "runs" / MASKED / "metrics.jsonl"

    def interrupt():
        wait_for(lambda: last_row(metrics).get("step", 0) >= 1)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    # A shell's background jobs, and so tests that are run as one, ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sweep.run()
    signal.signal(signal.SIGINT, before)
    thread.join()
    assert not multiprocessing.active_children()
    assert list((sweep.folder / "runs" / MASKED / "checkpoints").glob("step-*"))
    step = last_row(metrics)["step"]
    assert sweep.run() == {} and step < last_row(metrics)["step"] == 300


def test_a_run_whose_process_dies_or_that_goes_wrong_is_named_and_the_others_are_done(tmp_path):
    broken = {"objective": "masked", "learning_rate": 1e30, "max_nonfinite_steps": 1, "model_fields": []}
    objectives = {"masked": GRID["objectives"]["masked"], "broken": broken}
    sweep = sweep_of(tmp_path / "out", only("masked", objectives=objectives, runs=[{}], arguments=LONGER))
    metrics = sweep.folder / "runs" / MASKED / "metrics.jsonl"

    def kill():
        wait_for(lambda: last_row(metrics).get("step", 0) >= 1)
        os.kill(next(child.pid for child in multiprocessing.active_children() if child.name == MASKED), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    failed = sweep.run()
    thread.join()
    assert failed[MASKED].startswith("its process ended with signal 9; see ")
    assert "FloatingPointError: the gradient was not finite" in failed[MASKED.replace("masked", "broken")]
    assert len(failed) == 2 and [row["status"] for row in rows_of(sweep.folder)] == ["failed", "failed"]
    assert list(sweep.run()) == [MASKED.replace("masked", "broken")]
    assert "1 of 2 done, 0 running, 1 failed" in sweep.stream.getvalue()


def test_a_finished_run_of_other_arguments_is_not_taken_for_this_one(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "out")
    with pytest.raises(ValueError, match=r"was made with max_steps=30, the grid now says 40"):
        sweep_of(tmp_path / "out", GRID | {"arguments": GRID["arguments"] | {"max_steps": 40}}).run()


def test_an_evaluation_that_asks_something_else_is_made_again(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "out")
    (job, other) = sweep_of(tmp_path / "out").jobs().values()
    assert job.done() and other.done()
    changed = replace(job.evaluations[1], probe_sizes=(50,))
    assert job.rows_of(job.evaluations[1]) and job.rows_of(changed) is None
    assert not replace(job, evaluations=(changed,)).done()


def test_two_sweeps_do_not_work_in_one_folder(whole):
    with FileLock(whole.folder / ".lock"), pytest.raises(EcgProcessError, match="another sweep works in"):
        whole.run()


def test_data_that_cannot_be_read_end_a_sweep_before_its_runs(tmp_path):
    lost = GRID | {"arguments": GRID["arguments"] | {"corpus": ["ptbxl"], "data_dir": [str(tmp_path / "gone")]}}
    lost["arguments"]["corpus_fields"] = []
    with pytest.raises(EcgProcessError, match=r"the data of the runs could not be prepared: .*gone"):
        sweep_of(tmp_path / "out", lost).run()
    assert not (tmp_path / "out" / "runs").exists()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_display_tells_how_far_runs_are_and_how_long_the_rest_will_take(whole, tmp_path, monkeypatch):
    jobs = list(sweep_of(tmp_path / "out").jobs().values())
    display = Display("runs", jobs, 1, Terminal())
    clock = display.started
    monkeypatch.setattr("ecg_hf.scaling.sweep.display.time.monotonic", lambda: clock)
    display.update([MASKED])
    clock += 30
    folder = tmp_path / "out" / "runs" / MASKED
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 15, "loss": 1.25}\n{"step": 16, "lo')
    display.update([MASKED])
    shown = display.stream.getvalue()
    assert "15/30  1.25" in shown and "\x1b[" in shown
    costs = {job.name: job.cost for job in jobs}
    expected = 30 * (0.5 * costs[MASKED] + costs[SUPERVISED]) / (0.5 * costs[MASKED])
    assert display.seconds_left(30.0) == pytest.approx(expected)


@pytest.mark.slow
def test_the_command_says_where_its_table_is_and_fails_if_a_run_did(tmp_path):
    sweep = sweep_of(tmp_path / "out", only("masked"))
    command = [sys.executable, str(SCRIPT), str(sweep.folder.with_suffix(".yaml")), str(sweep.folder)]
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True, check=True).stdout
    assert MASKED in listed and "1 runs, at most" in listed
    assert "runs.jsonl" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (sweep.folder / "runs" / MASKED / "run.json").unlink()
    (sweep.folder / "runs" / MASKED / "checkpoints").write_text("in the way")
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1 and f"failed: {MASKED}: " in failed.stderr


@pytest.mark.slow
def test_runs_can_be_submitted_instead(tmp_path, whole):
    sweep = sweep_of(tmp_path / "out", cluster="local")
    assert sweep.run() == {}
    assert rows_of(sweep.folder) == rows_of(whole.folder)


def wait_for(condition):
    ends = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_batch_norms_do_not_favour_a_backbone_without_them(tmp_path):
    """A run leaves statistics of whole signals in its model, which are not those that its own loss is made with."""
    from transformers import AutoModelForPreTraining

    from ecg_hf.data.opening import open_split
    from ecg_hf.scaling.sweep.evaluations.in_distribution import tiles_of_patients
    from ecg_hf.training.batch_norms import regather
    from ecg_hf.training.pretrain import make_crops, make_extractor, open_corpora

    grid = only("masked", families={"resnet": {}}, evaluations=GRID["evaluations"][:1])
    sweep = sweep_of(tmp_path / "out", grid)
    assert sweep.run() == {}
    (row,), (job,) = rows_of(sweep.folder), sweep.jobs().values()
    pair = AutoModelForPreTraining.from_pretrained(job.folder).eval()
    (corpus,) = open_corpora(job.arguments)
    train, test = (open_split(corpus, name, make_extractor(job.arguments)) for name in ("train", "test"))
    signals = [signal for signal, _ in tiles_of_patients(test, 250)]

    def loss():
        return np.average([pair(signal).loss.item() for signal in signals], weights=[len(signal) for signal in signals])

    as_saved = loss()
    crops = [batch["signal"] for batch in make_crops(job.arguments, [train]).first_batches(20, 16)]
    regather(pair.backbone, crops, pair)
    assert abs(row["value"] - loss()) < 0.3 * abs(row["value"] - as_saved) and abs(row["value"] / as_saved - 1) > 3e-3
