"""Transfer efficiency: five readings of the word, each under its own name."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ecg_hf.scaling.intervals import Estimate, summarise
from ecg_hf.scaling.loss_to_loss import LossToLoss
from ecg_hf.scaling.multipliers import IsoLoss, Source, iso_loss, solve_input
from ecg_hf.scaling.result import Fit

DEFINITIONS = {
    "kappa": "exponent of the loss-to-loss law L_ood = E_ood + K (L_id - E_id)^kappa",
    "kappa_ratio": "kappa of the first cell over that of the second; free of the units of the losses in distribution",
    "elasticity": "d ln L_ood / d ln L_id between matched quantiles; needs no E",
    "iso_ood_data_multiplier": "pretraining records that the second cell needs for the same loss out of distribution, "
    "over those of the first",
    "effective_data_transferred": "records that training from scratch would need for the same loss, less those used",
}
_QUANTILES = (0.1, 0.9)


def kappa(law: LossToLoss) -> Estimate:
    """Gives the exponent of a loss-to-loss law."""
    return law.estimates["kappa"]


def kappa_ratio(a: LossToLoss, b: LossToLoss) -> Estimate:
    """Divides the exponent of one loss-to-loss law by that of another, the only parameter without a unit."""
    num = min(len(a.kappas), len(b.kappas))
    ratio = a.kappas[:num] / b.kappas[:num]
    note = f"{a.method} and {b.method}"
    return summarise("kappa ratio", a.params["kappa"] / b.params["kappa"], ratio, note=note)


def elasticity(x: ArrayLike, y: ArrayLike, num_replicates: int = 1000, seed: int = 0) -> Estimate:
    """Gives the slope of ln L_y on ln L_x between the tenth and the ninetieth percentile of each.

    Args:
        x: Losses in distribution, shape (n,).
        y: Losses out of distribution of the same runs, shape (n,).
        num_replicates: Of the bootstrap over runs.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the losses do not come in pairs, or there are fewer than four.
    """
    pairs = np.log(np.stack(np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))))
    if pairs.ndim != 2 or pairs.shape[1] < 4:
        raise ValueError(f"an elasticity needs at least 4 pairs of losses, got shape {pairs.shape[1:]}")
    num = pairs.shape[1]
    drawn = np.random.default_rng(seed).integers(num, size=(num_replicates, num))
    ends = np.quantile(np.concatenate([pairs[:, None], pairs[:, drawn]], axis=1), _QUANTILES, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = (ends[1, 1] - ends[0, 1]) / (ends[1, 0] - ends[0, 0])
    slopes = np.where(np.isfinite(slopes), slopes, np.nan)
    return summarise("elasticity", float(slopes[0]), slopes[1:], note="between the 10th and the 90th percentile")


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
