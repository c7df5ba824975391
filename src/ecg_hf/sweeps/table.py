"""The run table of a sweep, taken from its finished run folders: nothing is lost or there twice."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecg_hf.files import read_json
from ecg_hf.registry import TASKS, load
from ecg_hf.scaling.rows import parse_row
from ecg_hf.sweeps.evaluation import Evaluation
from ecg_hf.sweeps.grid import Grid
from ecg_hf.sweeps.model_size import count_flops, measure
from ecg_hf.sweeps.points import Point
from ecg_hf.sweeps.training_job import TrainingJob

TABLE = "runs.jsonl"


def write_table(path: Path, grid: Grid, jobs: Mapping[Point, TrainingJob], edges: Mapping[Point, bool]) -> int:
    """Writes a row for each evaluation of each finished run, in the order of the grid, and counts them.

    Args:
        path: Of the table.
        grid: The grid.
        jobs: Its runs.
        edges: Whether the learning rate of a run lies at the edge of those that were tried, where any were.
    """
    rows = []
    for point, job in jobs.items():
        if job.done():
            run = describe_run(grid, point, job) | {"lr_on_boundary": edges.get(point)}
            rows += [run | row for evaluation in job.evaluations for row in _describe(job, evaluation)]
    for number, row in enumerate(rows, 1):
        parse_row(row, f"row {number} of the table")
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({name: value for name, value in row.items() if value is not None}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return len(rows)


def describe_run(grid: Grid, point: Point, job: TrainingJob) -> dict[str, Any]:
    """Gives the columns of the run table that say what a finished run is.

    D is the number of different records; `examples_seen` counts repetitions up to the step whose weights were kept.
    """
    run, size = read_json(job.folder / "run.json"), measure(job.arguments)
    train = [corpus["splits"]["train"] for corpus in run["corpora"]]
    n_unique = sum(counts["num_records"] for counts in train)
    arguments = job.arguments
    kept = run["validation_step"] if arguments.early_stopping_patience else run["steps"]
    seen = run["examples_seen"] // run["steps"] * kept
    supervised = grid.paradigm(point.objective) == "sl"
    return {
        "run_id": point.run_id,
        "family": point.family,
        "paradigm": grid.paradigm(point.objective),
        "objective": point.objective,
        "n_params": size.n_params,
        "n_params_nonembed": size.n_params_nonembed,
        "n_params_total": size.n_params_total,
        "flops_fwd": count_flops(job.arguments),
        "n_unique": n_unique,
        "n_patients": sum(counts["num_patients"] for counts in train) or None,
        "examples_seen": seen,
        "epochs": seen / n_unique,
        "n_labels": _num_labels(job) if supervised else None,
        "seed": point.seed,
        "lr": arguments.learning_rate,
        "es_interior": run["validation_step"] < run["steps"] if run["validation_step"] else None,
        "status": "done",
    }


def _num_labels(job: TrainingJob) -> int:
    return len(read_json(job.folder / "config.json")["id2label"])


def _describe(job: TrainingJob, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Gives the columns of the run table that say what an evaluation is and what it found."""
    corpora = [corpus["name"] for corpus in read_json(job.folder / "run.json")["corpora"]]
    dataset = load(TASKS, evaluation.task).corpus if evaluation.task else "+".join(corpora)
    about = {"eval_group": evaluation.group, "dataset": dataset, "task": evaluation.task or job.arguments.task}
    return [about | row for row in job.rows_of(evaluation) or []]
