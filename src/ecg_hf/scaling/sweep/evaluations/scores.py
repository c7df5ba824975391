"""Scores of a model on the labels of a split, with standard errors that take patients as independent."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ecg_hf.evaluation.bootstrap import Clusters, Values, cluster_by_patient


@dataclass(frozen=True)
class Answers:
    """The predictions of a model for the labels of a split, with the true labels.

    Args:
        names: Names of the labels.
        targets: True labels, 0 or 1, NaN if unknown, shape (R, C).
        losses: Negative log-likelihoods of the true labels, in nats, shape (R, C).
        scores: Scores of any scale, larger where a label is likelier, shape (R, C).
        prior: Prevalence of each label among the training records, shape (C,).
        patients: Patient of each record; all None if unknown.
    """

    names: tuple[str, ...]
    targets: NDArray[np.float32]
    losses: Values
    scores: Values
    prior: Values
    patients: Sequence[Hashable]

    def rows(self, evaluation: str, per_label: bool) -> list[dict[str, Any]]:
        """Computes nll, ne (normalised entropy) and auroc, with standard errors.

        Args:
            evaluation: Name of the evaluation.
            per_label: Whether each label gets rows of its own, beside the mean over labels.

        Returns:
            Rows with columns of the run table; labels without a value of a metric are left out of it.

        Source:
            Normalised entropy: He et al. 2014 (doi:10.1145/2648584.2648589), section 3, with the training prior.
        """
        clusters = cluster_by_patient(self.patients, len(self.targets))
        entropy = binary_entropy(self.prior)
        influences = {
            "nll": mean_influences(self.losses),
            "ne": mean_influences(self.losses / entropy),
            "auroc": auroc_influences(self.targets, self.scores),
        }
        columns = [(evaluation, np.arange(len(self.names)))]
        if per_label:
            columns += [(f"{evaluation}/{name}", np.array([index])) for index, name in enumerate(self.names)]
        return [
            {"eval_id": name, "metric": metric, **self._row(*found, chosen, clusters)}
            for name, chosen in columns
            for metric, found in influences.items()
            if np.isfinite(found[0][chosen]).any()
        ]

    def _row(
        self, values: Values, influences: Values, chosen: NDArray[np.int64], clusters: Clusters
    ) -> dict[str, float | None]:
        chosen = chosen[np.isfinite(values[chosen])]
        known = ~np.isnan(self.targets[:, chosen])
        return {
            "value": float(values[chosen].mean()),
            "value_se": clustered_error(influences[:, chosen].mean(axis=1), clusters),
            "n_eval": int(known.any(axis=1).sum()),
            # a count over several labels does not determine the loss at chance
            "n_pos": int(np.nansum(self.targets[:, chosen])) if len(chosen) == 1 else None,
        }


def binary_entropy(prior: Values) -> Values:
    """Computes the entropy of labels with a prior probability, in nats."""
    return np.asarray(-prior * np.log(prior) - (1 - prior) * np.log1p(-prior))


def mean_influences(values: Values) -> tuple[Values, Values]:
    """Computes the means of columns, (C,), and the influence of each record on them, (R, C), zero where NaN.

    The influence of a value is its distance to the mean, times all records over those with a value. Influences average
    to zero over all records.
    """
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        means = np.nansum(values, axis=0) / counts
        influences = np.where(known, values - means, 0.0) * len(values) / counts
    return means, np.nan_to_num(influences)


def auroc_influences(targets: NDArray[np.float32], scores: Values) -> tuple[Values, Values]:
    """Computes AUROCs, (C,), and the influence of each record on them, (R, C); NaN for a label without both classes.

    Source:
        DeLong et al. 1988 (doi:10.2307/2531595), structural components; summed by cluster in Obuchowski 1997
        (doi:10.2307/2533958).
    """
    values, influences = np.full(targets.shape[1], np.nan), np.zeros(targets.shape)
    for column, (target, score) in enumerate(zip(targets.T, scores.T, strict=True)):
        positive, negative = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
        if not (len(positive) and len(negative)):
            continue
        ranks = rankdata(score[np.concatenate([positive, negative])])
        within = rankdata(score[positive]), rankdata(score[negative])
        beaten = (ranks[: len(positive)] - within[0]) / len(negative)  # fraction of negatives below each positive
        beating = 1 - (ranks[len(positive) :] - within[1]) / len(positive)
        values[column] = beaten.mean()
        influences[positive, column] = (beaten - values[column]) * len(target) / len(positive)
        influences[negative, column] = (beating - values[column]) * len(target) / len(negative)
    return values, influences


def clustered_error(influences: Values, clusters: Clusters) -> float:
    """Computes the standard error of a value from the influence of each record on it, with independent patients.

    Args:
        influences: Influence of each record on the value, shape (R,).
        clusters: Patient of each record.


    Source:
        Liang and Zeger 1986 (doi:10.1093/biomet/73.1.13), the sandwich with a correction for few clusters.
    """
    sums = np.bincount(clusters.index, weights=influences, minlength=clusters.num_clusters)
    correction = clusters.num_clusters / (clusters.num_clusters - 1)
    return float(np.sqrt(correction * np.square(sums).sum()) / len(influences))
