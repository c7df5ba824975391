import json
import os
import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from ecg_hf.errors import EcgProcessError
from ecg_hf.training.jobs import job as jobs_module
from ecg_hf.training.jobs import local as processes
from ecg_hf.training.jobs import slurm as cluster
from ecg_hf.training.jobs.job import Job, RunningElsewhereError
from ecg_hf.training.jobs.slurm import SUBMITTED, cancel_left, submit


@dataclass(frozen=True)
class Note(Job):
    """Leaves a file."""

    def do(self):
        (self.root / self.name).write_text("done")

    def done(self):
        return (self.root / self.name).exists()


class FakeExecutor:
    """What submitit's executor looks like to a sweep; its jobs run when they are looked at."""

    def __init__(self, folder, cluster):
        Path(folder).mkdir(exist_ok=True)
        self.jobs, self.parameters = [], {}
        FakeExecutor.last = self

    def update_parameters(self, **parameters):
        self.parameters |= parameters

    def batch(self):
        return nullcontext()

    def submit(self, function, job):
        self.jobs.append(FakeJob(f"77_{len(self.jobs)}", function, job))
        return self.jobs[-1]


class FakeJob:
    def __init__(self, job_id, function, job):
        self.job_id, self.function, self.job, self.state, self.cancelled = job_id, function, job, "RUNNING", False

    def done(self):
        return self.state != "RUNNING"

    def result(self):
        return self.function(self.job)

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def executor(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=FakeExecutor))
    monkeypatch.setattr(cluster, "POLL_S", 0.0)
    return FakeExecutor


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder of commands in which scancel writes down what it is asked."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cancelled\n')
    (commands / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "cancelled"


def killed(folder, cluster="slurm"):
    """What a sweep leaves that was killed while its jobs ran."""
    folder.mkdir()
    ids = {"a": "77_0", "b": "77_1", "c": "78"}
    (folder / SUBMITTED).write_text(json.dumps({"cluster": cluster, "ids": ids}))


def test_submitted_jobs_are_on_record_for_as_long_as_they_run(tmp_path, executor):
    jobs = [Note("a", tmp_path), Note("b", tmp_path)]
    seen = []

    def watch(_):
        seen.append(json.loads((tmp_path / ".jobs" / SUBMITTED).read_text()))
        for one in executor.last.jobs:
            one.state, one.function = "COMPLETED", lambda job: None

    assert submit(jobs, 3, watch, tmp_path / ".jobs", "slurm", {"slurm_array_parallelism": 9}) == {}
    assert seen == [{"cluster": "slurm", "ids": {"a": "77_0", "b": "77_1"}}]
    assert not (tmp_path / ".jobs" / SUBMITTED).exists()
    assert executor.last.parameters["slurm_array_parallelism"] == 9


def test_a_sweep_that_is_stopped_cancels_its_jobs_and_leaves_none_on_record(tmp_path, executor):
    def watch(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit([Note("a", tmp_path)], 1, watch, tmp_path / ".jobs", "slurm", {})
    assert all(one.cancelled for one in executor.last.jobs)
    assert not (tmp_path / ".jobs" / SUBMITTED).exists()


def test_the_jobs_of_a_sweep_that_was_killed_are_cancelled_once(tmp_path, slurm):
    killed(tmp_path / ".jobs")
    cancel_left(tmp_path / ".jobs")
    cancel_left(tmp_path / ".jobs")
    assert slurm.read_text() == "77 78\n"


def test_numbers_of_processes_are_not_taken_for_jobs(tmp_path, slurm):
    killed(tmp_path / ".jobs", "local")
    cancel_left(tmp_path / ".jobs")
    assert not slurm.exists() and not (tmp_path / ".jobs" / SUBMITTED).exists()


def test_jobs_that_cannot_be_cancelled_here_are_named(tmp_path, monkeypatch):
    killed(tmp_path / ".jobs")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EcgProcessError, match="the Slurm jobs 77, 78 of a sweep that was killed may still run"):
        cancel_left(tmp_path / ".jobs")
    assert (tmp_path / ".jobs" / SUBMITTED).exists()


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A job that another process works on, which has said something."""
    monkeypatch.setattr(jobs_module, "LOCK_S", 0.05)
    job = Note("a", tmp_path)
    job.error.parent.mkdir()
    job.error.write_text("what the other one says\n")
    with FileLock(job.lock):
        yield job
    assert job.error.read_text() == "what the other one says\n"
    assert not job.log.exists() and not job.done()


def test_a_job_that_runs_elsewhere_is_left_alone(held):
    with pytest.raises(RunningElsewhereError, match=r"a is still running elsewhere, .*a\.lock; wait for it"):
        held.run()


def test_a_sweep_says_of_its_process_that_the_job_runs_elsewhere(held):
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(SystemExit) as ended:
        processes._child(held, 1)
    signal.signal(signal.SIGHUP, before)
    held_error = held.error.read_text()
    assert processes.explain(held, ended.value.code) == held.elsewhere
    assert held.error.read_text() == held_error


def test_a_sweep_says_of_what_it_submitted_that_the_job_runs_elsewhere(held, executor):
    def watch(_):
        executor.last.jobs[0].state = "COMPLETED"

    assert submit([held], 1, watch, held.root / ".jobs", "slurm", {}) == {"a": held.elsewhere}
