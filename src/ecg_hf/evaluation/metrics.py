"""Results of predictions: discrimination, calibration and error, each with the interval its patients allow."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_hf.evaluation.bootstrap import CONFIDENCE, Clusters, Values, bootstrap, cluster_by_patient, percentile_interval
from ecg_hf.evaluation.weighted_scores import check_arrays, label_scores, label_statistics

# each metric is the mean, over the labels that define it, of one score per label
METRICS = {
    "macro_auroc": "auroc",
    "macro_average_precision": "average_precision",
    "brier": "brier",
    "ece": "ece",
    "mae": "mae",
    "pooled_mae": "pooled_mae",
}
DEFAULT_METRICS = ("macro_auroc", "macro_average_precision", "brier", "ece")

PatientIds = Sequence[Hashable] | NDArray[np.generic] | None


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval and the number of patients it rests on.

    Args:
        value: On the data as they are; NaN if they define it for no label.
        low: Lower end of the percentile interval.
        high: Upper end of the percentile interval.
        num_records: How many ECGs with a known label.
        num_patients: How many patients they come from; None if unknown, when every record counted as a patient.
        num_undefined: How many labels the data do not define, and `value` leaves out.
        num_undefined_in_resamples: How often, over all resamples, one of the other labels was undefined.
    """

    value: float
    low: float
    high: float
    num_records: int
    num_patients: int | None
    num_undefined: int = 0
    num_undefined_in_resamples: int = 0

    @property
    def patient_level(self) -> bool:
        """Whether the interval knows which records belong to one patient."""
        return self.num_patients is not None

    def as_dict(self) -> dict[str, float | bool | None]:
        """Gives the fields and `patient_level` for JSON, which has no NaN: what is undefined is None."""
        fields = {name: None if field != field else field for name, field in asdict(self).items()}
        return fields | {"patient_level": self.patient_level}

    def __str__(self) -> str:
        return "undefined" if math.isnan(self.value) else f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def point_score(
    labels: ArrayLike, scores: ArrayLike, metric: str = "macro_auroc", undefined: float | None = None
) -> float:
    """Gives a metric without interval, as the choice of an epoch needs it; a result comes from `evaluate_predictions`.

    Args:
        labels: As in `label_scores`.
        scores: As in `label_scores`.
        metric: A key of `METRICS`.
        undefined: What a label without both classes counts in the macro AUROC; None leaves it out. The reference of
            arXiv:2605.12241 counts 0.5, which pulls value and interval towards chance.
    """
    return float(_mean(label_scores(labels, scores, _score_name(metric)), _filling(metric, undefined)))


def evaluate_predictions(
    labels: ArrayLike,
    scores: ArrayLike,
    patient_ids: PatientIds,
    *,
    label_names: Sequence[str],
    metrics: Sequence[str] = DEFAULT_METRICS,
    num_resamples: int = 1000,
    seed: int = 0,
    undefined: float | None = None,
) -> dict[str, Any]:
    """Gives every metric, and every label's scores, with intervals, ready for JSON.

    A label without both classes in a resample is left out of that resample's mean, and counted. The interval of the
    ECE is moved by the bootstrap's estimate of its bias: noise in the bins only adds to an ECE, so that those of the
    resamples can all lie above the value.

    Args:
        labels: As in `label_scores`.
        scores: As in `label_scores`.
        patient_ids: One per record, or None: then every record counts as a patient and `patient_level` is false.
        label_names: One per label.
        metrics: Keys of `METRICS`.
        num_resamples: How many bootstrap resamples.
        seed: Of the resamples.
        undefined: As in `point_score`, in every resample too.

    Returns:
        "overall": a `Score` as dict per metric; "labels": one dict per label with its name, counts and scores; beside
        them how they were made.

    Raises:
        ValueError: If the arrays, ids or names do not fit each other.

    Source:
        Efron and Tibshirani 1993, chapter 10 (bias) and section 13.3 (percentile interval).
    """
    names = tuple(dict.fromkeys(_score_name(metric) for metric in metrics))
    labels, scores = check_arrays(labels, scores, names)
    if len(label_names) != labels.shape[1]:
        raise ValueError(
            f"expected a name for each of {labels.shape[1]} labels, got {len(label_names)}; name each once"
        )
    clusters = cluster_by_patient(patient_ids, len(labels))
    drawn = _replicates(labels, scores, names, clusters, num_resamples, seed)
    overall = {
        metric: _score(*drawn[METRICS[metric]], labels, clusters, _filling(metric, undefined)).as_dict()
        for metric in metrics
    }
    rows = [_label_row(column, labels, clusters, drawn) for column in range(labels.shape[1])]
    return {
        "num_records": len(labels),
        "num_patients": clusters.num_clusters if clusters.patient_level else None,
        "patient_level": clusters.patient_level,
        "confidence": CONFIDENCE,
        "num_resamples": num_resamples,
        "seed": seed,
        "undefined": undefined,
        "overall": overall,
        "labels": [{"name": name} | row for name, row in zip(label_names, rows, strict=True)],
    }


def paired_difference(
    labels: ArrayLike,
    scores: ArrayLike,
    other_scores: ArrayLike,
    patient_ids: PatientIds,
    *,
    metric: str = "macro_auroc",
    num_resamples: int = 1000,
    seed: int = 0,
    undefined: float | None = None,
) -> Score:
    """Gives by how much one model's metric exceeds another's, both on identical resamples.

    Args:
        labels: As in `label_scores`.
        scores: Of the one model.
        other_scores: Of the model that is subtracted.
        patient_ids: As in `evaluate_predictions`.
        metric: A key of `METRICS`.
        num_resamples: How many bootstrap resamples.
        seed: Of the resamples.
        undefined: As in `point_score`, in every resample too.
    """
    name, filling = _score_name(metric), _filling(metric, undefined)
    known, scores = check_arrays(labels, scores, (name,))
    _, other_scores = check_arrays(labels, other_scores, (name,))
    clusters = cluster_by_patient(patient_ids, len(known))
    value, replicates = _replicates(known, scores, (name,), clusters, num_resamples, seed)[name]
    other_value, other_replicates = _replicates(known, other_scores, (name,), clusters, num_resamples, seed)[name]
    filling = None if filling is None else 0.0
    return _score(value - other_value, replicates - other_replicates, known, clusters, filling, lowest=-math.inf)


def _score_name(metric: str) -> str:
    if metric not in METRICS:
        raise KeyError(f"{metric!r} is not a metric; choose one of {sorted(METRICS)}")
    return METRICS[metric]


def _filling(metric: str, undefined: float | None) -> float | None:
    return undefined if metric == "macro_auroc" else None


def _replicates(
    labels: Values, scores: Values, names: Sequence[str], clusters: Clusters, num_resamples: int, seed: int
) -> dict[str, tuple[Values, Values]]:
    """Per score its values (C,) on the data and (C, num_resamples) on the resamples."""
    statistics = label_statistics(labels, scores, names)
    cuts = np.cumsum([1 if name == "pooled_mae" else labels.shape[1] for name in names])[:-1]
    value, replicates = bootstrap(
        lambda weights: np.concatenate(list(statistics(weights).values())), clusters, num_resamples, seed
    )
    drawn = dict(zip(names, zip(np.split(value, cuts), np.split(replicates, cuts), strict=True), strict=True))
    if "ece" in drawn:
        value, replicates = drawn["ece"]
        bias = _mean(replicates.T, None) - value
        drawn["ece"] = value, replicates - bias[:, None]
    return drawn


def _mean(values: Values, filling: float | None) -> Values:
    """Over the labels, the first axis, that are defined; `filling` stands in for the others."""
    if filling is not None:
        return np.asarray(np.nan_to_num(values, nan=filling).mean(axis=0))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis=0) / np.sum(~np.isnan(values), axis=0))


def _score(
    value: Values,
    replicates: Values,
    labels: Values,
    clusters: Clusters,
    filling: float | None = None,
    lowest: float = 0.0,
) -> Score:
    low, high = percentile_interval(np.maximum(_mean(replicates, filling), lowest))
    known = ~np.isnan(labels).all(axis=1)
    num_patients = len(np.unique(clusters.index[known])) if clusters.patient_level else None
    undefined = np.isnan(value)
    counts = int(undefined.sum()), int(np.isnan(replicates[~undefined]).sum())
    return Score(float(_mean(value, filling)), low, high, int(known.sum()), num_patients, *counts)


def _label_row(
    column: int, labels: Values, clusters: Clusters, drawn: dict[str, tuple[Values, Values]]
) -> dict[str, Any]:
    label = labels[:, [column]]
    known = label[~np.isnan(label)]
    row: dict[str, Any] = {"num_known": len(known)}
    if set(drawn) - {"mae", "pooled_mae"}:
        row |= {"num_positive": int(known.sum()), "prevalence": float(known.mean()) if len(known) else None}
    return row | {
        name: _score(value[[column]], replicates[[column]], label, clusters).as_dict()
        for name, (value, replicates) in drawn.items()
        if name != "pooled_mae"
    }


def as_evaluate_metric() -> Any:
    """Gives the metrics as an `evaluate.Metric`, which needs no network.

    Its `compute(predictions=, references=)` takes patient_ids, metrics, num_resamples and seed as further keywords and
    gives, per metric, the value and, under the name with "_low" and "_high" appended, its interval.

    Raises:
        ImportError: If `evaluate` is not installed.
    """
    try:
        import datasets
        import evaluate
    except ImportError as error:
        raise ImportError("as_evaluate_metric needs evaluate; install it with pip install 'ecg_hf[eval]'") from error

    class EcgMetric(evaluate.Metric):  # type: ignore[misc]
        """Metrics of predictions with patient-clustered intervals."""

        def _info(self) -> Any:
            rows = datasets.Sequence(datasets.Value("float64"))
            return evaluate.MetricInfo(
                description="Discrimination and calibration of multi-label predictions, bootstrapped by patient.",
                citation="",
                inputs_description="Probabilities and labels (NaN if unknown), one list of C numbers per record.",
                features=datasets.Features({"predictions": rows, "references": rows}),
            )

        def _compute(
            self,
            predictions: Sequence[Sequence[float]],
            references: Sequence[Sequence[float]],
            patient_ids: PatientIds = None,
            metrics: Sequence[str] = DEFAULT_METRICS,
            num_resamples: int = 1000,
            seed: int = 0,
        ) -> dict[str, Any]:
            names = [str(column) for column in range(len(references[0]))]
            options: dict[str, Any] = {"metrics": metrics, "num_resamples": num_resamples, "seed": seed}
            return _flat(evaluate_predictions(references, predictions, patient_ids, label_names=names, **options))

    return EcgMetric(keep_in_memory=True)


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    """One number per name, as trackers and `evaluate` want them."""
    flat = {key: result[key] for key in ("num_records", "num_patients", "patient_level")}
    for metric, score in result["overall"].items():
        flat |= {metric: score["value"], f"{metric}_low": score["low"], f"{metric}_high": score["high"]}
    return flat
