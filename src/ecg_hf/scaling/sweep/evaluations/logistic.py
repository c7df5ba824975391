"""Logistic regression with an L2 penalty that cross-validation chooses, of several labels at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fmin_l_bfgs_b
from scipy.special import expit

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.bootstrap import Values
from ecg_hf.scaling.sweep.evaluations.scores import log_losses

PENALTIES = 10.0 ** np.arange(1.0, -4.1, -0.5)  # of the mean loss; the strongest first
NUM_FOLDS = 5
FEWEST = 5  # records of either class that a label needs
GRADIENT = 1e-6  # at which a fit is at its minimum


class LogisticFit(NamedTuple):
    """A fit.

    Args:
        weights: Shape (D, C).
        bias: Shape (C,).
        penalties: That cross-validation chose, shape (C,).
    """

    weights: Values
    bias: Values
    penalties: Values

    def logits(self, features: Values) -> Values:
        """Gives the logits (R, C) of features (R, D)."""
        return features @ self.weights + self.bias


def fit_logistic(features: Values, targets: NDArray[np.float32], patients: NDArray[np.int64], seed: int) -> LogisticFit:
    """Fits labels to features, each label with the penalty that predicts it best in patients that were left out.

    Args:
        features: Shape (R, D), on a common scale.
        targets: 0 or 1, NaN if unknown, shape (R, C).
        patients: Number of each record's patient, shape (R,).
        seed: Of the folds.

    Raises:
        EcgIntegrityError: If a label has fewer than 5 records of either class.
    """
    require_both_classes(targets)
    best = np.argmin(_held_out_losses(features, targets, patients, seed), axis=0)
    path = fit_path(features, targets)
    columns = np.arange(targets.shape[1])
    chosen = path[best, :, columns].T
    return LogisticFit(chosen[:-1], chosen[-1], PENALTIES[best])


def require_both_classes(targets: NDArray[np.float32], names: Sequence[str] = ()) -> None:
    """Checks that there is enough of both classes of each label to fit it.

    Args:
        targets: 0 or 1, NaN if unknown, shape (R, C).
        names: Of the labels, if known.

    Raises:
        EcgIntegrityError: If a label has fewer than 5 records of either class.
    """
    rarer = np.minimum((targets == 1).sum(axis=0), (targets == 0).sum(axis=0))
    if (rarer < FEWEST).any():
        rarest = int(np.argmin(rarer))
        raise EcgIntegrityError(
            f"label {names[rarest] if names else rarest} of a probe has {rarer.min()} records of one class among "
            f"{len(targets)}, expected at least {FEWEST}; fit it on more records, or leave the label out"
        )


def _held_out_losses(features: Values, targets: NDArray[np.float32], patients: NDArray[np.int64], seed: int) -> Values:
    """Loss of each label, (num_penalties, C), over the folds that leave it both classes to learn from."""
    _, codes = np.unique(patients, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % NUM_FOLDS
    sums, counts = np.zeros((len(PENALTIES), targets.shape[1])), np.zeros(targets.shape[1])
    for number in range(NUM_FOLDS):
        learned, held = targets[fold != number], targets[fold == number]
        usable = (learned == 1).any(axis=0) & (learned == 0).any(axis=0)
        if not (usable.any() and len(held)):
            continue
        path = fit_path(features[fold != number], learned[:, usable])
        logits = np.einsum("rd,pdc->prc", features[fold == number], path[:, :-1]) + path[:, -1:]
        sums[:, usable] += np.nansum(log_losses(held[:, usable], logits), axis=1)
        counts[usable] += (~np.isnan(held[:, usable])).sum(axis=0)
    return sums / np.maximum(counts, 1)


def fit_path(features: Values, targets: NDArray[np.float32]) -> Values:
    """Fits under each of `PENALTIES`, from the strongest on, with a bias that is not penalised.

    Returns:
        Weights and, last, bias of each label: shape (num_penalties, D + 1, C).
    """
    known = ~np.isnan(targets)
    share = known / known.sum(axis=0)
    wanted = np.nan_to_num(targets)
    shape = features.shape[1] + 1, targets.shape[1]
    start = np.zeros(shape)
    start[-1] = np.log((share * wanted).sum(axis=0) / (share * (1 - wanted)).sum(axis=0))

    def _loss(flat: Values, penalty: float) -> tuple[float, Values]:
        beta = flat.reshape(shape)
        logits = features @ beta[:-1] + beta[-1]
        residuals = share * (expit(logits) - wanted)
        gradient = np.vstack([features.T @ residuals + penalty * beta[:-1], residuals.sum(axis=0)])
        value = (share * (np.logaddexp(0.0, logits) - wanted * logits)).sum() + penalty / 2 * np.square(beta[:-1]).sum()
        return float(value), gradient.ravel()

    path, flat = [], start.ravel()
    for penalty in PENALTIES:
        flat = fmin_l_bfgs_b(_loss, flat, args=(float(penalty),), pgtol=GRADIENT, factr=10.0, maxiter=2000)[0]
        path.append(flat.reshape(shape))
    return np.stack(path)
