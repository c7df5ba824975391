"""A linear probe solved to its optimum: a convex problem on the cached features of all tiles."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from ecg_hf.evaluation.bootstrap import Values
from ecg_hf.evaluation.probes.logistic import fit_path, log_losses
from ecg_hf.evaluation.probes.tiles import FeatureTiles
from ecg_hf.evaluation.trainer import by_record
from ecg_hf.models.heads import LinearHead

PENALTIES = 10.0 ** np.arange(0.0, -7.1, -0.5)  # L2 penalties of the mean loss, the strongest first


def solve_head(head: LinearHead, train: FeatureTiles, validation: FeatureTiles, problem_type: str) -> dict[str, Any]:
    """Fits a linear head on the tiles of all training records and writes the solution into it.

    Every record has the same weight, however many tiles it has. Features are standardised by the training tiles; the
    scale is folded back into the head. One L2 penalty for all labels is chosen by the loss of the validation records,
    whose probabilities are averaged over their tiles, as they are when they are scored.

    Args:
        head: Head to be fitted.
        train: Tiles of the training records.
        validation: Tiles of the validation records.
        problem_type: "multi_label_classification" (logistic regression) or "regression" (ridge regression).

    Returns:
        The chosen penalty, the validation loss under each penalty, and the names of what was not fitted: outputs that
        have no second class, or no second value, among the training records keep a constant.
    """
    features, targets = _read(train)
    counts = np.bincount(train.record)
    weights = 1.0 / counts[train.record]
    mean = np.average(features, axis=0, weights=weights)
    deviation = np.sqrt(np.average(np.square(features - mean), axis=0, weights=weights))
    varies = deviation > 1e-9 * np.maximum(1.0, abs(mean))
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    fitted = _varying(targets)
    path = np.zeros((len(PENALTIES), features.shape[1] + 1, targets.shape[1]))
    path[:, -1] = _constants(targets, problem_type)
    solve = ridge_path if problem_type == "regression" else fit_path
    if fitted.any():
        path[:, :, fitted] = solve((features - mean) * scale, targets[:, fitted], weights, PENALTIES)
    path[:, :-1] *= scale[:, None]
    path[:, -1] -= np.einsum("d,pdc->pc", mean, path[:, :-1])
    held, known = _read(validation)
    losses = [_validation_loss(held, known, validation.record, beta, problem_type) for beta in path]
    best = int(np.argmin(losses))
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(path[best, :-1].T))
        head.linear.bias.copy_(torch.from_numpy(path[best, -1]))
    return {
        "penalty": float(PENALTIES[best]),
        "penalties": PENALTIES.tolist(),
        "validation_losses": [float(loss) for loss in losses],
        "not_fitted": np.flatnonzero(~fitted).tolist(),
    }


def predict_records(head: LinearHead, tiles: FeatureTiles, problem_type: str) -> Values:
    """Scores records by the mean over their tiles.

    Returns:
        Probabilities, or values for regression, shape (R, C).
    """
    features, _ = _read(tiles)
    weight, bias = (part.detach().double().numpy() for part in (head.linear.weight, head.linear.bias))
    return _by_record(features @ weight.T + bias, tiles.record, problem_type)


def ridge_path(features: Values, targets: NDArray[np.float32], weights: Values, penalties: Values) -> Values:
    """Fits ridge regressions under each of several penalties; arguments and result are those of `fit_path`."""
    path = np.zeros((len(penalties), features.shape[1] + 1, targets.shape[1]))
    for column in range(targets.shape[1]):
        known = ~np.isnan(targets[:, column])
        x, y = features[known], targets[known, column].astype(np.float64)
        fraction = weights[known] / weights[known].sum()
        x_mean, y_mean = fraction @ x, fraction @ y
        x, y = x - x_mean, y - y_mean
        values, vectors = np.linalg.eigh(x.T @ (fraction[:, None] * x))
        rotated = vectors.T @ (x.T @ (fraction * y))
        for place, penalty in enumerate(penalties):
            beta = vectors @ (rotated / (values + penalty))
            path[place, :-1, column], path[place, -1, column] = beta, y_mean - x_mean @ beta
    return path


def _read(tiles: FeatureTiles) -> tuple[Values, NDArray[np.float32]]:
    """Reads the features (num_tiles, D) and the targets (num_tiles, C) of all tiles."""
    return tiles.features.values[tiles.place].astype(np.float64), tiles.split.targets[tiles.record]


def _varying(targets: NDArray[np.float32]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        lowest, highest = (bound.reduce(targets, axis=0) for bound in (np.fmin, np.fmax))
        return np.asarray(highest > lowest)


def _constants(targets: NDArray[np.float32], problem_type: str) -> Values:
    """Returns the output of a label that is never fitted: its only value, as a probability just short of certain."""
    only = np.nan_to_num(np.fmax.reduce(targets, axis=0)).astype(np.float64)
    return only if problem_type == "regression" else np.where(only > 0, 10.0, -10.0)


def _by_record(outputs: Values, record: NDArray[np.int64], problem_type: str) -> Values:
    return by_record(outputs if problem_type == "regression" else expit(outputs), record)


def _validation_loss(
    features: Values, targets: NDArray[np.float32], record: NDArray[np.int64], beta: Values, problem_type: str
) -> float:
    """Computes the mean loss over labels of the mean loss over records."""
    scores = _by_record(features @ beta[:-1] + beta[-1], record, problem_type)
    first = np.unique(record, return_index=True)[1]
    known = targets[first]
    if problem_type == "regression":
        losses = np.square(scores - known)
    else:
        scores = np.clip(scores, 1e-12, 1 - 1e-12)
        losses = log_losses(known, np.log(scores) - np.log1p(-scores))
    measured = ~np.isnan(known).all(axis=0)
    return float(np.nanmean(losses[:, measured], axis=0).mean())
