"""Which size and how many records a budget of compute should buy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_hf.scaling.comparison.flops import FlopsModel
from ecg_hf.scaling.comparison.multipliers import Source
from ecg_hf.scaling.fitting.intervals import CONFIDENCE, Boot
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values
from ecg_hf.scaling.laws.power_laws import PowerLaws
from ecg_hf.scaling.table.row import PASSES

REACH = 10.0
_NUM_GRID = 2001
_ROUNDING = 1e-9
_NEARLY_ALL = 0.98  # the search has steps of a percent in N


@dataclass(frozen=True, eq=False)
class Frontier:
    """The best size and number of records at each budget.

    Args:
        budgets: In FLOP of training, shape (m,).
        size: N, shape (m,).
        data: D, shape (m,).
        loss: Predicted, shape (m,).
        size_low: Lower ends of intervals of N, shape (m,); NaN without replicates.
        size_high: Upper ends.
        extrapolated: Whether N or D lies outside the data, shape (m,).
        capped: Whether the records there are limit D, shape (m,).
        epochs: How often each of the D records is seen, shape (m,).
    """

    budgets: Values
    size: Values
    data: Values
    loss: Values
    size_low: Values
    size_high: Values
    extrapolated: NDArray[np.bool_]
    capped: NDArray[np.bool_]
    epochs: Values


def frontier(
    source: Source,
    cost: float | FlopsModel,
    budgets: Sequence[float],
    *,
    epochs: float = 1.0,
    examples: float | None = None,
    max_data: float = np.inf,
    extrapolate: bool = False,
) -> Frontier:
    """Finds the N and D of least predicted loss that each budget pays for.

    Args:
        source: A fit of a law of N and D, or a bootstrap for intervals.
        cost: c of C = c N D per epoch (6 for text, wrong for an ECG of many positions), or the measured cost of a
            forward pass, three of which make a step: C = 3 F(N) epochs D.
        budgets: In FLOP.
        epochs: How often each record is seen.
        examples: Records seen with repetitions, where that is the same for every run whatever its D, in place of
            `epochs`. Records then cost nothing, so all are used and a budget buys the size that it pays for.
        max_data: Records there are; what a budget could pay beyond them buys a larger model.
        extrapolate: Whether to go further than ten times beyond the data.

    Raises:
        ValueError: If the law is not one of N and D, a budget leads too far beyond the data, or records cost nothing
            and have no limit.

    Source:
        Hoffmann et al. 2022 (arXiv:2203.15556), eq. 4, for C = c N D without a limit of records; else by search.
    """
    fit = source.fit if isinstance(source, Boot) else source
    if fit.points.letters != ("N", "D"):
        raise ValueError(f"a frontier needs a law of N and D, got {fit.form} of {', '.join(fit.points.letters)}")
    spent = np.asarray(budgets, dtype=np.float64)
    theta = np.vstack([fit.theta[None], source.theta]) if isinstance(source, Boot) else fit.theta[None]
    if examples is not None:
        sizes = _affordable(cost, spent / examples, max_data)[None]
        data = np.full(len(spent), max_data)
    else:
        if isinstance(fit.law, PowerLaws) and not isinstance(cost, FlopsModel) and np.isinf(max_data):
            sizes = _closed_form(source, theta, spent / (cost * epochs))
        else:
            sizes = _search(source, theta, cost, spent, epochs, max_data)
        data = np.minimum(spent / (_per_record(cost, sizes[0]) * epochs), max_data)
    _check_reach(fit, spent, sizes[0], data, extrapolate)
    best = np.stack([sizes[0], data])
    least, most = fit.points.inputs.min(axis=1, keepdims=True), fit.points.inputs.max(axis=1, keepdims=True)
    outside = ((best < least * (1 - _ROUNDING)) | (best > most * (1 + _ROUNDING))).any(axis=0)
    loss = fit.predict({"N": sizes[0], "D": data})
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(sizes[1:], ends, axis=0) if len(sizes) > 1 else np.full((2, len(spent)), np.nan)
    seen = np.full(len(spent), epochs) if examples is None else examples / data
    return Frontier(spent, sizes[0], data, loss, low, high, outside, data >= _NEARLY_ALL * max_data, seen)


def _check_reach(fit: Fit, spent: Values, sizes: Values, data: Values, extrapolate: bool) -> None:
    best = np.stack([sizes, data])
    least, most = fit.points.inputs.min(axis=1), fit.points.inputs.max(axis=1)
    far = (best < least[:, None] / REACH).any(axis=0) | (best > most[:, None] * REACH).any(axis=0)
    if far.any() and not extrapolate:
        first = int(np.argmax(far))
        raise ValueError(
            f"a budget of {spent[first]:.3g} FLOP leads to N = {best[0, first]:.3g}, D = {best[1, first]:.3g}, more "
            f"than {REACH:g} times beyond the data; spend less, or pass extrapolate=True and print the held-out error"
        )


def _affordable(cost: float | FlopsModel, per_example: Values, max_data: float) -> Values:
    """Gives the size whose step on one record costs as much as is left for it."""
    if np.isinf(max_data):
        raise ValueError("records cost nothing where every run sees as many examples; say in max_data how many exist")
    if not isinstance(cost, FlopsModel):
        return np.asarray(per_example / cost)
    if (np.diff(cost.flops) <= 0).any():
        raise ValueError(f"the cost of a forward pass must rise with N, got {cost.flops.tolist()}; check flops_fwd")
    return FlopsModel(cost.flops, cost.sizes)(per_example / PASSES)


def _per_record(cost: float | FlopsModel, sizes: Values) -> Values:
    return cost.training(sizes, 1.0) if isinstance(cost, FlopsModel) else cost * sizes


def _closed_form(source: Source, theta: Values, product: Values) -> Values:
    """N = G (C/c)^(beta/(alpha+beta)), G = (alpha A/(beta B))^(1/(alpha+beta)); shape (R, m)."""
    fit = source.fit if isinstance(source, Boot) else source
    params = fit.law.decode(theta, fit.frame)
    alpha, beta = (params.get(name, params["alpha"])[:, None] for name in ("alpha", "beta"))
    log_g = np.log(alpha * params["A"][:, None] / (beta * params["B"][:, None])) / (alpha + beta)
    return np.asarray(np.exp(log_g + beta / (alpha + beta) * np.log(product)))


def _search(
    source: Source, theta: Values, cost: float | FlopsModel, budgets: Values, epochs: float, max_data: float
) -> Values:
    """Tries sizes a thousandfold beyond the data; shape (R, m)."""
    fit = source.fit if isinstance(source, Boot) else source
    sizes = np.geomspace(fit.points.inputs[0].min() / 1e3, fit.points.inputs[0].max() * 1e3, _NUM_GRID)
    rows = []
    for budget in budgets:
        data = np.minimum(budget / (_per_record(cost, sizes) * epochs), max_data)
        x = np.log(np.stack([sizes, data])) - fit.frame.centre[:, None]
        losses = [fit.law.evaluate(part, x)[0] for part in np.array_split(theta, 1 + len(theta) // 100)]
        rows.append(sizes[np.concatenate(losses).argmin(axis=1)])
    return np.stack(rows, axis=1)
