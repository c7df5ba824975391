"""Comparison of forms of law, by information criteria and by the prediction of held-out runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecg_hf.scaling.fitting.descent import descend
from ecg_hf.scaling.fitting.fit import fit as fit_law
from ecg_hf.scaling.fitting.fit import pose
from ecg_hf.scaling.fitting.points import Points
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.base import Values


@dataclass(frozen=True)
class Choice:
    """How well a form explains the points it was fitted to and predicts points it was not fitted to.

    Args:
        form: Name of the form.
        num_parameters: Number of fitted parameters, plus one for the noise.
        aicc: Akaike's information criterion with the correction for few points; infinite if there are too few points.
        bic: Schwarz's information criterion.
        loo: Root mean square of the log residuals in leave-one-out cross-validation.
        delta_aicc: Difference of the AICc from the smallest one of the comparison.
        flags: Flags of the fit.
        held_out: Root mean square of the relative errors in predicting the largest runs from the remaining ones, by
            "largest N" and so on. An input is missing if too few runs remain without its largest value.
    """

    form: str
    num_parameters: int
    aicc: float
    bic: float
    loo: float
    delta_aicc: float
    flags: tuple[str, ...]
    held_out: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Holdout:
    """The predictions of held-out runs.

    Args:
        by: Criterion by which runs were held out, such as "largest N".
        fit: Fit to the remaining runs.
        inputs: Inputs of the held-out runs, shape (K, k).
        loss: Losses of the held-out runs, shape (k,).
        errors: Relative errors of the predictions, prediction over loss minus one, shape (k,).
    """

    by: str
    fit: Fit
    inputs: Values
    loss: Values
    errors: Values

    @property
    def largest_error(self) -> float:
        """Relative error of the largest magnitude, with its sign."""
        return float(self.errors[np.argmax(np.abs(self.errors))])

    def __str__(self) -> str:
        each = ", ".join(f"{100 * error:+.2f} %" for error in self.errors)
        return f"{self.fit.form}, held out {self.by}: {each}"


def compare(fits: Sequence[Fit]) -> list[Choice]:
    """Ranks fits of several forms to the same points by their AICc, the smallest first.

    Each form is refitted by least squares, and its likelihood assumes normal log residuals of one unknown spread. The
    delta of the fits does not matter, because robust objectives of different delta cannot be compared.

    Args:
        fits: Fits to compare.

    Returns:
        One entry per fit.

    Raises:
        ValueError: If the fits do not have the same points and weights.

    Source:
        Hurvich and Tsai 1989 (AICc); Schwarz 1978 (BIC).

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import compare, fit
        >>> n = np.geomspace(2e4, 2e7, 8)
        >>> points = {"N": n, "loss": (0.05 + 3 * n**-0.25) * (1 + 0.01 * (-1) ** np.arange(8))}
        >>> choices = compare([fit(points, form) for form in ("pow", "pow+E")])
        >>> [choice.form for choice in choices]
        ['pow+E', 'pow']
    """
    for other in fits[1:]:
        same = np.array_equal(other.points.loss, fits[0].points.loss)
        if not same or not np.allclose(other.weights, fits[0].weights):
            raise ValueError(f"{other.form} and {fits[0].form} were fitted to different points; fit both to the same")
    rows = []
    for each in fits:
        squares = _refit(each, each.points, np.inf)
        num, size = each.num_points, each.num_free + 1
        variance = max(float(np.average(squares.residuals**2, weights=each.weights)), 1e-300)
        likelihood = num * np.log(variance)
        correction = 2 * size * (size + 1) / (num - size - 1) if num > size + 1 else np.inf
        loo = float(np.sqrt(np.average(left_out_residuals(each) ** 2, weights=each.weights)))
        rows.append((each, size, likelihood + 2 * size + correction, likelihood + size * np.log(num), loo))
    least = min(row[2] for row in rows)
    found = [
        Choice(each.form, size, aicc, bic, loo, aicc - least, each.flags, _largest_held_out(each))
        for each, size, aicc, bic, loo in rows
    ]
    return sorted(found, key=lambda row: row.aicc)


def _largest_held_out(fit: Fit) -> dict[str, float]:
    found = {}
    for by in (f"largest {letter}" for letter in fit.points.letters):
        try:
            found[by] = float(np.sqrt(np.mean(holdout(fit, by).errors ** 2)))
        except ValueError:
            continue
    return found


def left_out_residuals(fit: Fit) -> Values:
    """Computes the log residual of each point from a fit to the remaining points, shape (n,).

    Args:
        fit: Fit to all points, the starting point of every search.
    """
    problem = pose(fit)
    weights = problem.weights * (1 - np.eye(fit.num_points))
    start = np.tile(fit.theta, (fit.num_points, 1))
    bounds = (problem.low, problem.high)
    theta, _ = descend(problem.law, problem.x, problem.target, weights, fit.delta, start, bounds)
    return np.asarray(problem.target - np.diagonal(problem.law.evaluate(theta, problem.x)[0]))


def holdout(fit: Fit, by: str = "largest N", num_values: int = 1) -> Holdout:
    """Predicts the largest runs from a fit to the remaining ones, with the form and the delta of the whole fit.

    Args:
        fit: Fit to all runs.
        by: Criterion of the runs to hold out: "largest" and the letter of an input.
        num_values: Number of the largest values of this input to hold out; all runs with these values are held out.

    Returns:
        The predictions and their errors.

    Raises:
        ValueError: If the law has no such input, or too few runs remain for the form.
    """
    letter = by.removeprefix("largest ")
    if letter not in fit.points.letters:
        raise ValueError(f"by must be 'largest' and one of {', '.join(fit.points.letters)}, got {by!r}")
    values = fit.points.inputs[fit.points.letters.index(letter)]
    held = np.isin(values, np.unique(values)[-num_values:])
    return _hold(fit, by, held)


def _hold(fit: Fit, by: str, held: NDArray[np.bool_]) -> Holdout:
    rest = _refit(fit, fit.points.take(~held), fit.delta, fit.weights[~held])
    apart = fit.points.take(held)
    predicted = rest.predict(dict(zip(apart.letters, apart.inputs, strict=True)))
    return Holdout(by, rest, apart.inputs, apart.loss, predicted / apart.loss - 1)


def _refit(fit: Fit, points: Points, delta: float, weights: Values | None = None) -> Fit:
    given = {name: fit.params[name] for name in fit.fixed}
    weights = fit.weights if weights is None else weights
    return fit_law(points, fit.form, x=points.letters, delta=delta, weights=weights, fix=given)
