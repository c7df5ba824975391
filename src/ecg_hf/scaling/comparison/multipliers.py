"""How many times more one cell needs than another for the same loss: a curve, never a bare "efficiency"."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecg_hf.scaling.comparison.flops import FlopsModel
from ecg_hf.scaling.fitting.intervals import CONFIDENCE, Boot, Estimate, summarise
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values

Source = Fit | Boot

_NUM_LEVELS = 25
_REACH = np.log(1e6)  # how far beyond the data an input is sought, as a logarithm
_NUM_BISECTIONS = 55


@dataclass(frozen=True, eq=False)
class IsoLoss:
    """Inputs at which two laws give the same loss, over the losses that both cells reached.

    Args:
        kind: Name of the quantity.
        axis: Letter of the input.
        at: The other inputs, by letter.
        names: Of the two cells.
        levels: Losses, falling, shape (m,).
        inputs: Of the two cells at each level, shape (2, m).
        ratio: The second over the first, shape (m,).
        low: Lower ends of pointwise intervals, shape (m,); NaN without replicates.
        high: Upper ends.
        median: Of the ratio over the levels; the maximum over a curve is biased outwards and not given.
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

    A value of 2 on the axis N says that b needs twice the parameters of a. The curve is flat only if both laws have
    the same constant and the same exponent; its levels span the losses that both laws reach within their data.

    Args:
        a: A fit, or a bootstrap for intervals.
        b: As `a`, of the same evaluation.
        axis: Letter of the input.
        at: The other inputs by letter; None takes the largest that both cells have.
        levels: Losses; None takes 25 over the overlap.
        flops: Cost models of the two cells, for the axis N: the ratio becomes that of compute.

    Raises:
        ValueError: If the fits are of different losses or definitions of N and D, have no such input, or share no
            loss.
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
    """Divides an exponent of a by that of b. It is not a multiplier: equal exponents give 1 whatever is needed.

    Args:
        a: A fit, or a bootstrap for an interval.
        b: As `a`.
        name: Letter of the exponent.

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
    """Divides the cost of a step of b by that of a at the sizes that give the same loss; arguments as in `iso_loss`.

    Parity of parameters is not parity of compute: at one N a convolutional net can cost twice a Transformer.
    """
    return iso_loss(a, b, "N", at, flops=(flops_a, flops_b))


def check_comparable(a: Fit, b: Fit) -> None:
    """Refuses fits whose losses or inputs are not the same thing.

    Raises:
        ValueError: If they are not.
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
    """Gives the number of an input.

    Raises:
        ValueError: If the law does not have it.
    """
    if axis not in fit.points.letters:
        raise ValueError(f"{fit.form} was fitted to {', '.join(fit.points.letters)}, not to {axis!r}")
    return fit.points.letters.index(axis)


def shared_inputs(a: Fit, b: Fit, axis: str, at: Mapping[str, float] | None) -> dict[str, float]:
    """Gives the inputs other than the axis, the largest that both cells have where they are not said."""
    given = dict(at or {})
    found = {}
    for place, letter in enumerate(a.points.letters):
        if letter != axis:
            largest = min(a.points.inputs[place].max(), b.points.inputs[place].max())
            found[letter] = float(given.pop(letter, largest))
    if given:
        raise ValueError(f"`at` names {', '.join(given)}, which is the axis or no input; inputs are {a.points.letters}")
    return found


def solve_input(source: Source, place: int, log_loss: Values, others: Mapping[str, float]) -> Values:
    """Gives the logarithm of the input at which each law has each loss, by bisection: a loss falls in every input.

    Args:
        source: A fit, or a bootstrap.
        place: Number of the input.
        log_loss: Shape (m,).
        others: The other inputs by letter.

    Returns:
        Shape (1 + B, m), the fit first; infinite where no input up to a million times the data gives so low a loss,
        minus infinite where every input gives a lower one.
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
