"""The job of one run of a sweep, which pretrains a model and then makes every evaluation that is missing."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.output.files import read_json, write_json
from ecg_hf.scaling.sweep.evaluations.in_distribution import evaluate_in_distribution
from ecg_hf.scaling.sweep.evaluations.probes import evaluate_probes
from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.model_size import count_flops
from ecg_hf.scaling.table.row import PASSES
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.jobs.job import Job, drop_folder, last_row
from ecg_hf.training.pretrain import pretrain

logger = logging.getLogger(__name__)
VERSION = 2  # version of the evaluations; those of another version are made again
STEP_FLOPS = 3e8  # overhead of a step in equivalent FLOPs, for estimates of time


@dataclass(frozen=True)
class TrainingJob(Job):
    """A run and its evaluations, in a folder of their own.

    Args:
        folder: Folder of the run, which becomes the folder of the model.
        arguments: Arguments of the pretraining.
        evaluations: Evaluations of the trained model.
    """

    folder: Path
    arguments: PretrainingArguments
    evaluations: tuple[Evaluation, ...] = ()

    def done(self) -> bool:
        """Returns whether the model is trained and all its evaluations are made."""
        return self.trained() and all(self.rows_of(evaluation) is not None for evaluation in self.evaluations)

    def trained(self) -> bool:
        """Returns whether the model is trained.

        Raises:
            ValueError: If the model in the folder was trained with other arguments.
        """
        if not (self.folder / "run.json").exists():
            return False
        run = read_json(self.folder / "run.json")
        made = identify(PretrainingArguments(**run["arguments"]))
        if run.get("steps"):  # several processes may have shared a step
            made["crops_per_step"] = run["examples_seen"] // run["steps"]
        self.require_made_with(made, identify(self.arguments))
        return True

    def require_made_with(self, made: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        """Checks that the contents of the folder were made with the arguments that the grid asks for now.

        Args:
            made: Arguments that the contents were made with.
            asked: Arguments that the grid asks for.

        Raises:
            ValueError: If an argument differs.
        """
        for name, value in asked.items():
            if made.get(name) != value:
                raise ValueError(
                    f"{self.folder} was made with {name}={made.get(name)!r}, the grid now says {value!r}; "
                    "choose another folder for the sweep, or remove that run"
                )

    @property
    def flops(self) -> int:
        """Number of floating-point operations of all training steps of the backbone."""
        return PASSES * count_flops(self.arguments) * count_crops(self.arguments) * self.arguments.max_steps

    @property
    def cost(self) -> float:
        """Estimated cost of all steps, in FLOPs."""
        return self.flops + self.arguments.max_steps * STEP_FLOPS

    def progress(self) -> dict[str, Any]:
        """Returns the number of steps as "of" and, from the latest row of metrics, "step", "loss" and "seconds"."""
        row = last_row(self.folder / "metrics.jsonl")
        found = {name: row[name] for name in ("step", "loss", "seconds") if row.get(name) is not None}
        return {"of": self.arguments.max_steps, **found}

    def do(self) -> None:
        """Pretrains the model, or continues an interrupted pretraining, and makes the missing evaluations.

        Raises:
            EcgIntegrityError: If some evaluations failed; it is raised after all evaluations were tried.
        """
        if not self.trained():
            pretrain(replace(self.arguments, resume=True))
        for left in ("checkpoints", "best"):
            drop_folder(self.folder / left)
        self._evaluate()

    def _evaluate(self) -> None:
        """Makes the missing evaluations; if one fails, the rest are made all the same."""
        failed: dict[str, Exception] = {}
        for evaluation in self.evaluations:
            if self.rows_of(evaluation) is not None:
                continue
            try:
                rows = evaluate(self.folder, evaluation)
            except Exception as error:
                logger.exception("%s could not be made", evaluation.name)
                failed[evaluation.name] = error
            else:
                path = self._path(evaluation)
                path.parent.mkdir(exist_ok=True)
                write_json(path, {"asked": _asked(evaluation), "rows": rows})
        drop_folder(self.folder / "features")
        if failed:
            reasons = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failed.items())
            raise EcgIntegrityError(
                f"{len(failed)} of {len(self.evaluations)} evaluations failed and the rest are done: {reasons}; "
                "remove the cause and run the sweep again"
            ) from next(iter(failed.values()))

    def rows_of(self, evaluation: Evaluation) -> list[dict[str, Any]] | None:
        """Returns the rows that an evaluation found; None if it was not made, or was made with another definition."""
        path = self._path(evaluation)
        if not path.exists():
            return None
        found = read_json(path)
        rows: list[dict[str, Any]] = found["rows"]
        return rows if found["asked"] == _asked(evaluation) else None

    def _path(self, evaluation: Evaluation) -> Path:
        return self.folder / "evaluations" / f"{evaluation.name}.json"


def identify(arguments: PretrainingArguments) -> dict[str, Any]:
    """Returns the arguments that identify a run of one process; changing one makes it a different run."""
    return arguments.identity() | {"crops_per_step": count_crops(arguments)}


def count_crops(arguments: PretrainingArguments) -> int:
    """Computes the number of crops in an optimizer step of one process."""
    return arguments.batch_size * arguments.gradient_accumulation_steps


def _asked(evaluation: Evaluation) -> dict[str, Any]:
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(evaluation).items()}
    return {"version": VERSION, **listed}


def evaluate(folder: Path, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Evaluates a trained model.

    Args:
        folder: Folder of the model.
        evaluation: Evaluation to make.

    Returns:
        Rows with the columns of the run table that hold the result.

    Raises:
        FloatingPointError: If a value is not finite.
    """
    how: Callable[[Path, Evaluation], list[dict[str, Any]]] = (
        evaluate_in_distribution if evaluation.group == "id" else evaluate_probes
    )
    rows = how(folder, evaluation)
    for row in rows:
        if not math.isfinite(row["value"]):
            raise FloatingPointError(f"{row['metric']} of {evaluation.name} is {row['value']} for {folder}")
    return rows
