"""The local engine, which runs jobs as processes of this machine, forked from one that has imported the library."""

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

from ecg_hf.training.jobs.job import Job, RunningElsewhereError

POLL_S = 0.5  # seconds between two looks at the processes
ELSEWHERE = 75  # exit status of a process that left its job to another process
STOP_S = 60.0  # seconds that a job may take to write a checkpoint when it has to stop

Watch = Callable[[Collection[str]], None]


def run_processes(
    jobs: Sequence[Job], workers: int, watch: Watch, threads: int = 1, preload: Sequence[str] = ()
) -> dict[str, str]:
    """Runs jobs, each in a process of its own that ends with this process.

    Args:
        jobs: Jobs in the order in which they start.
        workers: Number of jobs at a time.
        watch: Function that is called regularly with the names of the running jobs.
        threads: Number of threads of each process.
        preload: Modules that the processes need, imported once before they fork.

    Returns:
        The reason of each failure by name of the job.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *preload])
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
    """Returns the reason why a job's process failed, and writes it to the job's error file if none is there.

    Args:
        job: Job that failed.
        code: Exit code of its process, negative for a signal.
    """
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
    # a closing terminal signals all its processes, but the sweep has to stop this one, so that it saves a checkpoint
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        job.run()
    except RunningElsewhereError:
        sys.exit(ELSEWHERE)


def _follow_parent() -> None:
    """Stops this process, which then saves a checkpoint, when the sweep that started it has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
