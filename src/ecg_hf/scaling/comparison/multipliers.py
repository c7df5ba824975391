"""Multipliers, the factors by which one cell needs more parameters, data or compute than another for the same loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecg_hf.scaling.comparison.flops import FlopsModel
from ecg_hf.scaling.fitting.intervals import CONFIDENCE, Boot, Estimate, summarise
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values

Source = Fit | Boot

_NUM_LEVELS = 25
_REACH = np.log(1e6)  # distance from the data up to which an input is searched, as a logarithm
_NUM_BISECTIONS = 55


@dataclass(frozen=True, eq=False)
class IsoLoss:
    """The ratio of the inputs at which two laws predict the same loss, as a curve over the loss.

    Args:
        kind: Name of the quantity.
        axis: Letter of the input.
        at: Values of the remaining inputs, by letter.
        names: Names of the two cells.
        levels: Losses, falling, shape (m,).
        inputs: Input that each cell needs at each level, or its cost if cost models were given, shape (2, m).
        ratio: Input of the second cell over that of the first, shape (m,).
        low: Lower ends of the pointwise intervals, shape (m,); NaN without replicates.
        high: Upper ends of the pointwise intervals, shape (m,); NaN without replicates.
        median: Median of the ratio over the levels. The maximum over a curve is biased upwards and not computed.
    """

    kind: str
    axis: str
    at: Mapping[str, float]
    names: tuple[str, str]
    levels: Values
    inputs: Values
    ratio: Values
    low: Values
    high: Values
    median: Estimate

    def __str__(self) -> str:
        return str(self.median)


def iso_loss(
    a: Source,
    b: Source,
    axis: str = "N",
    at: Mapping[str, float] | None = None,
    *,
    levels: Values | None = None,
    flops: tuple[FlopsModel, FlopsModel] | None = None,
) -> IsoLoss:
    """Divides the input that b needs by the input that a needs for the same loss, at each of several losses.

    A ratio of 2 on the axis N means that b needs twice as many parameters as a. The curve is flat only if both laws
    have the same constant and the same exponent.

    Args:
        a: Fit of the first cell, or its bootstrap for intervals.
        b: Fit of the second cell on the same evaluation, or its bootstrap.
        axis: Letter of the input.
        at: Values of the remaining inputs, by letter; None takes the largest that both cells have.
        levels: Losses to compare at; None takes 25 losses over the range that both laws reach within their data.
        flops: Cost models of the two cells, for the axis N; the ratio becomes one of compute.

    Returns:
        The curve of ratios and its median.

    Raises:
        ValueError: If the fits have different losses or definitions of N and D, have no such input, or reach no common
            loss.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import bootstrap, fit, iso_loss
        >>> n = np.geomspace(2e4, 2e7, 8)
        >>> noise = 1 + 0.01 * np.random.default_rng(1).normal(size=(2, 8))
        >>> resnet = fit({"N": n, "loss": 3 * n**-0.25 * noise[0]}, form="pow")
        >>> transformer = fit({"N": n, "loss": 3 * (n / 2) ** -0.25 * noise[1]}, form="pow")
        >>> median = iso_loss(bootstrap(resnet, 50), bootstrap(transformer, 50)).median
        >>> print(f"{median.value:.2f} ({median.low:.2f} to {median.high:.2f})")
        1.97 (1.90 to 2.02)
    """
    first, second = _fit(a), _fit(b)
    check_comparable(first, second)
    place = axis_of(first, axis)
    others = shared_inputs(first, second, axis, at)
    if levels is None:
        levels = _overlap(first, second, axis, others)
    found = []
    for each, source in enumerate((a, b)):
        needed = solve_input(source, place, np.log(levels), others)
        found.append(needed if flops is None else flops[each].log(needed))
    num = min(len(found[0]), len(found[1]))
    with np.errstate(invalid="ignore", over="ignore"):
        ratios = np.exp(found[1][:num] - found[0][:num])
    name = "compute multiplier" if flops is not None else f"iso-loss multiplier of {axis}"
    fixed = ", ".join(f"{letter} = {value:.4g}" for letter, value in others.items())
    names = (first.points.cell or "a", second.points.cell or "b")
    note = (
        f"{names[1]} over {names[0]}, median over losses {levels.min():.4g} to {levels.max():.4g}"
        f"{' at ' + fixed if fixed else ''}, forms {first.form} and {second.form}"
    )
    with np.errstate(all="ignore"):
        median = summarise(name, float(np.median(ratios[0])), np.median(ratios[1:], axis=1), note=note)
        ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        curves = np.nanquantile(ratios[1:], ends, axis=0, method="nearest") if num > 1 else None
    low, high = curves if curves is not None else np.full((2, len(levels)), np.nan)
    inputs = np.exp(np.stack([found[0][0], found[1][0]]))
    return IsoLoss(name, axis, others, names, levels, inputs, ratios[0], low, high, median)


def exponent_ratio(a: Source, b: Source, name: str = "alpha") -> Estimate:
    """Divides an exponent of a by the same exponent of b.

    The ratio is not a multiplier: it is 1 for equal exponents, however much more one cell needs.

    Args:
        a: Fit of the first cell, or its bootstrap for an interval.
        b: Fit of the second cell, or its bootstrap.
        name: Letter of the exponent.

    Returns:
        The ratio, with an interval if both are bootstraps.

    Raises:
        ValueError: If a law has no such exponent.
    """
    values = []
    for source in (a, b):
        fit = _fit(source)
        if name not in fit.law.exponents:
            raise ValueError(f"{fit.form} has no exponent {name!r}; it has {', '.join(fit.law.exponents)}")
        replicates = source.params[name] if isinstance(source, Boot) else np.zeros(0)
        values.append(np.append(fit.params[name], replicates))
    num = min(map(len, values))
    ratio = values[0][:num] / values[1][:num]
    names = [_fit(source).points.cell or other for source, other in ((a, "a"), (b, "b"))]
    note = f"{names[0]} over {names[1]}, forms {_fit(a).form} and {_fit(b).form}"
    return summarise(f"exponent ratio of {name}", float(ratio[0]), ratio[1:], note=note)


def compute_multiplier(
    a: Source, b: Source, flops_a: FlopsModel, flops_b: FlopsModel, at: Mapping[str, float] | None = None
) -> IsoLoss:
    """Divides the cost of a forward pass of b by that of a, at the sizes at which both have the same loss.

    Equal numbers of parameters do not cost the same: a convolutional net can cost twice as much as a Transformer of
    the same size.

    Args:
        a: Fit of the first cell, or its bootstrap for intervals.
        b: Fit of the second cell on the same evaluation, or its bootstrap.
        flops_a: Cost model of the first cell.
        flops_b: Cost model of the second cell.
        at: Values of the inputs other than N, by letter; None takes the largest that both cells have.

    Returns:
        The curve of ratios and its median.
    """
    return iso_loss(a, b, "N", at, flops=(flops_a, flops_b))


def check_comparable(a: Fit, b: Fit) -> None:
    """Checks that two fits have the same loss and the same definitions of their inputs.

    Raises:
        ValueError: If the losses or the columns of the inputs differ.
    """
    if a.points.loss_name != b.points.loss_name:
        raise ValueError(
            f"cannot compare {a.points.loss_name!r} with {b.points.loss_name!r}: losses of different evaluations or "
            "objectives have different units; compare on one evaluation"
        )
    if a.points.columns != b.points.columns:
        raise ValueError(
            f"cannot compare fits whose inputs are {', '.join(a.points.columns)} and {', '.join(b.points.columns)}; "
            "use one definition of N and of D"
        )


def axis_of(fit: Fit, axis: str) -> int:
    """Returns the position of an input among the inputs of a fit.

    Raises:
        ValueError: If the fit has no such input.
    """
    if axis not in fit.points.letters:
        raise ValueError(f"{fit.form} was fitted to {', '.join(fit.points.letters)}, not to {axis!r}")
    return fit.points.letters.index(axis)


def shared_inputs(a: Fit, b: Fit, axis: str, at: Mapping[str, float] | None) -> dict[str, float]:
    """Returns the inputs other than the axis, by letter: those in `at`, else the largest that both cells have.

    Raises:
        ValueError: If `at` contains the axis or a letter that is not an input.
    """
    given = dict(at or {})
    found = {}
    for place, letter in enumerate(a.points.letters):
        if letter != axis:
            largest = min(a.points.inputs[place].max(), b.points.inputs[place].max())
            found[letter] = float(given.pop(letter, largest))
    if given:
        raise ValueError(f"`at` names {', '.join(given)}, which is the axis or unknown; inputs are {a.points.letters}")
    return found


def solve_input(source: Source, place: int, log_loss: Values, others: Mapping[str, float]) -> Values:
    """Finds, by bisection, the input at which each law predicts each loss; the loss has to fall with the input.

    Args:
        source: Fit, or a bootstrap.
        place: Position of the input.
        log_loss: Logarithms of the losses, shape (m,).
        others: Values of the remaining inputs, by letter.

    Returns:
        Logarithms of the input, shape (1 + B, m), the fit first, then its replicates. Infinity if no input up to a
        million times the data reaches the loss, minus infinity if every input down to a millionth has a lower one.
    """
    fit = _fit(source)
    theta = np.vstack([fit.theta[None], source.theta]) if isinstance(source, Boot) else fit.theta[None]
    target = log_loss - np.log(fit.frame.scale)
    data = fit.x[place]
    low = np.full((len(theta), len(target)), data.min() - _REACH)
    high = np.full_like(low, data.max() + _REACH)

    def _excess(x: Values) -> Values:
        rows = [np.full_like(x, np.log(others.get(letter, 1.0)) - fit.frame.centre[number])
                for number, letter in enumerate(fit.points.letters)]  # fmt: skip
        rows[place] = x
        return np.asarray(fit.law.evaluate(theta, np.stack(rows))[0] - target)

    never, always = _excess(high) >= 0, _excess(low) <= 0
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        above = _excess(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    found = np.where(never, np.inf, np.where(always, -np.inf, (low + high) / 2))
    return np.asarray(found + fit.frame.centre[place])


def _overlap(a: Fit, b: Fit, axis: str, others: Mapping[str, float]) -> Values:
    lowest, highest = [], []
    for fit in (a, b):
        values = fit.points.inputs[axis_of(fit, axis)]
        ends = fit.predict({axis: np.array([values.max(), values.min()]), **others})
        lowest.append(ends[0])
        highest.append(ends[1])
    if max(lowest) >= min(highest):
        raise ValueError(
            f"no loss is reached by both cells: {lowest[0]:.4g} to {highest[0]:.4g} and {lowest[1]:.4g} to "
            f"{highest[1]:.4g}; train larger or smaller runs of one"
        )
    return np.geomspace(min(highest), max(lowest), _NUM_LEVELS)


def _fit(source: Source) -> Fit:
    return source.fit if isinstance(source, Boot) else source
