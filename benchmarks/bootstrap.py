"""How long the bootstrap of a PTB-XL-sized test set takes, against a loop over scikit-learn.

OMP_NUM_THREADS=1 python benchmarks/bootstrap.py
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from ecg_hf.evaluation.bootstrap import Clusters, Values, bootstrap, cluster_by_patient, resample_weights
from ecg_hf.evaluation.weighted_scores import NUM_BINS, bin_scores, label_statistics

NUM_RECORDS, NUM_PATIENTS, NUM_LABELS = 2198, 1900, 71
SCORES = ("auroc", "average_precision", "brier", "ece")


def simulate(seed: int = 0) -> tuple[Values, Values, Clusters]:
    """Labels from rare to common, scores that know something of them, and some patients with several records."""
    rng = np.random.default_rng(seed)
    prevalence = np.clip(rng.lognormal(-4.2, 1.3, NUM_LABELS), 0.002, 0.45)
    logits = rng.normal(size=(NUM_RECORDS, NUM_LABELS)) * 2 + np.log(prevalence / (1 - prevalence)) - 1
    scores = 1 / (1 + np.exp(-logits))
    labels = (rng.random(scores.shape) < scores).astype(float)
    return labels, scores, cluster_by_patient(rng.integers(0, NUM_PATIENTS, NUM_RECORDS), NUM_RECORDS)


def expected_calibration_error(label: Values, score: Values) -> float:
    bins = bin_scores(score)
    return float(abs(np.bincount(bins, label - score, NUM_BINS)).sum() / len(label))


LOOP: dict[str, Callable[[Values, Values], float]] = {
    "auroc": roc_auc_score,
    "average_precision": average_precision_score,
    "brier": brier_score_loss,
    "ece": expected_calibration_error,
}


def loop_over_resamples(labels: Values, scores: Values, weights: Values, name: str) -> Values:
    """One score, shape (C, resamples), by scikit-learn on the rows of every resample; NaN without both classes."""
    columns = []
    for draw in weights.T.astype(int):
        rows = np.repeat(np.arange(len(labels)), draw)
        y, p = labels[rows], scores[rows]
        both = (y.min(axis=0) < y.max(axis=0)) | (name in ("brier", "ece"))
        columns.append([LOOP[name](y[:, c], p[:, c]) if both[c] else np.nan for c in range(labels.shape[1])])
    return np.array(columns).T


def vectorised(
    labels: Values, scores: Values, clusters: Clusters, names: tuple[str, ...], num_resamples: int
) -> Values:
    statistics = label_statistics(labels, scores, names)
    return bootstrap(lambda weights: np.concatenate(list(statistics(weights).values())), clusters, num_resamples)[1]


def seconds(function: Callable[..., Values], *arguments: object) -> tuple[float, Values]:
    start = time.perf_counter()
    values = function(*arguments)
    return time.perf_counter() - start, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-resamples", type=int, default=1000, help="of the vectorised bootstrap")
    parser.add_argument("--num-loop-resamples", type=int, default=5, help="of the loop, in each round")
    parser.add_argument("--num-rounds", type=int, default=3, help="both sides take turns; the fastest round counts")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UndefinedMetricWarning)
    labels, scores, clusters = simulate()
    weights = next(iter(resample_weights(clusters, arguments.num_loop_resamples)))
    factor = arguments.num_resamples / weights.shape[1]
    ours: dict[tuple[str, ...], list[float]] = {}
    loop: dict[tuple[str, ...], list[float]] = {}
    difference = 0.0
    for _ in range(arguments.num_rounds):
        for names in [*((name,) for name in SCORES), SCORES]:
            taken, fast = seconds(vectorised, labels, scores, clusters, names, arguments.num_resamples)
            ours.setdefault(names, []).append(taken)
            parts = [seconds(loop_over_resamples, labels, scores, weights, name) for name in names]
            loop.setdefault(names, []).append(sum(part[0] for part in parts) * factor)
            slow = np.concatenate([part[1] for part in parts])
            np.testing.assert_array_equal(np.isnan(slow), np.isnan(fast[:, : weights.shape[1]]))
            difference = max(difference, float(np.nanmax(abs(slow - fast[:, : weights.shape[1]]))))
    print(f"{NUM_RECORDS} records, {NUM_LABELS} labels, {arguments.num_resamples} resamples of patients")
    print(f"loop: extrapolated from {weights.shape[1]} resamples; fastest of {arguments.num_rounds} rounds in turns")
    print(f"{'scores':22}{'ecg_hf s':>10}{'loop s':>10}{'ratio':>8}")
    for names in ours:
        fastest, slowest = min(ours[names]), min(loop[names])
        name = names[0] if len(names) == 1 else "all four together"
        print(f"{name:22}{fastest:10.2f}{slowest:10.1f}{slowest / fastest:8.0f}")
    print(f"largest difference of a replicate: {difference:.1e}")


if __name__ == "__main__":
    main()
