"""Transfer efficiency: five readings of the word, each under its own name."""

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
    "elasticity": "d ln L_ood / d ln L_id from the fifth of the runs with the lowest L_id to that with the highest, "
    "around its 10th and 90th percentile; needs no E",
    "iso_ood_data_multiplier": "pretraining records that the second cell needs for the same loss out of distribution, "
    "over those of the first",
    "effective_data_transferred": "records that training from scratch would need for the same loss, less those used",
}
_GROUP = 0.2  # share of the runs at each end, whose middle is the 10th or the 90th percentile


def kappa(law: LossToLoss) -> Estimate:
    """Gives the exponent of a loss-to-loss law."""
    return law.estimates["kappa"]


def kappa_ratio(a: LossToLoss, b: LossToLoss) -> Estimate:
    """Divides the exponent of one loss-to-loss law by that of another, the only parameter without a unit."""
    num = min(len(a.kappas), len(b.kappas))
    ratio = a.kappas[:num] / b.kappas[:num]
    note = f"{a.method} and {b.method}"
    return summarise("kappa ratio", a.params["kappa"] / b.params["kappa"], ratio, note=note)


def elasticity(
    x: ArrayLike, y: ArrayLike, num_replicates: int = 1000, seed: int = 0, clusters: ArrayLike | None = None
) -> Estimate:
    """Gives the slope of ln L_y on ln L_x between the runs at the tenth and those at the ninetieth percentile of L_x.

    Each end is the mean of a fifth of the runs in the order of L_x, so that the sign is that of the dependence.

    Args:
        x: Losses in distribution, shape (n,).
        y: Losses out of distribution of the same runs, shape (n,).
        num_replicates: Of the bootstrap over runs.
        seed: Of the bootstrap.
        clusters: Number of the configuration of each run, whose seeds are drawn together, shape (n,); None for runs
            that are configurations of their own.

    Raises:
        ValueError: If the losses do not come in pairs, or there are fewer than four.

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
    """Divides the rise in y between both end groups by that in x; pairs in the order of x, counts of shape (R, n)."""
    upto = np.cumsum(counts, axis=1)
    size = _GROUP * upto[:, -1:]
    first = np.clip(size - (upto - counts), 0, counts)
    last = np.clip(upto - (upto[:, -1:] - size), 0, counts)
    rise = (last - first) @ pairs.T
    with np.errstate(divide="ignore", invalid="ignore"):
        # one loss only in both groups has no slope
        return np.asarray(np.where(rise[:, 0] > 0, rise[:, 1] / rise[:, 0], np.nan))


def iso_ood_data_multiplier(a: Source, b: Source, at: Mapping[str, float] | None = None) -> IsoLoss:
    """Divides the pretraining records that b needs by those of a for the same loss out of distribution.

    Args:
        a: A fit of a loss out of distribution, or a bootstrap for intervals.
        b: As `a`, of the same evaluation.
        at: The other inputs by letter.

    Raises:
        ValueError: If the fits cannot be compared.
    """
    return iso_loss(a, b, "D", at)


def effective_data_transferred(
    scratch: Source, loss: float, used: float, at: Mapping[str, float] | None = None
) -> Estimate:
    """Gives the records that pretraining was worth: those that training from scratch needs, less those fine-tuned on.

    Args:
        scratch: Law of D of models trained from scratch, or its bootstrap for an interval.
        loss: Of the pretrained model, of the same evaluation.
        used: Records that it was fine-tuned on.
        at: The other inputs by letter, if the law has any.

    Raises:
        ValueError: If the law is not one of D.

    Source:
        Hernandez et al. 2021 (arXiv:2102.01293), section 2.
    """
    fit = scratch if isinstance(scratch, Fit) else scratch.fit
    if "D" not in fit.points.letters:
        raise ValueError(f"effective data needs a law of D from scratch, got one of {', '.join(fit.points.letters)}")
    given = dict(at or {})
    missing = [letter for letter in fit.points.letters if letter != "D" and letter not in given]
    if missing:
        raise ValueError(f"the law has {', '.join(missing)} too; say at which value in `at`")
    needed = np.exp(solve_input(scratch, fit.points.letters.index("D"), np.log(np.array([loss])), given)[:, 0])
    note = f"loss {loss:.4g}, {used:.4g} records used"
    return summarise("effective data transferred", float(needed[0] - used), needed[1:] - used, note=note)
