"""The progress display of a sweep, which redraws a table in place on a terminal and writes plain lines elsewhere."""

import shutil
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, TextIO

from ecg_hf.output.text_table import make_table
from ecg_hf.training.jobs.job import Job

LINE_S = 60.0  # seconds between plain lines with a summary
REDRAW_S = 1.0  # seconds between two drawings of the table
NUM_DONE = 3  # number of ended jobs that the table still shows


class Display:
    """A display of the progress of some jobs.

    Args:
        title: Title of the jobs, such as "runs".
        jobs: Jobs to display, finished ones included.
        workers: Number of jobs at a time.
        stream: Stream to write to.
    """

    def __init__(self, title: str, jobs: Sequence[Job], workers: int, stream: TextIO):
        self.title, self.stream, self.workers = title, stream, workers
        self.jobs = {job.name: job for job in jobs}
        self.left = {job.name: job.cost for job in jobs if not job.done()}
        self.num_before = len(jobs) - len(self.left)
        self.running: list[str] = []
        self.ended: list[str] = []
        self.live = stream.isatty()
        self.started, self._told, self._lines = time.monotonic(), -LINE_S, 0
        self._first: dict[str, float] = {}  # fraction of each job that was done before it started here
        self._worked = 0.0

    def update(self, running: Collection[str]) -> None:
        """Records which jobs run now, and writes if a job has started or ended or some time has passed.

        Args:
            running: Names of the running jobs.
        """
        began = [name for name in running if name not in self.running]
        ended = [name for name in self.running if name not in running]
        for name in began:
            self._first[name] = self._share(name)
        for name in ended:
            self._worked += self.left.pop(name, 0.0) * (1 - self._first.pop(name, 0.0))
        self.running = list(running)
        self.ended += ended
        if self.live:
            if began or ended or time.monotonic() - self._told > REDRAW_S:
                self._redraw()
            return
        for name in ended:
            self._say(f"ended {name}{_losses(self.jobs[name].progress())}")
        for name in began:
            self._say(f"began {name}")
        if ended or time.monotonic() - self._told > LINE_S:
            self._say(self.summary())
            self._told = time.monotonic()

    def close(self) -> None:
        """Replaces the table on a terminal by a summary, so that later output starts below it."""
        if self.live:
            self._erase()
            self._say(self.summary())

    def summary(self) -> str:
        """Returns a line with the numbers of done, running and failed jobs, the time passed and the time left."""
        failed = [name for name in self.ended if self.jobs[name].error.exists()]
        done = self.num_before + len(self.ended) - len(failed)
        text = f"{self.title}: {done} of {len(self.jobs)} done, {len(self.running)} running, {len(failed)} failed"
        passed = time.monotonic() - self.started
        text += f"; {_show(passed)} passed"
        left = self.seconds_left(passed)
        return text if left is None else f"{text}, about {_show(left)} to go"

    def seconds_left(self, passed: float) -> float | None:
        """Estimates the remaining time from the work done since the start.

        Args:
            passed: Time since the start, in seconds.

        Returns:
            The remaining time, in seconds; None before any work is done.
        """
        shares = {name: self._share(name) for name in self.running}
        under_way = sum(self.left.get(name, 0.0) * (share - self._first[name]) for name, share in shares.items())
        worked = self._worked + under_way
        left = sum(cost * (1 - shares.get(name, 0.0)) for name, cost in self.left.items())
        return passed * left / worked if worked > 0 else None

    def _share(self, name: str) -> float:
        progress = self.jobs[name].progress()
        return min(1.0, progress.get("step", 0) / progress["of"]) if progress.get("of") else 0.0

    def _redraw(self) -> None:
        rows = [["run", "state", "step", "loss"]]
        rows += [self._row(name, "ended") for name in self.ended[-NUM_DONE:]]
        rows += [self._row(name, "running") for name in self.running]
        width, height = shutil.get_terminal_size()
        lines = [self.summary(), *make_table(rows).splitlines()][: height - 1]
        self._erase()
        self.stream.write("".join(f"{line[: width - 1]}\n" for line in lines))
        self.stream.flush()
        self._lines, self._told = len(lines), time.monotonic()

    def _row(self, name: str, state: str) -> list[str]:
        progress = self.jobs[name].progress()
        state = "failed" if state == "ended" and self.jobs[name].error.exists() else state
        step = f"{progress['step']}/{progress['of']}" if "step" in progress else ""
        return [name, state, step, f"{progress['loss']:.4g}" if "loss" in progress else ""]

    def _erase(self) -> None:
        if self._lines:
            self.stream.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0

    def _say(self, line: str) -> None:
        self.stream.write(f"{line}\n")
        self.stream.flush()


def _losses(progress: dict[str, Any]) -> str:
    return f": step {progress['step']}, loss {progress['loss']:.4g}" if {"step", "loss"} <= progress.keys() else ""


def _show(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
