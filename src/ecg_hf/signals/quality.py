"""Whether a signal looks like an ECG: findings about it, each with the number that gave rise to it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.record import LEADS, LIMB_LEADS

# Each limit lies between what real records of five corpora show and what the fault gives; see tests/test_quality.py.
RANGE_MV = (0.03, 30.0)  # peak to peak in two seconds: a thousandth and a thousandfold of an ECG fall outside
LIMB_RESIDUAL = 0.05  # of the limb leads' amplitude; rounding and filters give up to 0.02
HUM_SHARE = 0.2  # of the power from 0.5 to 40 Hz
NOISE_CORRELATION = 0.2  # of neighbouring samples, below which nothing is left of a waveform
SPIKE_RATIO, SPIKE_MV = 8.0, 0.5  # of the sharpest point to the median second's, and in itself
JUMP_MV = 3.0  # between the medians of 0.4 s before and after
HELD_S, CLIPS = 0.2, 3  # one long stay at an extreme, or so many short ones


class QualityFlag(NamedTuple):
    """One finding: its kind, the lead it is about (None: the limb leads together), and the measured number."""

    kind: str
    lead: str | None
    value: float


def quality_flags(signal: NDArray[Any], leads: Sequence[str], sampling_rate: float) -> tuple[QualityFlag, ...]:
    """Looks for what makes a signal doubtful. Flags are findings, not verdicts: an ECG may be worth keeping with any.

    Kinds, with their numbers: "missing" (share of samples that are NaN or infinite), "flat" (seconds without change),
    "saturated" (stays at the lead's extreme, or the seconds of a long one), "suspect_units" (mV, peak to peak), "hum"
    (share of power at 50 or 60 Hz), "noise" (correlation of neighbouring samples), "spike" (mV), "jump" (mV) and
    "limb_leads" (share of amplitude that contradicts Einthoven and Goldberger: a swapped, inverted or rescaled limb
    lead; swapped electrodes obey both laws and do not show).

    Args:
        signal: In mV, shape (L, T); NaN where missing.
        leads: Standard names, one per row.
        sampling_rate: In Hz.

    Returns:
        The flags, lead by lead, then that of the limb leads; empty if there is nothing to say.

    Raises:
        EcgFormatError: If the shapes disagree.
    """
    if signal.ndim != 2 or len(signal) != len(leads):
        raise EcgFormatError(f"expected one row for each of {len(leads)} leads, got shape {signal.shape}; transpose it")
    flags = []
    for lead, row in zip(leads, signal.astype(np.float64), strict=True):
        present = row[np.isfinite(row)]
        if len(present) < len(row):
            flags.append(QualityFlag("missing", lead, 1 - len(present) / len(row)))
        findings = _lead_findings(present, sampling_rate) if len(present) > 1 else {}
        flags += [QualityFlag(kind, lead, float(value)) for kind, value in findings.items()]
    residual = _limb_residual(signal, leads)
    if residual > LIMB_RESIDUAL:
        flags.append(QualityFlag("limb_leads", None, residual))
    return tuple(flags)


def _lead_findings(row: NDArray[np.float64], sampling_rate: float) -> dict[str, float]:
    still = int((np.ptp(_windows(row, sampling_rate), axis=1) == 0).sum())
    spread = float(np.median(np.ptp(_windows(row, 2 * sampling_rate), axis=1)))
    if np.ptp(row) == 0:
        return {"flat": len(row) / sampling_rate}
    clips, held = _stays(row, sampling_rate)
    hum, correlation = _hum(row, sampling_rate), _neighbour_correlation(row)
    sharpest, usual = _sharpness(row, sampling_rate)
    jump = _jump(row, sampling_rate)
    findings = {
        "flat": (still > 0, still),
        "saturated": (clips >= CLIPS or held >= HELD_S, clips if clips >= CLIPS else held),
        "suspect_units": (spread > 0 and not RANGE_MV[0] <= spread <= RANGE_MV[1], spread),
        "hum": (hum > HUM_SHARE, hum),
        "noise": (correlation < NOISE_CORRELATION, correlation),
        "spike": (sharpest > max(SPIKE_RATIO * usual, SPIKE_MV), sharpest),
        "jump": (jump > JUMP_MV, jump),
    }
    return {kind: value for kind, (found, value) in findings.items() if found}


def _windows(row: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    length = min(max(round(size), 1), len(row))
    return row[: len(row) // length * length].reshape(-1, length)


def _stays(row: NDArray[np.float64], sampling_rate: float) -> tuple[int, float]:
    """Counts the stays of 8 ms or more at the extreme that has more of them, and gives the longest in s."""
    stays = []
    for extreme in (row.min(), row.max()):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row == extreme, [False]]).astype(np.int8)))
        stays.append(edges[1::2] - edges[::2])
    shortest = max(2, round(0.008 * sampling_rate))
    return max(int((stay >= shortest).sum()) for stay in stays), max(stay.max() for stay in stays) / sampling_rate


def _hum(row: NDArray[np.float64], sampling_rate: float) -> float:
    frequency = np.fft.rfftfreq(len(row), 1 / sampling_rate)
    power = np.abs(np.fft.rfft((row - row.mean()) * np.hanning(len(row)))) ** 2
    heart = power[(frequency > 0.5) & (frequency < 40)].sum()
    mains = [power[np.abs(frequency - hertz) < 1].sum() for hertz in (50, 60) if hertz < sampling_rate / 2]
    return float(max(mains, default=0) / heart) if heart > 0 else 0.0


def _neighbour_correlation(row: NDArray[np.float64]) -> float:
    centred = row - row.mean()
    return float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())


def _sharpness(row: NDArray[np.float64], sampling_rate: float) -> tuple[float, float]:
    """Gives how far the worst sample lies from the mean of its neighbours, and the same in the median second."""
    if len(row) < 3:
        return 0.0, 0.0
    bend = np.abs(row[1:-1] - (row[:-2] + row[2:]) / 2)
    return float(bend.max()), float(np.median(_windows(bend, sampling_rate).max(axis=1)))


def _jump(row: NDArray[np.float64], sampling_rate: float) -> float:
    step = max(1, round(0.1 * sampling_rate))
    width = 4 * step
    if len(row) < 2 * width:
        return 0.0
    medians = np.median(np.lib.stride_tricks.sliding_window_view(row, width)[::step], axis=1)
    return float(np.abs(medians[4:] - medians[:-4]).max())


def _limb_residual(signal: NDArray[Any], leads: Sequence[str]) -> float:
    """Gives the share of the limb leads' amplitude that no I and II explain; 0 if fewer than three are there."""
    rows = [index for index, lead in enumerate(leads) if lead in LEADS[:6]]
    limb = signal[rows].astype(np.float64)
    limb = limb[:, np.isfinite(limb).all(axis=0)]
    if len(rows) < 3 or limb.shape[1] < 2:
        return 0.0
    limb -= limb.mean(axis=1, keepdims=True)
    weights = LIMB_LEADS[[LEADS.index(leads[row]) for row in rows]]
    residual = limb - weights @ (np.linalg.pinv(weights) @ limb)
    return float(np.sqrt((residual**2).sum() / max((limb**2).sum(), np.finfo(np.float64).tiny)))
