"""Pairs of runs of two cells with similar N and D, for loss-to-loss laws between the cells."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecg_hf.scaling.comparison.multipliers import check_comparable
from ecg_hf.scaling.fitting.fit import fit
from ecg_hf.scaling.fitting.intervals import Boot, bootstrap
from ecg_hf.scaling.fitting.points import Points
from ecg_hf.scaling.fitting.result import Fit

# Sizes of the same name differ by up to 12 % between families; neighbouring sizes of a grid by a factor of three.
TOLERANCE = 0.25


def pair_up(a: Boot, b: Boot) -> tuple[Boot, Boot]:
    """Refits the laws of two cells to the runs that have a partner in the other cell, and resamples partners together.

    Two runs are partners if each is the nearest run of the other cell, and no input differs by more than 25 %.

    Args:
        a: Bootstrap of the law of the first cell.
        b: Bootstrap of the law of the second cell, on the same evaluation.

    Returns:
        Both bootstraps, with their runs in the same order and the same resamples, for `relate` and `collapse_test`.

    Raises:
        ValueError: If the losses are not the same, or too few runs have a partner for the form.
    """
    check_comparable(a.fit, b.fit)
    rows = _partners(a.fit.points, b.fit.points)
    if not len(rows[0]):
        raise ValueError(f"no run of {a.fit.points.cell} has N and D like one of {b.fit.points.cell}; train both alike")
    clusters = a.fit.points.take(rows[0]).clusters
    first, second = (
        _refit(each.fit, mine, clusters, len(each.theta) + each.num_failed, a.seed)
        for each, mine in zip((a, b), rows, strict=True)
    )
    return first, second


def _partners(a: Points, b: Points) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the positions of partners in both: each other's nearest in the logarithms of the inputs, and near enough.

    Args:
        a: Points of the first cell.
        b: Points of the second cell.
    """
    apart = np.abs(np.log(a.inputs)[:, :, None] - np.log(b.inputs)[:, None, :])
    total = np.where((apart <= np.log1p(TOLERANCE)).all(axis=0), apart.sum(axis=0), np.inf)
    nearest, back = total.argmin(axis=1), total.argmin(axis=0)
    here = np.arange(len(a))
    mutual = (back[nearest] == here) & np.isfinite(total[here, nearest])
    return here[mutual], nearest[mutual]


def _refit(whole: Fit, rows: NDArray[np.intp], clusters: NDArray[np.intp], num: int, seed: int) -> Boot:
    points = replace(whole.points.take(rows), clusters=clusters)
    given = {name: whole.params[name] for name in whole.fixed}
    weights = whole.weights[rows]
    found = fit(points, whole.form, x=points.letters, delta=whole.delta, weights=weights, fix=given)
    return bootstrap(found, num, seed=seed)
