"""A sweep: data, learning rates, runs and their evaluations, and the run table; begun again, it does what is left."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from ecg_hf.errors import EcgProcessError
from ecg_hf.output.files import write_json
from ecg_hf.scaling.sweep.data_job import DataJob
from ecg_hf.scaling.sweep.display import Display
from ecg_hf.scaling.sweep.grid import Grid
from ecg_hf.scaling.sweep.job import Job
from ecg_hf.scaling.sweep.local_jobs import Watch, run_processes
from ecg_hf.scaling.sweep.model_size import measure
from ecg_hf.scaling.sweep.points import Point
from ecg_hf.scaling.sweep.rates import Cell, RateRule, Trial, all_trials, describe_rules, find_rule, make_trials
from ecg_hf.scaling.sweep.slurm_jobs import cancel_left, submit
from ecg_hf.scaling.sweep.table import TABLE, write_table
from ecg_hf.scaling.sweep.training_job import TrainingJob

RULES = "learning_rates.json"
JOBS = ".jobs"  # submitit's files


@dataclass(frozen=True)
class Sweep:
    """A grid that is run in a folder.

    Args:
        grid: The grid.
        folder: Where everything goes.
        workers: How many runs at a time.
        threads: Of each run on this machine.
        cluster: "processes" of this machine; "slurm", or "local" to try submitit without a scheduler.
        settings: Of submitit.
        stream: Where it says how it is doing.
    """

    grid: Grid
    folder: Path
    workers: int = 1
    threads: int = 1
    cluster: str = "processes"
    settings: Mapping[str, Any] = field(default_factory=dict)
    stream: TextIO = sys.stderr

    def trials(self) -> list[Trial]:
        """Gives the runs that learning rates are tried with; none if the grid asks for none."""
        return all_trials(make_trials(self.grid, self.folder))

    def rules(self) -> dict[Cell, RateRule] | None:
        """Gives the rule of each cell whose learning rates are tried; None as long as a trial is left.

        Raises:
            ValueError: If a trial was made with other arguments.
            FloatingPointError: If every rate was too large for a size.
        """
        if not all(trial.done() for trial in self.trials()):
            return None
        return {cell: find_rule(tried) for cell, tried in make_trials(self.grid, self.folder).items()}

    def jobs(self, rules: Mapping[Cell, RateRule] | None = None) -> dict[Point, TrainingJob]:
        """Gives the run of each point, its learning rate from the rule of its cell where there is one."""
        return {point: self._job(point, rules or {}) for point in self.grid.points()}

    def _job(self, point: Point, rules: Mapping[Cell, RateRule]) -> TrainingJob:
        folder = self.folder / "runs" / point.run_id
        arguments = self.grid.arguments_of(point, folder)
        if rule := rules.get((point.family, point.objective)):
            rate, _ = rule.rate(point.size, measure(arguments).n_params)
            arguments = self.grid.arguments_of(point, folder, learning_rate=rate)
        return TrainingJob(point.run_id, self.folder, folder, arguments, self.grid.evaluations)

    def run(self) -> dict[str, str]:
        """Does what is left.

        Returns:
            Why runs failed, by their names.

        Raises:
            EcgProcessError: If another sweep works in the folder, or the data of the runs cannot be prepared.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return self._run()
        except Timeout as error:
            raise EcgProcessError(
                f"another sweep works in {self.folder}; wait for it, or choose another folder"
            ) from error

    def _run(self) -> dict[str, str]:
        cancel_left(self.folder / JOBS)
        trials = self.trials()
        self._prepare(trials)
        failed = self._do("learning rates", trials)
        rules = self.rules()
        if rules is None:
            return failed
        if rules:
            write_json(self.folder / RULES, describe_rules(rules))
        jobs = self.jobs(rules)
        try:
            self._prepare(list(jobs.values()))
            return self._do("runs", list(jobs.values()))
        finally:
            write_table(self.folder / TABLE, self.grid, jobs, self._edges(jobs, rules))

    def _edges(self, jobs: Mapping[Point, TrainingJob], rules: Mapping[Cell, RateRule]) -> dict[Point, bool]:
        return {
            point: rules[point.family, point.objective].rate(point.size, measure(job.arguments).n_params)[1]
            for point, job in jobs.items()
            if (point.family, point.objective) in rules
        }

    def _prepare(self, jobs: Sequence[TrainingJob]) -> None:
        waiting = tuple(job for job in jobs if not job.done())
        if waiting and (failed := self._do("data", [DataJob("data", self.folder, waiting)])):
            raise EcgProcessError(f"the data of the runs could not be prepared: {failed['data']}")

    def _do(self, title: str, jobs: Sequence[Job]) -> dict[str, str]:
        """Does the jobs that are not done, the longest first, so that none is left alone at the end."""
        waiting = sorted((job for job in jobs if not job.done()), key=lambda job: -job.cost)
        if not waiting:
            return {}
        display = Display(title, jobs, self.workers, self.stream)
        try:
            return self._engine()(waiting, self.workers, display.update)
        finally:
            display.close()

    def _engine(self) -> Callable[[Sequence[Job], int, Watch], dict[str, str]]:
        if self.cluster == "processes":
            return lambda jobs, workers, watch: run_processes(jobs, workers, watch, self.threads)
        place = self.folder / JOBS
        return lambda jobs, workers, watch: submit(jobs, workers, watch, place, self.cluster, self.settings)
