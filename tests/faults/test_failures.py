"""F33, F34, F36, F37: a disk, a process or a machine fails; the run ends soon, says why, and can be resumed."""

import os
import subprocess
import sys
import time

import pytest
from children import STEPS, Fault, arguments_for, messages, run, same_run

from ecg_hf.training.checkpoints.folder import checkpoints_of, verify
from places import ROOT

SCRIPT = ROOT / "scripts" / "pretrain.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(arguments_for(folder)) == [0], messages(folder)
    return folder


def checkpoint_size(folder):
    (newest, *_) = checkpoints_of(folder / "checkpoints")
    return max(path.stat().st_size for path in newest.iterdir())


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_disk_that_is_full_for_a_checkpoint_leaves_the_ones_before_it(whole, tmp_path, tally, share):
    folder = tmp_path / "run"
    assert run(arguments_for(folder), [Fault("term", step=7)]) == [143]
    before = checkpoints_of(folder / "checkpoints")
    limit = int(share * checkpoint_size(folder))
    assert run(arguments_for(folder), [Fault(file_limit=limit)]) == [1]
    assert "EcgCheckpointError: checkpoint" in messages(folder) and "could not be written" in messages(folder)
    assert checkpoints_of(folder / "checkpoints") == before
    assert not list((folder / "checkpoints").glob(".*"))
    for checkpoint in before:
        verify(checkpoint)
    exact = run(arguments_for(folder)) == [0] and same_run(folder, whole)
    tally("F33 disk full in a checkpoint: EcgCheckpointError, those before it whole, resumed bit for bit", 1, exact)


@pytest.mark.parametrize("what", ["log", "model"])
def test_a_disk_that_is_full_for_the_log_or_the_model_stops_the_run(whole, tmp_path, tally, what):
    folder = tmp_path / "run"
    steps = {"log": {"checkpoint_steps": 1000}, "model": {"checkpoint_steps": STEPS - 1}}[what]
    limit = {"log": 2000, "model": (whole / "model.safetensors").stat().st_size - 1}[what]
    first = arguments_for(folder, **steps)
    if what == "model":
        # All checkpoints are there already: only the model is still to be written.
        assert run(first) == [0]
        for name in ("model.safetensors", "run.json"):
            (folder / name).unlink()
    assert run(first, [Fault(file_limit=limit)]) == [1]
    said = {"log": "metrics.jsonl cannot be written", "model": "the model could not be written"}[what]
    assert f"EcgCheckpointError: {said}" in messages(folder).replace(str(folder) + "/", "")
    exact = run(arguments_for(folder)) == [0] and same_run(folder, whole)
    tally("F33 disk full for the log or the model: EcgCheckpointError, resumed bit for bit", 1, exact)


def launch(folder, fault, **changes):
    """Starts two processes as a user does, and gives the exit status, the seconds it took and what was said."""
    code = f"""
        import sys
        from children import Fault, plant
        from ecg_hf import PretrainingArguments, pretrain
        import os
        if os.environ["RANK"] == "1":
            plant(Fault(**{vars(fault)!r}), None)
        pretrain(PretrainingArguments(**{arguments_for(folder, batch_size=2, **changes)!r}))
    """
    script = folder.with_suffix(".py")
    script.write_text("\n".join(line[8:] for line in code.splitlines()))
    flags = (
        "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags.split(), str(script)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, time.monotonic() - begun, done.stderr


FAULTS = {
    "exception": Fault("raise", step=5),
    "killed": Fault("kill", step=5),
    "hung": Fault("hang", step=5),
}


@pytest.mark.parametrize(
    "name", ["killed", *(pytest.param(name, marks=pytest.mark.slow) for name in ("exception", "hung"))]
)
def test_a_process_that_fails_ends_the_whole_job_with_one_message(tmp_path, tally, name):
    status, seconds, said = launch(tmp_path / "run", FAULTS[name], timeout_s=5.0)
    assert status != 0 and seconds < 60, (status, seconds)
    if name == "exception":
        assert "power cut" in said
    else:
        assert "EcgProcessError: another of the 2 processes is gone or did not answer within 5 s" in said, said[-3000:]
    resumed = run(arguments_for(tmp_path / "run", batch_size=2), [Fault()] * 2) == [0, 0]
    tally(
        "F34 a process of two raises, dies or hangs: the launcher ends within 60 s and says why, resumable", 1, resumed
    )


def test_processes_with_other_data_do_not_start(tmp_path, tally):
    arguments = arguments_for(tmp_path / "run", batch_size=2)
    other = arguments | {"corpus_fields": ["num_records=24", "sampling_rate=100", "seed=2"]}
    codes = run(arguments, [Fault()] * 2, each=[arguments, other])
    assert codes == [1, 1]
    said = [messages(tmp_path / "run", rank) for rank in (0, 1)]
    tally(
        "F34 a process with other data than the first: refused",
        1,
        int(all("EcgProcessError: the processes of this run differ" in text for text in said)),
    )


def test_sigterm_ends_a_run_within_seconds_with_a_checkpoint(whole, tmp_path, tally):
    folder = tmp_path / "run"
    codes = run(arguments_for(folder, checkpoint_steps=1000), [Fault("term", step=13)])
    assert codes == [143]
    (checkpoint,) = checkpoints_of(folder / "checkpoints")
    verify(checkpoint)
    exact = run(arguments_for(folder)) == [0] and same_run(folder, whole)
    tally("F37 SIGTERM: a checkpoint, status 143, resumed bit for bit", 1, exact)


def test_a_jumping_clock_changes_nothing(whole, tmp_path, tally):
    assert run(arguments_for(tmp_path / "run"), [Fault(clock_jump_s=86400.0)]) == [0]
    tally(
        "F37 steps with a wall clock that jumps a day back and forth: bit for bit the unbroken run",
        STEPS,
        STEPS * same_run(tmp_path / "run", whole),
    )


def test_a_loading_process_that_is_killed_ends_the_run_with_a_reason(whole, tmp_path, tally):
    folder = tmp_path / "run"
    assert run(arguments_for(folder, num_workers=1), [Fault(loader=True, step=9)]) == [1]
    assert "EcgProcessError: a loader process is gone" in messages(folder), messages(folder)
    exact = run(arguments_for(folder)) == [0] and same_run(folder, whole)
    tally("F37 a loading process is killed: EcgProcessError, resumed bit for bit", 1, exact)
