"""One row of the run table: a training run and one evaluation of it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, get_args

from ecg_hf.errors import EcgFormatError

SIZES = ("n_params", "n_params_nonembed", "n_params_total")
AMOUNTS = ("n_unique", "n_patients", "examples_seen")
STATUSES = ("done", "failed", "running")
EVAL_GROUPS = ("id", "ood_seen", "ood_unseen")
PROBES = ("none", "linear", "mlp", "ft")
# Whether lower is better; a law is of a loss.
METRICS = {
    "nll": True,
    "ne": True,
    "mse": True,
    "mae": True,
    "loss": True,
    "error": True,
    "auroc": False,
    "auprc": False,
}
# Forward passes, `flops_fwd`, that a gradient step costs for each example: one forward, two backward.
PASSES = 3
REQUIRED = ("run_id", "family", "paradigm", "n_params", "n_unique")
REQUIRED_WHEN_DONE = ("eval_id", "eval_group", "metric", "value")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run and one of its evaluations; of a run that is not done, the run alone.

    Args:
        run_id: Of the run; all its rows agree in everything before `eval_id`.
        family: Of the backbone, such as "resnet".
        paradigm: Such as "sl" (supervised) or "ssl" (self-supervised).
        objective: Its name in the registry.
        n_params: Parameters of the backbone, without head, decoder and teacher.
        n_params_nonembed: Those without the stem's.
        n_params_total: Those of everything that was trained.
        flops_fwd: Floating-point operations of one forward pass of one record.
        n_unique: Different records in the training data.
        n_patients: Different patients in them.
        examples_seen: Records drawn in training, repetitions counted.
        epochs: `examples_seen / n_unique`.
        n_labels: Labels of a supervised run.
        seed: Of the run.
        lr: Largest learning rate.
        lr_on_boundary: Whether the sweep's best rate was its smallest or largest.
        es_interior: Whether the best checkpoint was not the last one.
        status: One of `STATUSES`.
        eval_id: Of the evaluation, the same for all runs.
        eval_group: One of `EVAL_GROUPS`.
        dataset: Evaluated on.
        task: Evaluated with.
        metric: A key of `METRICS`.
        value: Of the metric.
        value_se: Its standard error from the test set's patients.
        n_eval: Records evaluated.
        n_pos: Of them positive.
        probe: One of `PROBES`.
        probe_n: Records the probe was fitted on.
        probe_dim: Features it saw.
        probe_seed: Of its subsample.
        n_seeds: Runs that an aggregated row stands for.
        seed_sd: Standard deviation of the logarithm of the value over them.
    """

    run_id: str
    family: str
    paradigm: str
    objective: str | None = None
    n_params: float
    n_params_nonembed: float | None = None
    n_params_total: float | None = None
    flops_fwd: float | None = None
    n_unique: float
    n_patients: float | None = None
    examples_seen: float | None = None
    epochs: float | None = None
    n_labels: float | None = None
    seed: int | None = None
    lr: float | None = None
    lr_on_boundary: bool | None = None
    es_interior: bool | None = None
    status: str = "done"
    eval_id: str | None = None
    eval_group: str | None = None
    dataset: str | None = None
    task: str | None = None
    metric: str | None = None
    value: float | None = None
    value_se: float | None = None
    n_eval: float | None = None
    n_pos: float | None = None
    probe: str = "none"
    probe_n: float | None = None
    probe_dim: float | None = None
    probe_seed: int | None = None
    n_seeds: int | None = None
    seed_sd: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("status", STATUSES), ("probe", PROBES)):
            self._one_of(name, allowed)
        for name in (*SIZES, *AMOUNTS, "flops_fwd", "epochs", "n_labels", "n_eval", "lr"):
            self._positive(name)
        for name in ("value_se", "n_pos", "probe_n", "probe_dim", "seed_sd"):
            self._not_negative(name)
        if self.status != "done":
            return
        for name in REQUIRED_WHEN_DONE:
            if getattr(self, name) is None:
                raise EcgFormatError(
                    f"run {self.run_id!r} is done but has no {name}; give it, or another status than 'done'"
                )
        self._one_of("eval_group", EVAL_GROUPS)
        self._one_of("metric", tuple(METRICS))
        self._positive("value")

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        if getattr(self, name) not in allowed:
            raise EcgFormatError(
                f"{name} of run {self.run_id!r} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
            )

    def _positive(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise EcgFormatError(
                f"{name} of run {self.run_id!r} must be a positive finite number, got {value}; "
                "mark a run that went wrong with status 'failed'"
            )

    def _not_negative(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise EcgFormatError(
                f"{name} of run {self.run_id!r} must be a finite number of at least 0, got {value}; "
                "leave the field empty if it is not known"
            )

    @property
    def configuration(self) -> tuple[Any, ...]:
        """What all seeds of one point of the grid have in common; early stopping lets them see different amounts."""
        return (self.family, self.paradigm, self.objective, self.n_params, self.n_unique, self.n_labels)

    @property
    def evaluation(self) -> tuple[Any, ...]:
        """What makes values comparable: the evaluation, its metric, and the probe apart from its subsample."""
        return (self.eval_id, self.eval_group, self.metric, self.probe, self.probe_n, self.probe_dim)

    @property
    def chance(self) -> float | None:
        """Loss of a model that only knows the prevalence, where the row tells it."""
        if self.metric == "ne":
            return 1.0
        if self.metric == "nll" and self.n_eval and self.n_pos and self.n_pos < self.n_eval:
            share = self.n_pos / self.n_eval
            return -share * math.log(share) - (1 - share) * math.log(1 - share)
        return None

    def changed(self, changes: Mapping[str, Any]) -> "RunRow":
        """Gives a copy with other fields."""
        return replace(self, **changes)


def _kind(annotation: Any) -> type:
    kinds: tuple[type, ...] = get_args(annotation) or (annotation,)
    return kinds[0]


KINDS: dict[str, type] = {field.name: _kind(field.type) for field in fields(RunRow)}
COLUMNS = tuple(name for name in KINDS if name not in ("n_seeds", "seed_sd"))
_RUN_COLUMNS = COLUMNS[: COLUMNS.index("eval_id")]


def run_fields(row: RunRow) -> dict[str, Any]:
    """Gives what a row says of its run, which every row of the run has to repeat."""
    return {name: getattr(row, name) for name in _RUN_COLUMNS}


def parse_row(raw: Mapping[str, Any], where: str) -> RunRow:
    """Makes a row of a line of CSV, JSON or a dataset: empty and NaN are missing, numbers may be text.

    Args:
        raw: By column.
        where: Names the line in an error.

    Raises:
        EcgFormatError: If a column is unknown or missing, or a value is not what its column holds.
    """
    unknown = [name for name in raw if name not in KINDS]
    if unknown:
        close = get_close_matches(unknown[0], KINDS, 1)
        hint = f"did you mean {close[0]!r}" if close else f"the columns are {', '.join(COLUMNS)}"
        raise EcgFormatError(f"{where} has an unknown column {unknown[0]!r}; {hint}, or pass it in `ignore`")
    values = {name: _parse(name, value, where) for name, value in raw.items()}
    missing = [name for name in REQUIRED if values.get(name) is None]
    if missing:
        raise EcgFormatError(f"{where} lacks {', '.join(missing)}; a row needs {', '.join(REQUIRED)}")
    return RunRow(**{name: value for name, value in values.items() if value is not None})


def _parse(name: str, value: Any, where: str) -> Any:
    kind = KINDS[name]
    if value is None or value == "" or (name != "value" and isinstance(value, float) and math.isnan(value)):
        return None
    try:
        return _PARSERS[kind](value)
    except (KeyError, TypeError, ValueError) as error:
        raise EcgFormatError(f"{name} of {where} must be {_NAMES[kind]}, got {value!r}") from error


def _whole(value: Any) -> int:
    number = float(value)
    if not number.is_integer():
        raise ValueError(value)
    return int(number)


def _truth(value: Any) -> bool:
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}[str(value).lower()]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


_PARSERS: dict[type, Callable[[Any], Any]] = {float: float, int: _whole, bool: _truth, str: _text}
_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
