"""Laws that are sums of power-law terms of model size, amount of data and number of labels."""

from collections.abc import Mapping
from itertools import product

import numpy as np

from ecg_hf.scaling.laws.base import Frame, Law, Values

Term = tuple[str, str, int]

_GRID = np.geomspace(0.02, 1.5, 60)
_COARSE_GRID = np.geomspace(0.03, 1.2, 14)


class PowerLaws(Law):
    """A sum of power-law terms, with or without a constant E, the loss that no scale removes.

    Args:
        name: Name of the law in `LAWS`.
        formula: Formula as in the literature.
        inputs: Letters of the inputs.
        terms: Letter of the amplitude, letter of the exponent, and position of the input, for each term. Two terms may
            share an exponent.
        constant: Whether E is added to the terms.

    Source:
        Hoffmann et al. 2022 (arXiv:2203.15556), eq. 2; one exponent for both inputs: Gadre et al. 2024
        (arXiv:2403.08540), eq. 4.
    """

    def __init__(self, name: str, formula: str, inputs: tuple[str, ...], terms: tuple[Term, ...], constant: bool):
        self.name, self.formula, self.inputs, self.terms = name, formula, inputs, terms
        self.exponents = tuple(dict.fromkeys(exponent for _, exponent, _ in terms))
        self.levels = ("E",) if constant else ()
        self.parameters = (*(amplitude for amplitude, _, _ in terms), *self.levels, *self.exponents)

    def evaluate(self, theta: Values, x: Values) -> tuple[Values, Values]:
        """Returns the logarithm of the loss, shape (R, n), and its gradient with respect to theta, shape (R, P, n)."""
        place = {name: column for column, name in enumerate(self.parameters)}
        parts = []
        for column, (_, exponent, number) in enumerate(self.terms):
            parts.append(np.exp(theta[:, column, None] - theta[:, place[exponent], None] * x[number]))
        total = sum(parts[1:], parts[0])
        if self.levels:
            total = total + theta[:, place["E"], None]
        gradient = np.zeros((len(theta), len(self.parameters), total.shape[1]))
        for column, ((_, exponent, number), part) in enumerate(zip(self.terms, parts, strict=True)):
            np.divide(part, total, out=gradient[:, column])
            gradient[:, place[exponent]] -= gradient[:, column] * x[number]
        if self.levels:
            np.divide(1.0, total, out=gradient[:, place["E"]])
        return np.log(total), gradient

    def offsets(self, params: Mapping[str, Values], frame: Frame) -> dict[str, Values]:
        """Returns, by amplitude, the difference that the frame makes to its logarithm: ln A = theta + offset."""
        unit = np.log(frame.scale)
        return {amplitude: unit + params[exponent] * frame.centre[number] for amplitude, exponent, number in self.terms}

    def starts(self, x: Values, target: Values, weights: Values, frame: Frame) -> Values:
        """Solves a linear least-squares problem for the amplitudes and E at every point of a grid of exponents.

        Source:
            Golub and Pereyra 1973: variable projection, here with non-negative amplitudes and relative residuals.
        """
        grid = _GRID if len(self.exponents) < 3 else _COARSE_GRID
        exponents = np.array(list(product(grid, repeat=len(self.exponents))))
        places = [self.exponents.index(exponent) for _, exponent, _ in self.terms]
        columns = [
            np.exp(-exponents[:, place, None] * x[number])
            for place, (_, _, number) in zip(places, self.terms, strict=True)
        ]
        if self.levels:
            columns.append(np.ones_like(columns[0]))
        scaled = np.sqrt(weights) * np.exp(-target)
        linear, squares = non_negative(np.stack(columns, axis=1) * scaled, np.sqrt(weights))
        order = np.argsort(squares, kind="stable")[:512]
        order = order[_apart(exponents[order])]
        # an amplitude of zero has no logarithm; this one is far below every residual but still has a gradient
        amplitudes = np.log(np.maximum(linear[order, : len(self.terms)], 1e-4 / columns[0].mean()))
        return np.hstack([amplitudes, linear[order, len(self.terms) :], exponents[order]])

    def bounds(self, x: Values, frame: Frame) -> tuple[Values, Values]:
        """Returns the lower and the upper bounds of theta for the data, shape (P,) each."""
        return self.default_bounds(x, frame)


def _apart(exponents: Values) -> list[int]:
    """Picks grid points, best first, without the neighbours of those picked, so that starts lie in several valleys.

    Args:
        exponents: Exponents of the grid points, best first, shape (G, number of exponents).

    Returns:
        Positions of the picked points.
    """
    places = np.log(exponents)
    left = np.ones(len(places), dtype=bool)
    picked: list[int] = []
    while left.any():
        first = int(np.argmax(left))
        picked.append(first)
        left &= np.abs(places - places[first]).max(axis=1) > 0.15
    return picked


def non_negative(basis: Values, target: Values) -> tuple[Values, Values]:
    """Minimises |target - c basis| over c >= 0 for many bases at once.

    Every subset of the m coefficients is solved for, with the rest at zero. For small m this is exact and fastest.

    Args:
        basis: Bases, shape (G, m, n).
        target: Target, shape (n,).

    Returns:
        The coefficients c, shape (G, m), and the sums of squares, shape (G,).
    """
    num, size, _ = basis.shape
    norms = np.linalg.norm(basis, axis=2, keepdims=True)
    basis = basis / norms
    gram, moment = basis @ basis.transpose(0, 2, 1), basis @ target
    best = np.full(num, np.sum(target**2))
    found = np.zeros((num, size))
    for chosen in product([False, True], repeat=size):
        used = np.flatnonzero(chosen)
        if not len(used):
            continue
        part = gram[:, used[:, None], used]
        part = part + 1e-13 * np.trace(part, axis1=1, axis2=2)[:, None, None] * np.eye(len(used))
        solution = np.linalg.solve(part, moment[:, used, None])[..., 0]
        squares = np.sum(target**2) - np.einsum("gi,gi->g", solution, moment[:, used])
        better = (solution >= 0).all(axis=1) & (squares < best)
        best = np.where(better, squares, best)
        found[better] = 0
        found[np.ix_(np.flatnonzero(better), used)] = solution[better]
    return found / norms[..., 0], best
