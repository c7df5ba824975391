"""Quality flags: findings that make a signal doubtful as an ECG, each with the number that was measured."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.record import LEADS, LIMB_LEADS

# Each limit lies between the values of real records of five corpora and those of the fault; see
# tests/signals/test_quality.py.
RANGE_MV = (0.03, 30.0)  # peak to peak in two seconds; excludes an ECG whose unit is wrong by a factor of 1,000
LIMB_RESIDUAL = 0.05  # relative to the limb leads' amplitude; rounding and filters cause up to 0.02
HUM_SHARE = 0.2  # relative to the power from 0.5 to 40 Hz
NOISE_CORRELATION = 0.2  # correlation of neighbouring samples, below which no waveform is left
SPIKE_RATIO, SPIKE_MV = 8.0, 0.5  # sharpest point, relative to that of the median second and absolute
JUMP_MV = 3.0  # difference between the medians of the 0.4 s before and after a point
HELD_S, CLIPS = 0.2, 3  # one stay at an extreme that is this long, or this many short ones


class QualityFlag(NamedTuple):
    """One finding about a signal.

    Args:
        kind: Kind of the finding, see `quality_flags`.
        lead: Name of the affected lead; None if the finding concerns all limb leads together.
        value: Measured number, in the unit of its kind.
    """

    kind: str
    lead: str | None
    value: float


def quality_flags(signal: NDArray[Any], leads: Sequence[str], sampling_rate: float) -> tuple[QualityFlag, ...]:
    """Finds properties that make a signal doubtful as an ECG.

    Flags are findings, not verdicts: an ECG with any of them may be worth keeping. The kinds and their values are:

    - "missing": fraction of samples that are NaN or infinite.
    - "flat": seconds without change.
    - "saturated": number of stays at the lead's minimum or maximum, or the duration of a long one in seconds.
    - "suspect_units": median peak-to-peak amplitude of two seconds, in mV.
    - "hum": power at 50 or 60 Hz, relative to that from 0.5 to 40 Hz.
    - "noise": correlation of neighbouring samples.
    - "spike": distance of the sharpest point from the mean of its neighbours, in mV.
    - "jump": largest difference between the medians of the 0.4 s before and after a point, in mV.
    - "limb_leads": fraction of the amplitude that violates Einthoven's and Goldberger's laws, as a swapped, inverted or
      rescaled limb lead does. Swapped electrodes obey both laws and are not found.

    Args:
        signal: Signal in mV, shape (L, T); NaN marks a missing sample.
        leads: Standard names, one per row of `signal`.
        sampling_rate: Sampling rate, in Hz.

    Returns:
        The flags lead by lead, followed by that of the limb leads; empty if there are no findings.

    Raises:
        EcgFormatError: If `signal` has not one row for each of `leads`.

    Example:
        >>> import numpy as np
        >>> from ecg_hf import LEADS
        >>> from ecg_hf.signals.quality import quality_flags
        >>> from ecg_hf.signals.simulation import Episode, simulate
        >>> from ecg_hf.signals.simulated_heart import draw_heart
        >>> rng = np.random.default_rng(0)
        >>> signal = simulate(draw_heart(rng), Episode(), rng)
        >>> quality_flags(signal, LEADS, 500)
        ()
        >>> signal[6, 1000:2000] = 0  # lead V1 is lost for two seconds
        >>> quality_flags(signal, LEADS, 500)
        (QualityFlag(kind='flat', lead='V1', value=2.0),)
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
    """Counts the stays of 8 ms or more at the minimum or maximum, whichever has more, and measures the longest in s."""
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
    """Measures the largest distance of a sample from the mean of its neighbours, over all and in the median second."""
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
    """Computes the fraction of the limb leads' amplitude that no I and II explain; 0 for fewer than three leads."""
    rows = [index for index, lead in enumerate(leads) if lead in LEADS[:6]]
    limb = signal[rows].astype(np.float64)
    limb = limb[:, np.isfinite(limb).all(axis=0)]
    if len(rows) < 3 or limb.shape[1] < 2:
        return 0.0
    limb -= limb.mean(axis=1, keepdims=True)
    weights = LIMB_LEADS[[LEADS.index(leads[row]) for row in rows]]
    residual = limb - weights @ (np.linalg.pinv(weights) @ limb)
    return float(np.sqrt((residual**2).sum() / max((limb**2).sum(), np.finfo(np.float64).tiny)))
