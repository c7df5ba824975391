"""The fit of one loss as a function of another with noise in both, by orthogonal distances."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ecg_hf.scaling.laws.base import Values


def least_distance(
    x: Values, y: Values, counts: NDArray[np.generic], start: dict[str, float], given: dict[str, float]
) -> tuple[Values, Values]:
    """Fits L_y = E_y + K (L_x - E_x)^kappa by the distances of the points from the curve, in the logarithms of both.

    Args:
        x: Losses L_x, shape (n,).
        y: Losses L_y, shape (n,).
        counts: Number of times each point counts, shape (n,).
        start: Parameters to start from, by letter.
        given: Values of E_x and E_y that are known, by letter.

    Returns:
        The parameters ln K, kappa, E_x and E_y, shape (4,), and the distances in ln L_x, then in ln L_y, shape (2 n,).

    Source:
        Boggs, Byrd and Schnabel 1987, eq. 1.4, with equal weights.
    """
    num, root = len(x), np.sqrt(np.asarray(counts, dtype=np.float64))
    lowest = np.log(x.min())
    first = np.array([np.log(start["K"]), start["kappa"], start["E_x"], start["E_y"]])
    ends = [(-50.0, 50.0), (1e-3, 10.0), (0.0, 0.999 * x.min()), (0.0, 0.999 * y.min())]
    for column, name in ((2, "E_x"), (3, "E_y")):
        if name in given:
            ends[column] = (given[name] - 1e-12, given[name] + 1e-12)

    def _distances(z: Values) -> Values:
        above = np.maximum(np.exp(z[4:]) - z[2], 1e-12)
        return np.concatenate(
            [root * (z[4:] - np.log(x)), root * (np.log(z[3] + np.exp(z[0]) * above ** z[1]) - np.log(y))]
        )

    def _slopes(z: Values) -> Values:
        above = np.maximum(np.exp(z[4:]) - z[2], 1e-12)
        part = np.exp(z[0]) * above ** z[1]
        unit = root / (z[3] + part)
        found = np.zeros((2 * num, 4 + num))
        found[:num, 4:] = np.diag(root)
        by_above = unit * part * z[1] / above
        found[num:, :4] = np.stack([unit * part, unit * part * np.log(above), -by_above, unit], axis=1)
        found[num:, 4:] = np.diag(by_above * np.exp(z[4:]))
        return found

    low = np.concatenate([[end[0] for end in ends], np.full(num, lowest - 1.0)])
    high = np.concatenate([[end[1] for end in ends], np.full(num, np.log(x.max()) + 1.0)])
    begin = np.clip(np.concatenate([first, np.log(x)]), low + 1e-13, high - 1e-13)
    found = least_squares(_distances, begin, _slopes, bounds=(low, high), x_scale="jac", xtol=1e-12, ftol=1e-12)
    return found.x[:4], found.fun
