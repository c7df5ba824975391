"""Metrics of predictions: discrimination, calibration and error, each with an interval from resampled patients."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_hf.evaluation.bootstrap import CONFIDENCE, Clusters, Values, bootstrap, cluster_by_patient, percentile_interval
from ecg_hf.evaluation.weighted_scores import check_arrays, label_scores, label_statistics

# Score of a label behind each metric; the metric is the mean of the score over the labels that define it.
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
    """A value of a metric with its 95 % interval and the number of patients behind it.

    Args:
        value: Value on the data; NaN if it is undefined for every label.
        low: Lower end of the percentile interval.
        high: Upper end of the percentile interval.
        num_records: Number of ECGs with a known label.
        num_patients: Number of patients of these ECGs; None if unknown: every record was then drawn as a patient.
        num_undefined: Number of labels for which the metric is undefined on the data; `value` leaves them out.
        num_undefined_in_resamples: Number of cases, over all resamples, in which one of the other labels was undefined.

    Example:
        >>> print(Score(0.925, low=0.914, high=0.935, num_records=2198, num_patients=1902))
        0.925 (0.914-0.935)
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
        """Whether the interval comes from resampled patients rather than records."""
        return self.num_patients is not None

    def as_dict(self) -> dict[str, float | bool | None]:
        """Returns the fields and `patient_level` for JSON, with None in place of NaN."""
        fields = {name: None if field != field else field for name, field in asdict(self).items()}
        return fields | {"patient_level": self.patient_level}

    def __str__(self) -> str:
        return "undefined" if math.isnan(self.value) else f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def point_score(
    labels: ArrayLike, scores: ArrayLike, metric: str = "macro_auroc", undefined: float | None = None
) -> float:
    """Computes a metric without an interval, for the choice of an epoch; results come from `evaluate_predictions`.

    Args:
        labels: Labels, see `label_scores`.
        scores: Predictions, see `label_scores`.
        metric: Name of the metric, a key of `METRICS`.
        undefined: AUROC that stands for a label without both classes in the macro AUROC; None leaves the label out.
            Study A's published code (arXiv:2605.12241) takes 0.5, which pulls value and interval towards chance.
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
    """Computes every metric and the scores of every label, with intervals, ready for JSON.

    A label without both classes in a resample is left out of its mean, and counted. The interval of the ECE is shifted
    by its bias, which the bootstrap estimates: noise only adds to an ECE, so all resamples can lie above the value.

    Args:
        labels: Labels, see `label_scores`.
        scores: Predictions, see `label_scores`.
        patient_ids: Patient of each record; if None, every record is drawn as a patient and `patient_level` is false.
        label_names: Name of each label.
        metrics: Names of the metrics, keys of `METRICS`.
        num_resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
        undefined: AUROC of a label without both classes, see `point_score`; it holds in every resample too.

    Returns:
        A dict with "overall", a `Score` as a dict for each metric; "labels", a dict with name, counts and scores for
        each label; the numbers of records and patients; and the settings.

    Raises:
        ValueError: If the arrays, ids or names do not fit each other.

    Source:
        Efron and Tibshirani 1993, chapter 10 (bias) and section 13.3 (percentile interval).

    Example:
        >>> found = evaluate_predictions([[1], [0], [1]], [[0.9], [0.6], [0.4]], ["a", "b", "b"], label_names=["AF"])
        >>> found["overall"]["macro_auroc"]["value"], found["num_patients"]
        (0.5, 2)
    """
    names = tuple(dict.fromkeys(_score_name(metric) for metric in metrics))
    labels, scores = check_arrays(labels, scores, names)
    if len(label_names) != labels.shape[1]:
        raise ValueError(f"expected a name for each of {labels.shape[1]} labels, got {len(label_names)}; name each")
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
    """Computes by how much one model's metric exceeds another's, with an interval from the same resamples of both.

    Args:
        labels: Labels, see `label_scores`.
        scores: Predictions of the first model.
        other_scores: Predictions of the second model, whose metric is subtracted.
        patient_ids: Patient of each record, see `evaluate_predictions`.
        metric: Name of the metric, a key of `METRICS`.
        num_resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
        undefined: AUROC of a label without both classes, see `point_score`; it holds in every resample too.

    Example:
        >>> good, poor = [[0.9], [0.8], [0.3], [0.1]], [[0.9], [0.2], [0.3], [0.1]]
        >>> print(paired_difference([[1], [1], [0], [0]], good, poor, ["a", "b", "c", "d"]))
        0.250 (0.000-1.000)
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
    """Computes each score of the labels on the data, shape (C,), and on the resamples, shape (C, num_resamples)."""
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
    """Averages over the labels, the first axis; NaN is left out, or counts as `filling` if that is given."""
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
    """Builds an `evaluate.Metric` of the metrics; it needs no network.

    Its `compute(predictions=, references=)` also takes the keywords patient_ids, metrics, num_resamples and seed. It
    returns the value of each metric, and its interval under the metric's name with "_low" and "_high" appended.

    Raises:
        ImportError: If `evaluate` is not installed.
    """
    try:
        import datasets
        import evaluate
    except ImportError as error:
        raise ImportError("as_evaluate_metric needs evaluate; install it with pip install 'ecg_hf[eval]'") from error

    class EcgMetric(evaluate.Metric):  # type: ignore[misc]
        """Metrics of predictions, with intervals from resampled patients."""

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
    """Flattens a result to one number per name, the form that trackers and `evaluate` need."""
    flat = {key: result[key] for key in ("num_records", "num_patients", "patient_level")}
    for metric, score in result["overall"].items():
        flat |= {metric: score["value"], f"{metric}_low": score["low"], f"{metric}_high": score["high"]}
    return flat
