"""The row of a run table, which describes one training run and one evaluation of it, and its parser."""

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
# Whether a lower value is better. A law can be fitted only to a metric for which this is true.
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
# Cost of training on one record, in forward passes: one forward pass, and a backward pass that costs two.
PASSES = 3
REQUIRED = ("run_id", "family", "paradigm", "n_params", "n_unique")
REQUIRED_WHEN_DONE = ("eval_id", "eval_group", "metric", "value")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A training run and one of its evaluations; the evaluation is required only if the run is done.

    Args:
        run_id: Identifier of the run. All rows of a run agree in every column before `eval_id`.
        family: Family of the backbone, such as "resnet".
        paradigm: Training paradigm, such as "sl" (supervised) or "ssl" (self-supervised).
        objective: Name of the objective in the registry.
        n_params: Number of parameters of the backbone, without head, decoder and teacher.
        n_params_nonembed: Number of parameters of the backbone without those of its stem.
        n_params_total: Number of parameters that were trained.
        flops_fwd: Floating-point operations of one forward pass on one record.
        n_unique: Number of different records in the training data.
        n_patients: Number of different patients in the training data.
        examples_seen: Number of records drawn in training, repetitions included.
        epochs: Passes over the training data, `examples_seen / n_unique`.
        n_labels: Number of labels of a supervised run.
        seed: Seed of the run.
        lr: Largest learning rate of the schedule.
        lr_on_boundary: Whether the best learning rate of the sweep was the smallest or the largest one tried.
        es_interior: Whether the best checkpoint came before the last one; if not, training may not have converged.
        status: State of the run, one of `STATUSES`.
        eval_id: Name of the evaluation, the same for all runs.
        eval_group: Group of the evaluation, one of `EVAL_GROUPS`.
        dataset: Name of the corpus evaluated on.
        task: Name of the task evaluated.
        metric: Name of the metric, a key of `METRICS`.
        value: Value of the metric.
        value_se: Standard error of the value, from resampling the patients of the test set.
        n_eval: Number of records evaluated.
        n_pos: Number of positive records among them.
        probe: Kind of probe, one of `PROBES`.
        probe_n: Number of records the probe was fitted on.
        probe_dim: Number of features the probe was fitted to.
        probe_seed: Seed of the subsample the probe was fitted on.
        n_seeds: Number of runs that an aggregated row combines.
        seed_sd: Standard deviation of the logarithm of the value over these runs.

    Raises:
        EcgFormatError: If a field has a value that is not allowed, or a run is done but lacks its evaluation.
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
        """Fields that all seeds of one grid point share; not `examples_seen`, which varies with early stopping."""
        return (self.family, self.paradigm, self.objective, self.n_params, self.n_unique, self.n_labels)

    @property
    def evaluation(self) -> tuple[Any, ...]:
        """Fields that two rows must share for comparable values: evaluation, metric, and probe without its seed."""
        return (self.eval_id, self.eval_group, self.metric, self.probe, self.probe_n, self.probe_dim)

    @property
    def chance(self) -> float | None:
        """Loss of a model that knows only the prevalence; None if the row does not determine it."""
        if self.metric == "ne":
            return 1.0
        if self.metric == "nll" and self.n_eval and self.n_pos and self.n_pos < self.n_eval:
            prevalence = self.n_pos / self.n_eval
            return -prevalence * math.log(prevalence) - (1 - prevalence) * math.log(1 - prevalence)
        return None

    def changed(self, changes: Mapping[str, Any]) -> "RunRow":
        """Returns a copy of the row with some fields changed.

        Args:
            changes: New values by field.
        """
        return replace(self, **changes)


def _kind(annotation: Any) -> type:
    kinds: tuple[type, ...] = get_args(annotation) or (annotation,)
    return kinds[0]


KINDS: dict[str, type] = {field.name: _kind(field.type) for field in fields(RunRow)}
COLUMNS = tuple(name for name in KINDS if name not in ("n_seeds", "seed_sd"))
_RUN_COLUMNS = COLUMNS[: COLUMNS.index("eval_id")]


def run_fields(row: RunRow) -> dict[str, Any]:
    """Returns the fields of a row that describe its run, and not its evaluation; all rows of the run repeat them."""
    return {name: getattr(row, name) for name in _RUN_COLUMNS}


def parse_row(raw: Mapping[str, Any], where: str) -> RunRow:
    """Builds a row from a line of CSV, JSON or a dataset.

    Numbers may be text. Empty text counts as missing, and so does NaN in every column but `value`.

    Args:
        raw: Values by column.
        where: Name of the line in error messages, such as "row 3".

    Returns:
        The row.

    Raises:
        EcgFormatError: If a column is unknown or missing, or a value is of the wrong type.
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
