"""The sweep, which trains and evaluates the runs of a grid, writes their run table, and resumes where it stopped."""

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
from ecg_hf.scaling.sweep.model_size import measure
from ecg_hf.scaling.sweep.points import Point
from ecg_hf.scaling.sweep.rates import Cell, RateRule, Trial, all_trials, describe_rules, find_rule, make_trials
from ecg_hf.scaling.sweep.table import TABLE, write_table
from ecg_hf.scaling.sweep.training_job import TrainingJob
from ecg_hf.training.jobs.job import Job
from ecg_hf.training.jobs.local import Watch, run_processes
from ecg_hf.training.jobs.slurm import cancel_left, submit

RULES = "learning_rates.json"
JOBS = ".jobs"  # folder of submitit's files


@dataclass(frozen=True)
class Sweep:
    """A grid with the folder in which its runs are trained and evaluated.

    Args:
        grid: Grid of runs.
        folder: Folder of everything that the sweep writes.
        workers: Number of runs at a time.
        threads: Number of threads of each run, if `cluster` is "processes".
        cluster: Place of the runs: "processes" for processes of this machine, "slurm" for a Slurm cluster through
            submitit, "local" to try submitit without a scheduler.
        settings: Settings of submitit, such as `slurm_partition`.
        stream: Stream for reports of progress.

    Example:
        >>> from ecg_hf.scaling.sweep.grid import Grid
        >>> from ecg_hf.scaling.sweep.points import Block
        >>> from ecg_hf.scaling.sweep.sweep import Sweep
        >>> blocks = (Block(fractions=(1.0, 0.5)),)
        >>> grid = Grid({"resnet": {}}, {"masked": {}}, {"20k": {}}, runs=blocks, evaluations=())
        >>> sweep = Sweep(grid, Path("my-sweep"))  # sweep.run() would train and evaluate all runs
        >>> [(job.name, job.done()) for job in sweep.jobs().values()]
        [('resnet-masked-20k-share1-seed0', False), ('resnet-masked-20k-share0.5-seed0', False)]
    """

    grid: Grid
    folder: Path
    workers: int = 1
    threads: int = 1
    cluster: str = "processes"
    settings: Mapping[str, Any] = field(default_factory=dict)
    stream: TextIO = sys.stderr

    def trials(self) -> list[Trial]:
        """Lists the trials of learning rates; empty if the grid asks for none."""
        return all_trials(make_trials(self.grid, self.folder))

    def rules(self) -> dict[Cell, RateRule] | None:
        """Returns the learning-rate rule of each cell.

        Returns:
            The rules by family and objective, empty if the grid asks for no trials; None while a trial is unfinished.

        Raises:
            ValueError: If a trial was made with other arguments.
            FloatingPointError: If every rate was too large for a size.
        """
        if not all(trial.done() for trial in self.trials()):
            return None
        return {cell: find_rule(tried) for cell, tried in make_trials(self.grid, self.folder).items()}

    def jobs(self, rules: Mapping[Cell, RateRule] | None = None) -> dict[Point, TrainingJob]:
        """Builds the training job of each point of the grid.

        Args:
            rules: Learning-rate rules by family and objective; a run without a rule keeps the rate of its arguments.
        """
        return {point: self._job(point, rules or {}) for point in self.grid.points()}

    def _job(self, point: Point, rules: Mapping[Cell, RateRule]) -> TrainingJob:
        folder = self.folder / "runs" / point.run_id
        arguments = self.grid.arguments_of(point, folder)
        if rule := rules.get((point.family, point.objective)):
            rate, _ = rule.rate(point.size, measure(arguments).n_params)
            arguments = self.grid.arguments_of(point, folder, learning_rate=rate)
        return TrainingJob(point.run_id, self.folder, folder, arguments, self.grid.evaluations)

    def run(self) -> dict[str, str]:
        """Does all unfinished work: prepares data, tries learning rates, trains, evaluates and writes the run table.

        Returns:
            The reason of each failure by name of the job; empty if no job failed.

        Raises:
            EcgProcessError: If another sweep works in the folder, or the data of the runs cannot be prepared.
            ValueError: If a run in the folder was made with other arguments than those of the grid.
            FloatingPointError: If every rate was too large for a size.
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
        """Runs the unfinished jobs, the most expensive first, so that no long job runs alone at the end."""
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
            return lambda jobs, workers, watch: run_processes(
                jobs, workers, watch, self.threads, [TrainingJob.__module__]
            )
        place = self.folder / JOBS
        return lambda jobs, workers, watch: submit(jobs, workers, watch, place, self.cluster, self.settings)
