"""The bottleneck of a cell: whether parameters or records limit its loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecg_hf.scaling.fitting.intervals import Boot, Estimate, summarise
from ecg_hf.scaling.laws.base import Values
from ecg_hf.scaling.laws.kaplan import Kaplan
from ecg_hf.scaling.laws.power_laws import PowerLaws

MOST = 0.8
_STEP = 1e-4


@dataclass(frozen=True)
class Bottleneck:
    """The response of the loss to more parameters and to more records, at one point.

    Args:
        at: Inputs of the point, by letter.
        elasticity_n: Elasticity -d ln L / d ln N, the percentage by which the loss falls per percent more parameters.
        elasticity_d: Elasticity -d ln L / d ln D, the same for records.
        share_d: Part of the reducible loss that more records would remove, between 0 and 1.
        limit: "data" if the interval of `share_d` lies above 0.8, "model" if it lies below 0.2, else "neither".
    """

    at: Mapping[str, float]
    elasticity_n: Estimate
    elasticity_d: Estimate
    share_d: Estimate
    limit: str

    def __str__(self) -> str:
        place = ", ".join(f"{letter} = {value:.4g}" for letter, value in self.at.items())
        return f"bottleneck at {place}: {self.limit}\n  {self.elasticity_n}\n  {self.elasticity_d}\n  {self.share_d}"


def bottleneck(boot: Boot, at: Mapping[str, float] | None = None) -> Bottleneck:
    """Measures whether parameters or records limit the loss.

    Args:
        boot: Bootstrap of a law of N and D.
        at: Inputs of the point to measure at, by letter; None takes the largest of each input.

    Returns:
        The elasticities, with intervals, and the verdict.

    Raises:
        ValueError: If the law is not a law of N and D.
    """
    fit = boot.fit
    if not isinstance(fit.law, PowerLaws | Kaplan) or fit.points.letters[:2] != ("N", "D"):
        raise ValueError(f"a bottleneck needs a law of N and D, got {fit.form} of {', '.join(fit.points.letters)}")
    place = {letter: float(values.max()) for letter, values in zip(fit.points.letters, fit.points.inputs, strict=True)}
    place |= dict(at or {})
    theta = np.vstack([fit.theta[None], boot.theta])
    centre = np.log([place[letter] for letter in fit.points.letters])[:, None] - fit.frame.centre[:, None]
    slopes = []
    for number in (0, 1):
        sides = centre + _STEP * np.eye(len(centre))[number][:, None] * np.array([[1.0, -1.0]])
        upper, lower = fit.law.evaluate(theta, sides)[0].T
        slopes.append((lower - upper) / (2 * _STEP))
    exponents = [_exponent(fit.law, theta, number) for number in (0, 1)]
    # an elasticity is exponent times term over loss, so these quotients are proportional to the terms
    parts = [slope / exponent for slope, exponent in zip(slopes, exponents, strict=True)]
    share = parts[1] / (parts[0] + parts[1])
    kinds = ("elasticity of N", "elasticity of D", "share of D in the reducible loss")
    found = [summarise(kind, float(each[0]), each[1:]) for kind, each in zip(kinds, (*slopes, share), strict=True)]
    limit = "data" if found[2].low > MOST else "model" if found[2].high < 1 - MOST else "neither"
    return Bottleneck(place, found[0], found[1], found[2], limit)


def _exponent(law: PowerLaws | Kaplan, theta: Values, number: int) -> Values:
    name = next(exponent for _, exponent, place in law.terms if place == number)
    return np.asarray(theta[:, law.parameters.index(name)])
