"""Logistic regression of several labels at once, solved to its optimum under an L2 penalty."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fmin_l_bfgs_b
from scipy.special import expit

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.evaluation.bootstrap import Values

PENALTIES = 10.0 ** np.arange(1.0, -4.1, -0.5)  # L2 penalties of the mean loss, the strongest first
NUM_FOLDS = 5
FEWEST = 5  # records of either class that a label needs
GRADIENT = 1e-6  # largest entry of the preconditioned gradient at the end of a fit


class LogisticFit(NamedTuple):
    """Weights of a logistic regression.

    Args:
        weights: Weights, shape (D, C).
        bias: Biases, shape (C,).
        penalties: Penalties that cross-validation chose, shape (C,).
    """

    weights: Values
    bias: Values
    penalties: Values

    def logits(self, features: Values) -> Values:
        """Computes the logits (R, C) of features (R, D)."""
        return features @ self.weights + self.bias


def fit_logistic(features: Values, targets: NDArray[np.float32], patients: NDArray[np.int64], seed: int) -> LogisticFit:
    """Fits labels to features, each label with the penalty that predicts it best in held-out patients.

    Args:
        features: Features on a common scale, shape (R, D).
        targets: 0 or 1, NaN if unknown, shape (R, C).
        patients: Number of each record's patient, shape (R,).
        seed: Seed of the folds.

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
    """Checks that each label has enough records of both classes to be fitted.

    Args:
        targets: 0 or 1, NaN if unknown, shape (R, C).
        names: Names of the labels, if known.

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


def log_losses(targets: NDArray[np.float32], logits: Values) -> Values:
    """Computes binary cross-entropies in nats, NaN where the target is unknown; shapes as numpy broadcasts them."""
    losses: Values = np.logaddexp(0.0, logits) - targets * logits
    return losses


def _held_out_losses(features: Values, targets: NDArray[np.float32], patients: NDArray[np.int64], seed: int) -> Values:
    """Computes each label's loss, (num_penalties, C), over the folds that leave it both classes to learn from."""
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


def fit_path(
    features: Values, targets: NDArray[np.float32], weights: Values | None = None, penalties: Values = PENALTIES
) -> Values:
    """Fits under each of several penalties, from the strongest on, with a bias that is not penalised.

    Args:
        features: Features on a common scale, shape (R, D).
        targets: 0 or 1, NaN if unknown, shape (R, C); each label with both classes.
        weights: Weight of each row in the mean loss, shape (R,); equal ones if None.
        penalties: L2 penalties of the mean loss, the strongest first.

    Returns:
        Weights and, last, bias of each label: shape (num_penalties, D + 1, C).
    """
    known = ~np.isnan(targets) * (1.0 if weights is None else weights[:, None])
    fraction = known / known.sum(axis=0)
    wanted = np.nan_to_num(targets)
    prior = (fraction * wanted).sum(axis=0)
    # In the principal axes of the features the Hessian is close to diagonal; scaled by it, L-BFGS needs few steps.
    spread, axes = np.linalg.eigh(features.T @ (fraction.mean(axis=1)[:, None] * features))
    rotated, curvature = features @ axes, prior * (1 - prior)
    diagonal = np.vstack([np.outer(spread.clip(0), curvature), curvature])

    def _loss(flat: Values, scale: Values, penalty: float) -> tuple[float, Values]:
        beta = flat.reshape(scale.shape) * scale
        logits = rotated @ beta[:-1] + beta[-1]
        residuals = fraction * (expit(logits) - wanted)
        gradient = np.vstack([rotated.T @ residuals + penalty * beta[:-1], residuals.sum(axis=0)])
        value = (fraction * (np.logaddexp(0.0, logits) - wanted * logits)).sum()
        return float(value + penalty / 2 * np.square(beta[:-1]).sum()), (gradient * scale).ravel()

    beta = np.zeros_like(diagonal)
    beta[-1] = np.log(prior / (1 - prior))
    path = []
    for penalty in map(float, penalties):
        scale = 1 / np.sqrt(diagonal + np.append(np.full(len(axes), penalty), 0.0)[:, None])
        found = fmin_l_bfgs_b(
            _loss, (beta / scale).ravel(), args=(scale, penalty), pgtol=GRADIENT, factr=10.0, maxiter=2000
        )
        beta = found[0].reshape(scale.shape) * scale
        path.append(np.vstack([axes @ beta[:-1], beta[-1:]]))
    return np.stack(path)
