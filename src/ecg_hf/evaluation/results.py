"""Results of a fine-tuned model: writes results.json with notes on its limits, predictions.parquet and plots."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ecg_hf.data.targets import LabelledSplit
from ecg_hf.evaluation.metrics import DEFAULT_METRICS, evaluate_predictions
from ecg_hf.evaluation.plots import plot_calibration, plot_roc
from ecg_hf.output.figures import save_figure
from ecg_hf.output.files import read_json, write_json
from ecg_hf.tasks.base import Task

logger = logging.getLogger(__name__)


@dataclass
class Predictions:
    """The predictions of a model for the records of a split.

    Args:
        split: Records with their targets.
        scores: Predicted probabilities, or values for regression, shape (R, C).
    """

    split: LabelledSplit
    scores: NDArray[np.float64]

    def evaluate(self, task: Task, num_resamples: int) -> dict[str, Any]:
        """Scores the predictions, with intervals over patients, or over records if the corpus has no patient ids."""
        patients = self.split.records.patient_ids
        return evaluate_predictions(
            self.split.targets,
            self.scores,
            None if None in patients else patients,
            label_names=task.labels,
            metrics=("mae", "pooled_mae") if task.problem_type == "regression" else DEFAULT_METRICS,
            num_resamples=num_resamples,
        )

    def table(self, name: str, labels: tuple[str, ...]) -> pa.Table:
        """Builds a table with a row per record: record, patient, split, and a target and a score per label."""
        columns: dict[str, Any] = {
            "record_id": self.split.records.record_ids,
            "patient_id": pa.array(self.split.records.patient_ids, pa.string()),
            "split": [name] * len(self.scores),
        }
        for index, label in enumerate(labels):
            columns[f"target_{label}"] = self.split.targets[:, index]
            columns[f"score_{label}"] = self.scores[:, index]
        return pa.table(columns)


def save_results(
    folder: Path, run: dict[str, Any], task: Task, train: LabelledSplit, predictions: dict[str, Predictions]
) -> dict[str, Any]:
    """Scores the predictions of each split and writes results.json, predictions.parquet and the test split's plots.

    Args:
        folder: Folder that the files are written to.
        run: Content of run.json, with "base", the run.json of the model that was fine-tuned, and "best_epoch".
        task: Task of the run.
        train: Records that the model was trained on.
        predictions: Predictions by the name of their split.

    Returns:
        The content of results.json.
    """
    arguments = run["arguments"]
    scored = {name: found.evaluate(task, arguments["num_resamples"]) for name, found in predictions.items()}
    splits = {"train": train} | {name: found.split for name, found in predictions.items()}
    results = {
        "task": task.name,
        "mode": arguments["mode"],
        # The full path of a folder cannot be confused with a name on the Hub.
        "base_model": str(Path(arguments["model"]).resolve())
        if Path(arguments["model"]).is_dir()
        else arguments["model"],
        "labels": list(task.labels),
        "metric": task.metric,
        "best_epoch": run["best_epoch"],
        "scores": {name: found["overall"] for name, found in scored.items()},
        "per_label": {name: [_renamed(row) for row in found["labels"]] for name, found in scored.items()},
        "bootstrap": {
            name: {key: found[key] for key in ("confidence", "num_resamples", "seed", "patient_level")}
            for name, found in scored.items()
        },
        "counts": {name: split.counts() for name, split in splits.items()},
        "notes": _notes(arguments, splits),
        "provenance": {key: run[key] for key in ("ecg_hf", "versions", "started", "seed", "corpora", "arguments")}
        | {"pretraining": run["base"]},
    }
    write_json(folder / "results.json", results)
    tables = [found.table(name, task.labels) for name, found in predictions.items()]
    pq.write_table(pa.concat_tables(tables), folder / "predictions.parquet")
    if task.problem_type != "regression":
        _save_plots(folder, predictions[task.splits[2]], task.labels)
    return results


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    return {"label": row["name"]} | {key: value for key, value in row.items() if key != "name"}


def _notes(arguments: dict[str, Any], splits: dict[str, LabelledSplit]) -> list[str]:
    notes = []
    if arguments["fraction"] < 1:
        notes.append(f"trained on a fraction of {arguments['fraction']:g} of the training patients")
    dropped = {name: split.num_dropped for name, split in splits.items() if split.num_dropped}
    if dropped:
        listed = ", ".join(f"{count} of {name}" for name, count in dropped.items())
        notes.append(f"records without a label of the task were left out: {listed}")
    return notes


def _save_plots(folder: Path, predictions: Predictions, labels: tuple[str, ...]) -> None:
    try:
        targets = predictions.split.targets
        save_figure(plot_roc(targets, predictions.scores, labels), folder / "roc.png")
        save_figure(plot_calibration(targets, predictions.scores, labels), folder / "calibration.png")
    except ImportError as error:
        logger.warning("no plots: %s", error)


def read_score(folder: Path, split: str = "test") -> str:
    """Reads a results.json and formats the task's metric on a split: value, interval, records and patients."""
    results = read_json(folder / "results.json")
    score = results["scores"][split][results["metric"]]
    if score["value"] is None:
        return f"{split} {results['metric']} is undefined: no label has both classes in {score['num_records']} records"
    patients = "unknown" if score["num_patients"] is None else score["num_patients"]
    return (
        f"{split} {results['metric']} {score['value']:.3f} (95 % interval {score['low']:.3f}-{score['high']:.3f}, "
        f"{score['num_records']} records, patients: {patients}, labels undefined: {score['num_undefined']})"
    )
