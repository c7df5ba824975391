"""The result of a fit, which holds the parameters of a law, their standard errors, and warnings."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ecg_hf.scaling.fitting.points import Points
from ecg_hf.scaling.laws.base import Frame, Law, Values
from ecg_hf.scaling.laws.names import get

ENOUGH_STARTS = 3
# Beginnings of the flags that question the fit itself; the rest are remarks on its points.
GRAVE = ("unstable", "at bound", "unidentified")


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law: the form, the parameters that fit the points best, and the quality of the fit.

    Args:
        form: Name of the law.
        params: Parameters by letter.
        fixed: Letters of the parameters that were given and not fitted.
        theta: Parameters as working coordinates, shape (P,).
        frame: Frame of the working coordinates.
        points: Points that were fitted.
        weights: Weights of the points, with mean 1, shape (n,).
        delta: Log residual at which Huber's loss becomes linear.
        objective: Weighted sum of Huber's losses.
        standard_errors: Standard errors of the fitted parameters from the curvature, by letter; relative to the value
            for amplitudes.
        num_starts: Number of searches.
        num_reached: Number of searches that ended at the best objective.
        at_bound: Letters of the parameters that ended at a bound.
        unidentified: Letters of the parameters that the points do not determine.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.scaling import Fit, fit
        >>> n = np.geomspace(2e4, 2e7, 8)
        >>> found = fit({"N": n, "loss": 0.05 + 3 * n**-0.25}, form="pow+E")
        >>> found.formula, found.num_points, found.flags
        ('L = E + A N^-alpha', 8, ())
        >>> found.predict({"N": [2e6, 2e8]}).round(3)
        array([0.13 , 0.075])
        >>> Fit.from_json(found.to_json()).params == found.params
        True
    """

    form: str
    params: dict[str, float]
    fixed: tuple[str, ...]
    theta: Values
    frame: Frame
    points: Points
    weights: Values
    delta: float
    objective: float
    standard_errors: dict[str, float]
    num_starts: int
    num_reached: int
    at_bound: tuple[str, ...]
    unidentified: tuple[str, ...]

    @property
    def law(self) -> Law:
        """Form of the law."""
        return get(self.form)

    @property
    def formula(self) -> str:
        """Formula of the law, with the letters of the inputs it was fitted to."""
        letters = dict(zip(self.law.inputs, self.points.letters, strict=True))
        return re.sub(r"\b[A-Z]\b", lambda found: letters.get(found[0], found[0]), self.law.formula)

    @property
    def num_points(self) -> int:
        """Number of points fitted."""
        return len(self.points)

    @property
    def num_free(self) -> int:
        """Number of parameters fitted."""
        return len(self.params) - len(self.fixed)

    @property
    def x(self) -> Values:
        """Centred logarithms of the inputs, shape (K, n)."""
        return np.asarray(np.log(self.points.inputs) - self.frame.centre[:, None])

    @property
    def target(self) -> Values:
        """Logarithms of the losses in units of the frame, shape (n,)."""
        return np.log(self.points.loss / self.frame.scale)

    @property
    def residuals(self) -> Values:
        """Log residuals, the logarithms of loss over prediction, shape (n,)."""
        return np.asarray(self.target - self.law.evaluate(self.theta[None], self.x)[0][0])

    @property
    def rmse_log(self) -> float:
        """Weighted root mean square of the log residuals."""
        return float(np.sqrt(np.average(self.residuals**2, weights=self.weights)))

    @property
    def r_squared(self) -> float:
        """Part of the variance of the logarithm of the loss that the law explains; NaN if all losses are equal."""
        mean = np.average(self.target, weights=self.weights)
        variance = float(np.average((self.target - mean) ** 2, weights=self.weights))
        return 1 - self.rmse_log**2 / variance if variance > 0 else np.nan

    @property
    def unstable(self) -> bool:
        """Whether so few searches ended at the best objective that a better one may exist."""
        return self.num_reached < ENOUGH_STARTS

    @property
    def flags(self) -> tuple[str, ...]:
        """Warnings about the fit and its points, one sentence each; empty for a good fit of good points."""
        found = []
        if self.unstable:
            found.append(f"unstable: {self.num_reached} of {self.num_starts} searches reached the best objective")
        for name in self.at_bound:
            found.append(f"at bound: {name} = {self.params[name]:.4g}")
        for name in self.unidentified:
            found.append(f"unidentified: {name} = {self.params[name]:.4g} is not determined by these points")
        return (*found, *self.points.remarks())

    def predict(self, inputs: Mapping[str, ArrayLike]) -> Values:
        """Predicts the loss.

        Args:
            inputs: Inputs by letter, not their logarithms; numbers, or arrays that can be broadcast together.

        Returns:
            Losses, of the broadcast shape of the inputs.

        Raises:
            ValueError: If an input of the law is missing, or the law has no such input.
        """
        if set(inputs) != set(self.points.letters):
            raise ValueError(
                f"the law needs {', '.join(self.points.letters)} to predict, got {', '.join(inputs) or 'nothing'}"
            )
        given = np.broadcast_arrays(*(np.asarray(inputs[name], np.float64) for name in self.points.letters))
        x = np.log(np.stack([each.ravel() for each in given])) - self.frame.centre[:, None]
        loss = self.frame.scale * np.exp(self.law.evaluate(self.theta[None], x)[0][0])
        return np.asarray(loss.reshape(given[0].shape))

    def __str__(self) -> str:
        parts = []
        for name, value in self.params.items():
            error = self.standard_errors.get(name)
            relative = name not in (*self.law.levels, *self.law.exponents)
            spread = "" if error is None else f" (se {100 * error:.2g} %)" if relative else f" (se {error:.2g})"
            parts.append(f"{name} = {value:.5g}{' (given)' if name in self.fixed else spread}")
        lines = [
            f"{self.points.cell + ': ' if self.points.cell else ''}{self.points.loss_name}, {self.formula}",
            "  " + ", ".join(parts),
            f"  {self.num_points} points, log residual rms {self.rmse_log:.4f}, R2 {self.r_squared:.4f}, "
            f"delta {self.delta:.3g}" + "".join(f", {a} = {b}" for a, b in self._definitions() if a != b),
        ]
        return "\n".join(lines + [f"  ! {flag}" for flag in self.flags])

    def _definitions(self) -> list[tuple[str, str]]:
        return list(zip(self.points.letters, self.points.columns, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Returns the whole fit as values that JSON can hold; `from_dict` restores the fit."""
        points = self.points
        return {
            "ecg_hf": version("ecg_hf"),
            "form": self.form,
            "formula": self.formula,
            "params": {name: _plain(value) for name, value in self.params.items()},
            "fixed": list(self.fixed),
            "standard_errors": {name: _plain(value) for name, value in self.standard_errors.items()},
            "inputs": dict(self._definitions()),
            "loss": points.loss_name,
            "cell": points.cell,
            "num_points": self.num_points,
            "objective": self.objective,
            "delta": _plain(self.delta),
            "rmse_log": self.rmse_log,
            "r_squared": _plain(self.r_squared),
            "num_starts": self.num_starts,
            "num_reached": self.num_reached,
            "at_bound": list(self.at_bound),
            "unidentified": list(self.unidentified),
            "flags": list(self.flags),
            "theta": self.theta.tolist(),
            "frame": [
                self.frame.centre.tolist(),
                self.frame.scale,
                _plain(self.frame.smallest),
                _plain(self.frame.chance),
            ],
            "weights": self.weights.tolist(),
            "points": {
                "inputs": points.inputs.tolist(),
                "loss": points.loss.tolist(),
                "relative_se": None if points.relative_se is None else points.relative_se.tolist(),
                "clusters": points.clusters.tolist(),
                "chance": _plain(points.chance),
                "notes": list(points.notes),
            },
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Fit":
        """Restores a fit from the values that `as_dict` returned.

        Args:
            saved: Values of `as_dict`, or the same values read from JSON.
        """
        raw = saved["points"]
        points = Points(
            tuple(saved["inputs"]),
            tuple(saved["inputs"].values()),
            np.array(raw["inputs"]),
            np.array(raw["loss"]),
            saved["loss"],
            None if raw["relative_se"] is None else np.array(raw["relative_se"]),
            np.array(raw["clusters"], dtype=np.intp),
            saved["cell"],
            _number(raw["chance"]),
            tuple(raw["notes"]),
        )
        centre, scale, smallest, chance = saved["frame"]
        return cls(
            form=saved["form"],
            params={name: _number(value) for name, value in saved["params"].items()},
            fixed=tuple(saved["fixed"]),
            theta=np.array(saved["theta"]),
            frame=Frame(np.array(centre), scale, _number(smallest), _number(chance)),
            points=points,
            weights=np.array(saved["weights"]),
            delta=_number(saved["delta"]),
            objective=saved["objective"],
            standard_errors={name: _number(value) for name, value in saved["standard_errors"].items()},
            num_starts=saved["num_starts"],
            num_reached=saved["num_reached"],
            at_bound=tuple(saved["at_bound"]),
            unidentified=tuple(saved["unidentified"]),
        )

    def to_json(self) -> str:
        """Returns the fit as JSON text; `from_json` restores the fit."""
        return json.dumps(self.as_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Fit":
        """Restores a fit from the JSON text that `to_json` returned.

        Args:
            text: JSON text of the fit.
        """
        return cls.from_dict(json.loads(text))


def _plain(value: float) -> float | str:
    """Returns a number, or its text where JSON cannot hold the number (infinity, NaN); `float` reads both."""
    return value if np.isfinite(value) else str(value)


def _number(value: float | str) -> float:
    return float(value)
