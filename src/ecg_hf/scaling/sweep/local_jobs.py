"""Jobs as processes of this machine, some at a time; they fork from one that has imported everything."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import torch

from ecg_hf.scaling.sweep.job import Job, RunningElsewhereError

POLL_S = 0.5
ELSEWHERE = 75  # exit status of a process that left its job to another one
STOP_S = 60.0  # that a job may take to write a checkpoint when it has to stop

Watch = Callable[[Collection[str]], None]


def run_processes(jobs: Sequence[Job], workers: int, watch: Watch, threads: int = 1) -> dict[str, str]:
    """Does jobs, each in a process of its own that ends with this one.

    Args:
        jobs: In the order in which they begin.
        workers: How many at a time.
        watch: Called every now and then with the names of those that run.
        threads: Of each process.

    Returns:
        Why jobs failed, by their names.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ecg_hf", "ecg_hf.scaling.sweep.local_jobs", "ecg_hf.scaling.sweep.training_job"])
    waiting, failed = deque(jobs), dict[str, str]()
    running: dict[str, tuple[Job, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.popleft()
                running[job.name] = job, context.Process(target=_child, args=(job, threads), name=job.name)
                running[job.name][1].start()
            watch(running.keys())
            wait([process.sentinel for _, process in running.values()], POLL_S)
            for job, process in [pair for pair in running.values() if pair[1].exitcode is not None]:
                del running[job.name]
                if process.exitcode:
                    failed[job.name] = explain(job, process.exitcode)
        watch(())
    finally:
        _stop([process for _, process in running.values()])
    return failed


def explain(job: Job, code: int) -> str:
    """Says why a job's process ended as it did, and sees to it that the sweep's folder says so too."""
    if code == ELSEWHERE:
        return job.elsewhere
    if not job.error.exists():
        ended = f"signal {-code}" if code < 0 else f"exit status {code}"
        job.error.write_text(f"its process ended with {ended}; see {job.log}\n", encoding="utf-8")
    return job.error.read_text(encoding="utf-8").strip()


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    ends = time.monotonic() + STOP_S
    for process in processes:
        process.join(max(0.0, ends - time.monotonic()))
        process.kill()
        process.join()


def _child(job: Job, threads: int) -> None:
    # a terminal that closes tells all its processes; the sweep stops this one, with a checkpoint
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        job.run()
    except RunningElsewhereError:
        sys.exit(ELSEWHERE)


def _follow_parent() -> None:
    """Stops this process, with a checkpoint, when the sweep that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
