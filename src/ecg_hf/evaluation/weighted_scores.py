"""Scores of each label under any weights of the records: a bootstrap varies the weights, equal ones give the score."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_hf.evaluation.bootstrap import Statistic, Values

NUM_BINS = 15


class _Ranking(NamedTuple):
    order: NDArray[np.intp]  # known records, from the highest score down
    edges: NDArray[np.intp]  # positions in `order` before and after each tie (records of one score) with a positive
    above: NDArray[np.intp]  # index into `edges` of the start of each such tie
    through: NDArray[np.intp]  # index into `edges` of the end of each such tie
    positives: NDArray[np.intp]  # positive records, from the highest score down
    first: NDArray[np.intp]  # index into `positives` of the first record of each such tie


def _rank(label: Values, score: Values) -> _Ranking:
    known = np.flatnonzero(~np.isnan(label))
    order = known[np.argsort(-score[known], kind="stable")]
    positive = label[order] == 1
    tie = np.cumsum(np.diff(score[order], prepend=score[order[:1]]) != 0)
    ties, first = np.unique(tie[positive], return_index=True)
    start, stop = np.searchsorted(tie, ties, "left"), np.searchsorted(tie, ties, "right")
    edges = np.unique(np.concatenate([[0], start, stop]))
    above, through = np.searchsorted(edges, start), np.searchsorted(edges, stop)
    return _Ranking(order, edges[edges < len(order)], above, through, order[positive], first)


def _rank_scores(ranking: _Ranking, weights: Values) -> tuple[Values, Values]:
    """Computes AUROC and average precision of one label under each column of weights."""
    undefined = np.full(weights.shape[1], np.nan)
    if not 0 < len(ranking.positives) < len(ranking.order):
        return undefined, undefined
    # The terms are whole numbers and halves, so that the sums are exact in any order.
    pieces = np.add.reduceat(np.take(weights, ranking.order, axis=0), ranking.edges, axis=0)
    cumulated = np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(pieces, axis=0)])
    positive = np.add.reduceat(np.take(weights, ranking.positives, axis=0), ranking.first, axis=0)
    above, through = cumulated[ranking.above], cumulated[ranking.through]
    positive_through = np.cumsum(positive, axis=0)
    num_positive = positive_through[-1]
    num_negative = cumulated[-1] - num_positive
    negative_above, negative_through = above - (positive_through - positive), through - positive_through
    outranked = num_negative - (negative_above + negative_through) / 2
    with np.errstate(invalid="ignore"):
        auroc = np.sum(positive * outranked, axis=0) / (num_positive * num_negative)
        precision = np.divide(positive_through, through, out=np.zeros_like(through), where=through > 0)
        average_precision = np.sum(positive * precision, axis=0) / num_positive
    return auroc, np.where(num_negative > 0, average_precision, np.nan)


def _ranks(labels: Values, scores: Values) -> Statistic:
    rankings = [_rank(label, score) for label, score in zip(labels.T, scores.T, strict=True)]
    return lambda weights: np.stack([_rank_scores(ranking, weights) for ranking in rankings], axis=1)


def _mean_error(errors: Values, known: NDArray[np.integer]) -> Statistic:
    totals, counts = np.nan_to_num(errors).T, known.T.astype(np.float64)

    def statistic(weights: Values) -> Values:
        with np.errstate(invalid="ignore"):
            return np.asarray((totals @ weights) / (counts @ weights))[None]

    return statistic


def _brier(labels: Values, scores: Values) -> Statistic:
    return _mean_error((labels - scores) ** 2, 1 - np.isnan(labels))


def _mae(labels: Values, scores: Values) -> Statistic:
    return _mean_error(abs(labels - scores), 1 - np.isnan(labels))


def _pooled_mae(labels: Values, scores: Values) -> Statistic:
    known = np.sum(1 - np.isnan(labels), axis=1, keepdims=True)
    return _mean_error(np.nansum(abs(labels - scores), axis=1, keepdims=True), known)


def bin_scores(scores: Values) -> NDArray[np.intp]:
    """Returns the number of the bin of each probability: one of 15 bins of equal width, closed above."""
    return np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], scores)


def _ece(labels: Values, scores: Values) -> Statistic:
    residuals, known = np.nan_to_num(labels - scores), (1.0 - np.isnan(labels)).T
    bins = bin_scores(scores)

    def gap(weights: Values, column: int) -> Values:
        in_bin = bins[:, column] == np.unique(bins[:, column])[:, None]
        return np.asarray(abs((in_bin * residuals[:, column]) @ weights).sum(axis=0))

    def statistic(weights: Values) -> Values:
        with np.errstate(invalid="ignore"):
            gaps = np.stack([gap(weights, column) for column in range(len(known))])
            return np.asarray(gaps / (known @ weights))[None]

    return statistic


_FAMILIES: dict[tuple[str, ...], Callable[[Values, Values], Statistic]] = {
    ("auroc", "average_precision"): _ranks,
    ("brier",): _brier,
    ("ece",): _ece,
    ("mae",): _mae,
    ("pooled_mae",): _pooled_mae,
}
LABEL_SCORES = tuple(name for family in _FAMILIES for name in family)
_ABSOLUTE_ERRORS = {"mae", "pooled_mae"}
_OF_PROBABILITIES = {"brier", "ece"}


def label_statistics(labels: Values, scores: Values, names: Sequence[str]) -> Callable[[Values], dict[str, Values]]:
    """Builds a function that computes scores of each label under any weights of the records.

    Args:
        labels: Labels, NaN if unknown, shape (num_records, C).
        scores: Predictions, shape (num_records, C).
        names: Names of the scores, from `LABEL_SCORES`.

    Returns:
        A function from weights (num_records, R) to values (C, R) by name, (1, R) for "pooled_mae"; an undefined value
        is NaN.

    Source:
        Hanley and McNeil 1982 (AUROC as Mann-Whitney statistic, a tie counts one half); Brier 1950; Guo et al. 2017,
        eq. 3 (ECE), who bin the confidence of the chosen class where we bin the probability of each label.
    """
    prepared = [(family, build(labels, scores)) for family, build in _FAMILIES.items() if set(family) & set(names)]

    def statistics(weights: Values) -> dict[str, Values]:
        values = dict(chain.from_iterable(zip(family, compute(weights), strict=True) for family, compute in prepared))
        return {name: values[name] for name in names}

    return statistics


def label_scores(labels: ArrayLike, scores: ArrayLike, name: str = "auroc") -> Values:
    """Computes one score per label, NaN for a label whose score is undefined on the data.

    AUROC and average precision need both classes. Average precision is the step sum over distinct scores, without
    interpolation. The calibration error (ECE) uses 15 bins of equal width, closed above, for each label.

    Args:
        labels: Labels 0 or 1 (any number for the absolute errors), NaN if unknown, shape (num_records, C).
        scores: Predicted probabilities (predicted values for the absolute errors), shape (num_records, C).
        name: Name of the score: "auroc", "average_precision", "brier", "ece", "mae", or "pooled_mae", which is one
            error over all labels.

    Returns:
        The scores, shape (C,), or (1,) for "pooled_mae".

    Raises:
        ValueError: If the arrays do not fit each other or the score.
        KeyError: If `name` is not one of these names.

    Source:
        See `label_statistics`.

    Example:
        >>> label_scores([[1, 0], [0, 0], [1, 0]], [[0.9, 0.1], [0.2, 0.3], [0.1, 0.2]])
        array([0.5, nan])
    """
    if name not in LABEL_SCORES:
        raise KeyError(f"{name!r} is not a score of a label; choose one of {LABEL_SCORES}")
    labels, scores = check_arrays(labels, scores, (name,))
    return label_statistics(labels, scores, (name,))(np.ones((len(labels), 1)))[name][:, 0]


def check_arrays(labels: ArrayLike, scores: ArrayLike, names: Sequence[str]) -> tuple[Values, Values]:
    """Checks labels and predictions against the named scores, see `label_scores`, and returns both as float64.

    Raises:
        ValueError: If their shapes differ, a prediction is not finite or not a probability where a score needs one, or
            a label is not 0, 1 or NaN (finite or NaN for the absolute errors).
    """
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != scores.shape or not labels.size:
        raise ValueError(
            f"expected labels and scores of one shape (num_records, C), got {labels.shape} and {scores.shape}; "
            "add an axis for a single label"
        )
    num_odd = np.sum(~np.isfinite(scores))
    if num_odd:
        raise ValueError(f"expected finite scores, got {num_odd} that are not; look for the overflow in the model")
    known = labels[~np.isnan(labels)]
    odd = known[~np.isin(known, (0, 1))] if set(names) - _ABSOLUTE_ERRORS else known[np.isinf(known)]
    if len(odd):
        kind = "finite labels" if set(names) <= _ABSOLUTE_ERRORS else "labels 0 or 1"
        raise ValueError(f"expected {kind}, NaN if unknown, got {odd[0]}; map the corpus' values first")
    if set(names) & _OF_PROBABILITIES and not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(
            f"expected probabilities from 0 to 1, got {scores.min():.3g} to {scores.max():.3g}; "
            "pass the logits through a sigmoid"
        )
    return labels, scores
