"""The run table of a sweep, which is written from the run folders, one row per run and evaluation."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecg_hf.errors import EcgError
from ecg_hf.output.files import read_json
from ecg_hf.registry import TASKS, load
from ecg_hf.scaling.sweep.amounts import Amounts, read_amount
from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.grid import Grid
from ecg_hf.scaling.sweep.model_size import count_flops, measure
from ecg_hf.scaling.sweep.points import Point
from ecg_hf.scaling.sweep.training_job import TrainingJob, count_crops
from ecg_hf.scaling.table.reading import write_lines
from ecg_hf.scaling.table.row import parse_row
from ecg_hf.training.arguments import PretrainingArguments

TABLE = "runs.jsonl"
logger = logging.getLogger(__name__)


def write_table(path: Path, grid: Grid, jobs: Mapping[Point, TrainingJob], edges: Mapping[Point, bool]) -> int:
    """Writes one row for each finished evaluation of each trained run, in the order of the grid.

    A run that was started but has no finished evaluation gets one row, with the status "failed" or "running".

    Args:
        path: Path of the table.
        grid: Grid of the sweep.
        jobs: Runs of the sweep, by point of the grid.
        edges: Whether the learning rate of a run lies at the edge of the tried rates; only runs whose rate was tried.

    Returns:
        The number of rows.

    Raises:
        EcgFormatError: If a row is not a valid row of a run table.
    """
    rows, amounts = [], Amounts(jobs.values())
    for point, job in jobs.items():
        of_run = describe_run(grid, point, job) | {"lr_on_boundary": edges.get(point)}
        rows += [of_run | row for row in _trained_rows(grid, point, job) or _unfinished_rows(job, amounts)]
    for number, row in enumerate(rows, 1):
        parse_row(row, f"row {number} of the table")
    write_lines(path, rows)
    return len(rows)


def describe_run(grid: Grid, point: Point, job: TrainingJob) -> dict[str, Any]:
    """Returns the columns of the run table that describe a run, whether it has been started or not.

    Args:
        grid: Grid of the sweep.
        point: Point of the grid.
        job: Run of that point.
    """
    size = measure(_with_labels(grid, point, job))
    return {
        "run_id": point.run_id,
        "family": point.family,
        "paradigm": grid.paradigm(point.objective),
        "objective": point.objective,
        "n_params": size.n_params,
        "n_params_nonembed": size.n_params_nonembed,
        "n_params_total": size.n_params_total,
        "flops_fwd": count_flops(job.arguments),
        "seed": point.seed,
        "lr": job.arguments.learning_rate,
    }


def _trained_rows(grid: Grid, point: Point, job: TrainingJob) -> list[dict[str, Any]]:
    """Lists the rows of the finished evaluations of a run, each with the columns that describe its training.

    `n_unique` (D) counts different records; `examples_seen` counts repetitions, up to the step whose weights were kept.
    """
    if not job.trained():
        return []
    run, amount = read_json(job.folder / "run.json"), read_amount(job)
    kept = run["validation_step"] if job.arguments.early_stopping_patience else run["steps"]
    seen = run["examples_seen"] // run["steps"] * kept
    training = {
        "n_unique": amount.num_records,
        "n_patients": amount.num_patients,
        "examples_seen": seen,
        "epochs": seen / amount.num_records,
        "n_labels": len(_read_labels(job)) if grid.paradigm(point.objective) == "sl" else None,
        "es_interior": run["validation_step"] < run["steps"] if run["validation_step"] else None,
        "status": "done",
    }
    return [training | row for evaluation in job.evaluations for row in _describe(job, evaluation)]


def _unfinished_rows(job: TrainingJob, amounts: Amounts) -> list[dict[str, Any]]:
    """Returns the row of a run that was started and is not done, with the `examples_seen` of all its planned steps."""
    failed = job.error.exists()
    if job.done() or not (failed or job.folder.exists()):
        return []
    try:
        amount = amounts.of(job.arguments)
    except (EcgError, OSError) as error:
        logger.warning("%s is not done and not in the table, as its data cannot be counted: %s", job.name, error)
        return []
    return [
        {
            "n_unique": amount.num_records,
            "n_patients": amount.num_patients,
            "examples_seen": job.arguments.max_steps * count_crops(job.arguments),
            "status": "failed" if failed else "running",
        }
    ]


def _with_labels(grid: Grid, point: Point, job: TrainingJob) -> PretrainingArguments:
    """Returns the arguments of a run; if it is trained and supervised, with the labels that it learned."""
    if grid.paradigm(point.objective) != "sl" or not job.trained():
        return job.arguments
    return replace(job.arguments, labels=_read_labels(job))


def _read_labels(job: TrainingJob) -> list[str]:
    return list(read_json(job.folder / "config.json")["id2label"].values())


def _describe(job: TrainingJob, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns the rows of an evaluation, with the columns of the run table that describe it."""
    corpora = [corpus["name"] for corpus in read_json(job.folder / "run.json")["corpora"]]
    dataset = load(TASKS, evaluation.task).corpus if evaluation.task else "+".join(corpora)
    columns = {"eval_group": evaluation.group, "dataset": dataset, "task": evaluation.task or job.arguments.task}
    return [columns | row for row in job.rows_of(evaluation) or []]
