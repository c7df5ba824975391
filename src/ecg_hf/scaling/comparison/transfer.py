"""Transfer efficiency, in five definitions of the word, each with a name of its own."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ecg_hf.scaling.comparison.loss_to_loss import LossToLoss
from ecg_hf.scaling.comparison.multipliers import IsoLoss, Source, iso_loss, solve_input
from ecg_hf.scaling.fitting.intervals import Estimate, summarise
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values

DEFINITIONS = {
    "kappa": "exponent of the loss-to-loss law L_ood = E_ood + K (L_id - E_id)^kappa",
    "kappa_ratio": "kappa of the first cell over that of the second; free of the units of the losses in distribution",
    "elasticity": "d ln L_ood / d ln L_id from the fifth of the runs with the lowest L_id to the fifth with the "
    "highest, around the 10th and the 90th percentile; needs no E",
    "iso_ood_data_multiplier": "pretraining records that the second cell needs for the same loss out of distribution, "
    "over those of the first",
    "effective_data_transferred": "records that training from scratch would need for the same loss, less the records "
    "used for fine-tuning",
}
_GROUP = 0.2  # part of the runs at each end, whose middle is the 10th or the 90th percentile


def kappa(law: LossToLoss) -> Estimate:
    """Returns the exponent of a loss-to-loss law, with its interval."""
    return law.estimates["kappa"]


def kappa_ratio(a: LossToLoss, b: LossToLoss) -> Estimate:
    """Divides the exponent of one loss-to-loss law by that of another.

    The exponent is the only parameter of the law that has no unit, so only exponents can be compared between losses in
    distribution of different units.

    Args:
        a: Law of the first cell.
        b: Law of the second cell.

    Returns:
        The ratio with its interval.
    """
    num = min(len(a.kappas), len(b.kappas))
    ratio = a.kappas[:num] / b.kappas[:num]
    note = f"{a.method} and {b.method}"
    return summarise("kappa ratio", a.params["kappa"] / b.params["kappa"], ratio, note=note)


def elasticity(
    x: ArrayLike, y: ArrayLike, num_replicates: int = 1000, seed: int = 0, clusters: ArrayLike | None = None
) -> Estimate:
    """Computes the slope of ln L_y over ln L_x between the 10th and the 90th percentile of L_x.

    Each end of the slope is the mean over a fifth of the runs, those with the lowest and those with the highest L_x.
    The slope is negative if L_y falls while L_x rises.

    Args:
        x: Losses in distribution, L_x, shape (n,).
        y: Losses out of distribution of the same runs, L_y, shape (n,).
        num_replicates: Number of replicates of the bootstrap over runs.
        seed: Seed of the bootstrap.
        clusters: Number of the configuration of each run, shape (n,), whose runs are drawn together; None if each run
            is a configuration of its own.

    Returns:
        The slope with its interval.

    Raises:
        ValueError: If the losses do not come in pairs, or there are fewer than four pairs.

    Source:
        Bartlett 1949, Fitting a straight line when both variables are subject to error (two of three groups).
    """
    pairs = np.log(np.stack(np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))))
    if pairs.ndim != 2 or pairs.shape[1] < 4:
        raise ValueError(f"an elasticity needs at least 4 pairs of losses, got shape {pairs.shape[1:]}")
    num = pairs.shape[1]
    order = np.lexsort(pairs[::-1])
    group = np.unique(np.arange(num) if clusters is None else np.asarray(clusters), return_inverse=True)[1]
    sizes = int(group.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(sizes, np.full(sizes, 1 / sizes), size=num_replicates)
    slopes = _end_to_end(pairs[:, order], np.vstack([np.ones(num), drawn[:, group]])[:, order])
    return summarise("elasticity", float(slopes[0]), slopes[1:], note="10th to 90th percentile of L_id")


def _end_to_end(pairs: Values, counts: Values) -> Values:
    """Divides the rise of y between the two end groups by the rise of x.

    Args:
        pairs: Logarithms of x and y, in the order of x, shape (2, n).
        counts: Number of times each run was drawn, shape (R, n).

    Returns:
        Slopes, shape (R,); NaN where x does not rise.
    """
    upto = np.cumsum(counts, axis=1)
    size = _GROUP * upto[:, -1:]
    first = np.clip(size - (upto - counts), 0, counts)
    last = np.clip(upto - (upto[:, -1:] - size), 0, counts)
    rise = (last - first) @ pairs.T
    with np.errstate(divide="ignore", invalid="ignore"):
        # there is no slope if both groups have the same loss
        return np.asarray(np.where(rise[:, 0] > 0, rise[:, 1] / rise[:, 0], np.nan))


def iso_ood_data_multiplier(a: Source, b: Source, at: Mapping[str, float] | None = None) -> IsoLoss:
    """Divides the pretraining records that b needs by those that a needs for the same loss out of distribution.

    Args:
        a: Fit of a loss out of distribution for the first cell, or its bootstrap for intervals.
        b: Fit of the same loss for the second cell, or its bootstrap.
        at: Values of the remaining inputs, by letter; None takes the largest that both cells have.

    Returns:
        The curve of ratios and its median.

    Raises:
        ValueError: If the fits cannot be compared.
    """
    return iso_loss(a, b, "D", at)


def effective_data_transferred(
    scratch: Source, loss: float, used: float, at: Mapping[str, float] | None = None
) -> Estimate:
    """Computes the number of records that pretraining replaces.

    This is the number that training from scratch needs for the loss of the pretrained model, minus the number that the
    pretrained model was fine-tuned on.

    Args:
        scratch: Fit of a law of D for models trained from scratch, or its bootstrap for an interval.
        loss: Loss of the pretrained model on the same evaluation.
        used: Number of records that the pretrained model was fine-tuned on.
        at: Values of the remaining inputs of the law, by letter.

    Returns:
        The number of records, with its interval.

    Raises:
        ValueError: If the law does not have the input D, or `at` lacks another input.

    Source:
        Hernandez et al. 2021 (arXiv:2102.01293), section 2.
    """
    fit = scratch if isinstance(scratch, Fit) else scratch.fit
    if "D" not in fit.points.letters:
        raise ValueError(f"effective data needs a law of D from scratch, got one of {', '.join(fit.points.letters)}")
    given = dict(at or {})
    missing = [letter for letter in fit.points.letters if letter != "D" and letter not in given]
    if missing:
        raise ValueError(f"the law also has {', '.join(missing)}; give a value in `at`")
    needed = np.exp(solve_input(scratch, fit.points.letters.index("D"), np.log(np.array([loss])), given)[:, 0])
    note = f"loss {loss:.4g}, {used:.4g} records used"
    return summarise("effective data transferred", float(needed[0] - used), needed[1:] - used, note=note)
