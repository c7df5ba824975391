"""The compute frontier: the model size and the number of records of least loss for each budget."""

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
_NEARLY_ALL = 0.98  # D counts as capped from here on, because the search has steps of about one percent in N


@dataclass(frozen=True, eq=False)
class Frontier:
    """The best model size and number of records for each budget.

    Args:
        budgets: Budgets of training, in FLOP, shape (m,).
        size: Best number of parameters, N, shape (m,).
        data: Best number of different records, D, shape (m,).
        loss: Predicted losses, shape (m,).
        size_low: Lower ends of the intervals of N, shape (m,); NaN without replicates.
        size_high: Upper ends of the intervals of N, shape (m,); NaN without replicates.
        extrapolated: Whether N or D lies outside the data, shape (m,).
        capped: Whether the number of existing records limits D, shape (m,).
        epochs: Passes over the D records, shape (m,).
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
        source: Fit of a law of N and D, or its bootstrap for intervals.
        cost: Cost of training. A number is c in C = c N D per epoch: 6 for text, which is wrong for an ECG of many
            tokens. A `FlopsModel` is the measured cost F(N) of a forward pass: C = 3 F(N) epochs D.
        budgets: Budgets of training, in FLOP.
        epochs: Passes over the records.
        examples: Number of records seen in training, repetitions included, if it is the same for every D; replaces
            `epochs`. More records then cost nothing: all are used, and the budget determines the size.
        max_data: Number of existing records; a budget that could pay for more buys a larger model instead.
        extrapolate: Whether N or D may lie more than ten times beyond the data.

    Returns:
        The frontier.

    Raises:
        ValueError: If the law is not a law of N and D, a budget leads too far beyond the data, or more records cost
            nothing and `max_data` is infinite.

    Source:
        Hoffmann et al. 2022 (arXiv:2203.15556), eq. 4, for C = c N D without a limit on D; otherwise a search.
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
    """Computes the sizes, shape (m,), whose training on one record costs the budget per record."""
    if np.isinf(max_data):
        raise ValueError("records cost nothing if every run sees the same number; say in max_data how many exist")
    if not isinstance(cost, FlopsModel):
        return np.asarray(per_example / cost)
    if (np.diff(cost.flops) <= 0).any():
        raise ValueError(f"the cost of a forward pass must rise with N, got {cost.flops.tolist()}; check flops_fwd")
    return FlopsModel(cost.flops, cost.sizes)(per_example / PASSES)


def _per_record(cost: float | FlopsModel, sizes: Values) -> Values:
    return cost.training(sizes, 1.0) if isinstance(cost, FlopsModel) else cost * sizes


def _closed_form(source: Source, theta: Values, product: Values) -> Values:
    """Computes N = G (C/c)^(beta/(alpha+beta)), G = (alpha A/(beta B))^(1/(alpha+beta)), shape (R, m)."""
    fit = source.fit if isinstance(source, Boot) else source
    params = fit.law.decode(theta, fit.frame)
    alpha, beta = (params.get(name, params["alpha"])[:, None] for name in ("alpha", "beta"))
    log_g = np.log(alpha * params["A"][:, None] / (beta * params["B"][:, None])) / (alpha + beta)
    return np.asarray(np.exp(log_g + beta / (alpha + beta) * np.log(product)))


def _search(
    source: Source, theta: Values, cost: float | FlopsModel, budgets: Values, epochs: float, max_data: float
) -> Values:
    """Finds N on a grid that reaches a thousand times beyond the data on either side, shape (R, m)."""
    fit = source.fit if isinstance(source, Boot) else source
    sizes = np.geomspace(fit.points.inputs[0].min() / 1e3, fit.points.inputs[0].max() * 1e3, _NUM_GRID)
    rows = []
    for budget in budgets:
        data = np.minimum(budget / (_per_record(cost, sizes) * epochs), max_data)
        x = np.log(np.stack([sizes, data])) - fit.frame.centre[:, None]
        losses = [fit.law.evaluate(part, x)[0] for part in np.array_split(theta, 1 + len(theta) // 100)]
        rows.append(sizes[np.concatenate(losses).argmin(axis=1)])
    return np.stack(rows, axis=1)
