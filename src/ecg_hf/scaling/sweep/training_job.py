"""A run of a sweep: pretraining, then every evaluation that it does not have yet."""

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
from ecg_hf.scaling.sweep.job import Job, drop_folder, last_row
from ecg_hf.scaling.sweep.model_size import count_flops
from ecg_hf.scaling.table.row import PASSES
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.pretrain import pretrain

logger = logging.getLogger(__name__)
VERSION = 2  # of how evaluations are made
STEP_FLOPS = 3e8  # what a step costs beside its arithmetic, for estimates of time


@dataclass(frozen=True)
class TrainingJob(Job):
    """A run and its evaluations, in a folder of its own.

    Args:
        folder: Of the run, which becomes the model.
        arguments: Of the pretraining.
        evaluations: What follows it.
    """

    folder: Path
    arguments: PretrainingArguments
    evaluations: tuple[Evaluation, ...] = ()

    def done(self) -> bool:
        """Says whether the model and all its evaluations are there."""
        return self.trained() and all(self.rows_of(evaluation) is not None for evaluation in self.evaluations)

    def trained(self) -> bool:
        """Says whether the model is there.

        Raises:
            ValueError: If it is one of other arguments.
        """
        if not (self.folder / "run.json").exists():
            return False
        run = read_json(self.folder / "run.json")
        made = identify(PretrainingArguments(**run["arguments"]))
        if run.get("steps"):  # several processes may have shared it
            made["crops_per_step"] = run["examples_seen"] // run["steps"]
        self.require_made_with(made, identify(self.arguments))
        return True

    def require_made_with(self, made: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        """Refuses what is in the folder if it was made with something else than the grid asks for now.

        Raises:
            ValueError: If it was.
        """
        for name, value in asked.items():
            if made.get(name) != value:
                raise ValueError(
                    f"{self.folder} was made with {name}={made.get(name)!r}, the grid now says {value!r}; "
                    "choose another folder for the sweep, or remove that run"
                )

    @property
    def flops(self) -> int:
        """Of all steps of the backbone."""
        return PASSES * count_flops(self.arguments) * count_crops(self.arguments) * self.arguments.max_steps

    @property
    def cost(self) -> float:
        """Of all steps, in FLOP and what is like them."""
        return self.flops + self.arguments.max_steps * STEP_FLOPS

    def progress(self) -> dict[str, Any]:
        """Says which step it is at, of how many, and its losses there."""
        row = last_row(self.folder / "metrics.jsonl")
        found = {name: row[name] for name in ("step", "loss", "seconds") if row.get(name) is not None}
        return {"of": self.arguments.max_steps, **found}

    def do(self) -> None:
        """Pretrains, goes on with a pretraining that was interrupted, and evaluates.

        Raises:
            EcgIntegrityError: If evaluations could not be made, after those that could.
        """
        if not self.trained():
            pretrain(replace(self.arguments, resume=True))
        for left in ("checkpoints", "best"):
            drop_folder(self.folder / left)
        self._evaluate()

    def _evaluate(self) -> None:
        """Makes the evaluations that are lacking; one that fails does not keep the others from being made."""
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
            said = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failed.items())
            raise EcgIntegrityError(
                f"{len(failed)} of {len(self.evaluations)} evaluations could not be made, the others were: {said}"
            ) from next(iter(failed.values()))

    def rows_of(self, evaluation: Evaluation) -> list[dict[str, Any]] | None:
        """Gives what an evaluation found; None if it was not made, or asked something else."""
        path = self._path(evaluation)
        if not path.exists():
            return None
        found = read_json(path)
        rows: list[dict[str, Any]] = found["rows"]
        return rows if found["asked"] == _asked(evaluation) else None

    def _path(self, evaluation: Evaluation) -> Path:
        return self.folder / "evaluations" / f"{evaluation.name}.json"


def identify(arguments: PretrainingArguments) -> dict[str, Any]:
    """Gives what makes a run of one process another run if it changes."""
    return arguments.identity() | {"crops_per_step": count_crops(arguments)}


def count_crops(arguments: PretrainingArguments) -> int:
    """Counts the crops of an optimizer step of one process."""
    return arguments.batch_size * arguments.gradient_accumulation_steps


def _asked(evaluation: Evaluation) -> dict[str, Any]:
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(evaluation).items()}
    return {"version": VERSION, **listed}


def evaluate(folder: Path, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Evaluates a model; each row holds the columns of the run table that say what was found.

    Args:
        folder: Of the model.
        evaluation: What is asked.

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
