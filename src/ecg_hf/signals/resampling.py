"""Resampling of signals: by soxr where it is installed, else by a polyphase filter; either way with reflected edges."""

import math
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, resample_poly

_MAX_DENOMINATOR = 10_000
_REACH = 100  # samples of the lower rate after which both impulse responses are below 1e-7 of their peak


def resampled_length(num_samples: int, source: float, target: float) -> int:
    """Gives the number of samples that `num_samples` become: `num_samples * target / source`, rounded half to even.

    Args:
        num_samples: Samples at the source rate.
        source: Sampling rate that the samples have, Hz.
        target: Sampling rate asked for, Hz.

    Returns:
        The number of samples at the target rate; the fraction is exact, so that no machine rounds it otherwise.
    """
    return round(num_samples * Fraction(target) / Fraction(source))


def resample(signal: NDArray[np.float32], source: float, target: float) -> NDArray[np.float32]:
    """Resamples every lead of a record; sample 0 stays at time 0.

    The edges are continued by their point reflection, which leaves straight lines (a drifting baseline) as they are.
    Rates that agree within 1e-9 give the signal itself. Measured from 500 to 240 Hz, on tones of amplitude 1 away from
    the edges: soxr errs by 7e-7 up to 80 Hz and 6e-5 up to 102 Hz, and lets 4e-7 of a tone above 120 Hz through;
    without it (the extra `io`) a polyphase filter, 7 times slower, errs by 1e-5 up to 102 Hz and lets 9e-6 through.
    The two differ by at most 5e-5 up to 102 Hz, and by more only where they roll off, from there to 120 Hz.

    Args:
        signal: Any unit, shape (L, T), without NaN.
        source: Its sampling rate, Hz.
        target: The sampling rate asked for, Hz.

    Returns:
        The leads at the target rate, shape (L, `resampled_length(T, source, target)`).

    Raises:
        ValueError: If the signal is shorter than 2 samples, or soxr is absent and the rates have no small ratio.
    """
    if math.isclose(source, target, rel_tol=1e-9):
        return signal
    num_samples = signal.shape[1]
    if num_samples < 2:
        raise ValueError(f"resampling needs at least 2 samples, got {num_samples}; give a longer signal")
    exact = Fraction(target) / Fraction(source)
    ratio = exact.limit_denominator(_MAX_DENOMINATOR)
    # whole periods of the ratio before each lead, so that its sample 0 falls on a sample of the padded output
    periods = math.ceil(_REACH * max(1.0, source / target) / ratio.denominator)
    before = periods * ratio.denominator
    after = before + -num_samples % ratio.denominator
    padded = np.pad(signal, ((0, 0), (before, after)), "reflect", reflect_type="odd")
    out = _by_soxr(padded, source, target, ratio) if find_spec("soxr") else _by_polyphase(padded, exact, ratio)
    start = periods * ratio.numerator
    return np.ascontiguousarray(out[:, start : start + resampled_length(num_samples, source, target)])


def bridge(signal: NDArray[np.float32], gaps: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fills gaps by straight lines from the sample before to the sample after; the edges are held.

    Args:
        signal: Shape (L, T).
        gaps: Where samples are missing, shape (L, T); no lead consists of gaps alone.

    Returns:
        The signal with its gaps filled; the same array if there are none.
    """
    if not gaps.any():
        return signal
    filled = signal.copy()
    times = np.arange(signal.shape[1])
    for lead in np.flatnonzero(gaps.any(axis=1)):
        gap = gaps[lead]
        filled[lead, gap] = np.interp(times[gap], times[~gap], signal[lead, ~gap])
    return filled


def resample_gaps(gaps: NDArray[np.bool_], source: float, target: float) -> NDArray[np.bool_]:
    """Says which resampled samples are missing: those nearest in time to a missing one, and those it is nearest to.

    Args:
        gaps: Where samples are missing, shape (L, T).
        source: Sampling rate of the gaps, Hz.
        target: Sampling rate asked for, Hz.

    Returns:
        Shape (L, `resampled_length(T, source, target)`).
    """
    num_samples = gaps.shape[1]
    length = resampled_length(num_samples, source, target)
    if not gaps.any():
        return np.zeros((len(gaps), length), dtype=bool)
    nearest = np.rint(np.arange(length) * (source / target)).astype(np.int64)
    resampled = gaps[:, np.minimum(nearest, num_samples - 1)]
    leads, times = np.nonzero(gaps)
    # at a lower rate a single missing sample may be nearest to none
    resampled[leads, np.minimum(np.rint(times * (target / source)).astype(np.int64), length - 1)] = True
    return resampled


def _by_soxr(signal: NDArray[np.float32], source: float, target: float, ratio: Fraction) -> NDArray[np.float32]:
    import soxr

    if ratio != Fraction(target) / Fraction(source):
        leads = [soxr.resample(lead, source, target, quality="HQ") for lead in signal]
        return cast(NDArray[np.float32], np.stack(leads))
    # one stream for all leads is 3 times faster than one call each; what lies between them is out of the filter's reach
    stream = soxr.resample(signal.ravel(), ratio.denominator, ratio.numerator, quality="HQ")
    return cast(NDArray[np.float32], stream.reshape(len(signal), -1))


def _by_polyphase(signal: NDArray[np.float32], exact: Fraction, ratio: Fraction) -> NDArray[np.float32]:
    drift = float(abs(exact - ratio) * signal.shape[-1])
    if drift > 0.01:
        raise ValueError(
            f"resampling by {float(exact):.9g} needs soxr, pip install ecg_hf[io]: the nearest ratio of whole numbers "
            f"up to {_MAX_DENOMINATOR}, {ratio}, drifts by {drift:.2g} samples over this signal, expected at most 0.01"
        )
    taps = cast(Any, _lowpass(max(ratio.numerator, ratio.denominator)))
    return cast(NDArray[np.float32], resample_poly(signal, ratio.numerator, ratio.denominator, axis=-1, window=taps))


@lru_cache(maxsize=8)
def _lowpass(factor: int) -> NDArray[np.float32]:
    """Designs a filter that keeps up to 0.85 of the lower Nyquist frequency and stops, by 100 dB, what lies above it.

    Args:
        factor: The rate of the filter over the lower of the two rates.

    Returns:
        An odd number of taps, symmetric, that add up to 1.
    """
    stopband_db, transition = 100.0, 0.15
    # Kaiser's formulas for the length and the shape of the window
    half = math.ceil((stopband_db - 7.95) / (2 * 2.285 * math.pi * transition) * factor)
    beta = 0.1102 * (stopband_db - 8.7)
    taps = firwin(2 * half + 1, (1 - transition / 2) / factor, window=("kaiser", beta))
    return cast(NDArray[np.float32], taps.astype(np.float32))
