"""Simulated hearts: the waves of a beat as dipoles in a torso, and the potentials of a dipole at nine electrodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# mV in I, II, V1-V6 per mV of dipole; one row each for x (to the left), y (to the feet), z (to the back), transposed
_DOWER = np.array(
    [
        [0.632, 0.235, -0.515, 0.044, 0.882, 1.213, 1.125, 0.831],
        [-0.235, 1.066, 0.157, 0.164, 0.098, 0.127, 0.127, 0.076],
        [0.059, -0.132, -0.917, -1.387, -1.277, -0.601, -0.086, 0.230],
    ]
).T

# rows RA, LA, LL, V1-V6: electrode potentials against Wilson's terminal, from I, II, V1-V6
_FROM_LEADS = np.zeros((9, 8))
_FROM_LEADS[:3, :2] = np.array([[-1, -1], [2, -1], [-1, 2]]) / 3
_FROM_LEADS[3:, 2:] = np.eye(6)

# rows I, II, III, aVR, aVL, aVF, V1-V6; columns RA, LA, LL, V1-V6: the differences that an electrocardiograph records
ELECTRODES_TO_LEADS = np.zeros((12, 9))
ELECTRODES_TO_LEADS[:3, :3] = [[-1, 1, 0], [-1, 0, 1], [0, -1, 1]]
ELECTRODES_TO_LEADS[3:6, :3] = np.array([[2, -1, -1], [-1, 2, -1], [-1, -1, 2]]) / 2
ELECTRODES_TO_LEADS[6:, :3] = -1 / 3
ELECTRODES_TO_LEADS[6:, 3:] = np.eye(6)

# A wave is a row: time after R, rise and fall (standard deviations) in ms, then its dipole x, y, z in mV.
_P = np.array([[-162, 18, 17, 0.03, 0.09, -0.06], [-134, 17, 17, 0.06, 0.05, 0.05]])
_QRS = {
    "normal": np.array(
        [
            [-27, 8, 8, -0.20, -0.06, -0.22],
            [-9, 8, 9, 0.88, 0.50, -0.22],
            [6, 8, 9, 0.72, 0.48, 0.90],
            [26, 8, 10, -0.10, -0.12, 0.38],
        ]
    ),
    "left": np.array(
        [
            [-50, 9, 10, 0.10, 0.05, -0.20],
            [-22, 16, 18, 0.70, 0.20, 1.00],
            [16, 20, 20, 0.50, 0.10, 1.70],
            [54, 18, 18, 0.85, 0.05, 0.90],
        ]
    ),
    "right": np.array(
        [
            [-27, 8, 8, -0.20, -0.06, -0.22],
            [-9, 9, 9, 0.80, 0.42, -0.10],
            [7, 9, 10, 0.55, 0.38, 0.35],
            [50, 16, 20, -0.60, 0.00, -0.85],
        ]
    ),
    "ectopic": np.array([[-38, 20, 22, 0.6, 0.35, 0.25], [8, 24, 24, 1.05, 0.9, 0.35], [58, 20, 22, 0.4, 0.6, 0.55]]),
}
_T = {
    "normal": np.array([[285, 62, 40, 0.31, 0.18, -0.22]]),
    "left": np.array([[150, 60, 60, -0.06, 0.00, -0.18], [330, 70, 45, -0.27, 0.02, -0.60]]),
    "right": np.array([[310, 60, 40, 0.25, 0.15, 0.22]]),
    "ectopic": np.array([[150, 55, 60, -0.15, -0.12, -0.08], [330, 65, 50, -0.40, -0.32, -0.15]]),
}
_RIGHT_VENTRICLE = np.array([-0.45, 0.0, -0.75])
J_POINT = {"normal": 55.0, "left": 100.0, "right": 95.0}  # ms after R


@dataclass(frozen=True, eq=False)
class Heart:
    """Heart and torso of a simulated patient, which stay the same over all of the patient's ECGs.

    Waves are rows of the time after R, the rise and the fall in ms (as standard deviations), and a dipole in mV.

    Args:
        conduction: Blocked bundle, "left" or "right", or "normal" if none is blocked.
        fibrillating: Whether the atria fibrillate.
        electrodes: Potential at RA, LA, LL, V1-V6 per mV of dipole, shape (9, 3).
        p: Waves of the atria, shape (K, 6).
        qrs: Waves of the ventricles' depolarisation, shape (K, 6).
        t: Waves of the ventricles' repolarisation, shape (K, 6).
        ectopic: Waves of a whole beat that starts in a ventricle, shape (K, 6).
    """

    conduction: str
    fibrillating: bool
    electrodes: Array
    p: Array
    qrs: Array
    t: Array
    ectopic: Array


def draw_heart(
    rng: np.random.Generator,
    *,
    conduction: str = "normal",
    fibrillating: bool = False,
    axis: float = 45.0,
    voltage: float = 1.0,
) -> Heart:
    """Draws a patient's heart and torso.

    Args:
        rng: Generator from which the differences between patients are drawn.
        conduction: "normal", or the blocked bundle, "left" or "right".
        fibrillating: Whether the atria fibrillate.
        axis: Axis of the QRS area in the frontal plane, in degrees clockwise from lead I. The late activation of the
            right ventricle in a right bundle branch block does not count towards it.
        voltage: Factor applied to every amplitude.

    Returns:
        The heart and torso.

    Raises:
        ValueError: If `conduction` is neither "normal" nor "left" nor "right".
    """
    if conduction not in J_POINT:
        raise ValueError(f"conduction must be one of {sorted(J_POINT)}, got {conduction!r}")
    electrodes = voltage * _FROM_LEADS @ (_DOWER * rng.normal(1, 0.13, _DOWER.shape))
    twist = np.radians(rng.normal(0, 12))
    ectopic = _vary(rng, np.concatenate([_QRS["ectopic"], _T["ectopic"]]))
    ectopic[:, 5] *= rng.choice([-1, 1])  # the beat starts in the back or in the front of the heart
    ectopic[:, 3:] *= rng.lognormal(-0.2, 0.25)
    return Heart(
        conduction=conduction,
        fibrillating=fibrillating,
        electrodes=electrodes,
        p=_draw_p(rng),
        qrs=_draw_qrs(rng, conduction, axis, twist, electrodes),
        t=_draw_t(rng, conduction, twist),
        ectopic=_turn_to_axis(ectopic, ectopic[:0], electrodes, rng.uniform(-90, 120)),
    )


def _draw_p(rng: np.random.Generator) -> Array:
    p = _vary(rng, _P)
    p[:, 0] += rng.normal(0, 10)
    p[:, 3:] *= rng.lognormal(-0.15, 0.3)
    return p


def _draw_qrs(rng: np.random.Generator, conduction: str, axis: float, twist: float, electrodes: Array) -> Array:
    qrs = _vary(rng, _QRS[conduction], twist)
    qrs[0, 4] += 0.2 * (axis < -30)  # with a blocked left anterior fascicle, the ventricle is activated from below
    if conduction == "normal":
        qrs[3, 3:] += max(0.0, rng.normal(0, 0.35)) * _RIGHT_VENTRICLE  # the right bundle is delayed, but not blocked
    else:
        qrs[:, 3:] *= rng.lognormal(-0.15, 0.15)
    qrs[:, :3] *= rng.lognormal(0, 0.06)
    others = qrs[:1] if conduction == "right" else qrs[[0, 3]]  # a late right ventricle does not count towards the axis
    qrs[1:3] = _turn_to_axis(qrs[1:3], others, electrodes, axis)
    return qrs


def _draw_t(rng: np.random.Generator, conduction: str, twist: float) -> Array:
    t = _vary(rng, _T[conduction], twist)
    t[:, :3] *= rng.normal(1, 0.05)
    t[:, 3:] *= rng.lognormal(-0.1, 0.4)
    t[-1, 3:] += 0.05 * rng.normal(size=3)
    return t


def _vary(rng: np.random.Generator, waves: Array, twist: float = 0.0) -> Array:
    """Varies waves between patients, and turns them by `twist` about the long axis of the body."""
    cos, sin = np.cos(twist), np.sin(twist)
    dipole = waves[:, 3:] @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    spread = 0.08 * np.linalg.norm(dipole, axis=1, keepdims=True)
    factor = rng.normal(1, [0.05, 0.07, 0.07], (len(waves), 3))
    return np.hstack([waves[:, :3] * factor, dipole + spread * rng.normal(size=dipole.shape)])


def _turn_to_axis(waves: Array, others: Array, electrodes: Array, axis: float) -> Array:
    """Turns `waves` in the plane of the limb leads until `waves` and the unturned `others` together point to `axis`."""
    limb = ELECTRODES_TO_LEADS[[0, 5]] @ electrodes * [[1.0], [2 / np.sqrt(3)]]
    frame = np.vstack([limb, [0, 0, 1]])
    x, y, _ = frame @ _area(waves)
    rest_x, rest_y, _ = frame @ _area(others)
    aim = np.radians(axis)
    lean = (np.sin(aim) * rest_x - np.cos(aim) * rest_y) / np.hypot(x, y)
    angle = aim + np.arcsin(np.clip(lean, -1, 1)) - np.arctan2(y, x)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return np.hstack([waves[:, :3], np.linalg.solve(frame, turn @ frame @ waves[:, 3:].T).T])


def _area(waves: Array) -> Array:
    area: Array = waves[:, 3:].T @ waves[:, 1:3].sum(axis=1)
    return area
