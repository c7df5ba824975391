"""Resampling of signals, with soxr if it is installed and a polyphase filter otherwise, and treatment of gaps."""

import math
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, resample_poly

_MAX_DENOMINATOR = 10_000
_REACH = 100  # samples of the lower rate after which the impulse responses of both methods are below 1e-7 of their peak


def resampled_length(num_samples: int, source: float, target: float) -> int:
    """Computes the number of samples after resampling: `num_samples * target / source`, rounded half to even.

    Args:
        num_samples: Number of samples at the source rate.
        source: Source sampling rate, in Hz.
        target: Target sampling rate, in Hz.

    Returns:
        The number of samples at the target rate, computed with exact fractions and so the same on every machine.
    """
    return round(num_samples * Fraction(target) / Fraction(source))


def resample(signal: NDArray[np.float32], source: float, target: float) -> NDArray[np.float32]:
    """Resamples every lead of a record; sample 0 stays at time 0.

    The signal is continued beyond its edges by point reflection, which preserves straight lines (a drifting baseline).
    If the rates agree within 1e-9, the signal itself is returned. Measured from 500 to 240 Hz, on tones of amplitude 1
    and away from the edges, the error of soxr (extra `io`) is 7e-7 up to 80 Hz and 6e-5 up to 102 Hz, and 4e-7 of a
    tone above 120 Hz passes. Without soxr, a polyphase filter that is 7 times slower has an error of 1e-5 up to 102 Hz,
    and 9e-6 of a tone above 120 Hz passes. Both results differ by at most 5e-5 up to 102 Hz; they differ by more only
    in the transition band from there to 120 Hz.

    Args:
        signal: Signal in any unit, shape (L, T), without NaN.
        source: Sampling rate of `signal`, in Hz.
        target: Target sampling rate, in Hz.

    Returns:
        The leads at the target rate, shape (L, `resampled_length(T, source, target)`).

    Raises:
        ValueError: If the signal is shorter than 2 samples, or if soxr is not installed and the ratio of the rates is
            not close to a ratio of small whole numbers.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.signals.resampling import resample
        >>> tone = np.sin(2 * np.pi * 10 * np.arange(5000) / 500)[None].astype(np.float32)  # 10 Hz, for 10 s
        >>> resampled = resample(tone, 500, 240)
        >>> resampled.shape, bool(np.allclose(resampled, np.sin(2 * np.pi * 10 * np.arange(2400) / 240), atol=1e-3))
        ((1, 2400), True)
    """
    if math.isclose(source, target, rel_tol=1e-9):
        return signal
    num_samples = signal.shape[1]
    if num_samples < 2:
        raise ValueError(f"resampling needs at least 2 samples, got {num_samples}; give a longer signal")
    exact = Fraction(target) / Fraction(source)
    ratio = exact.limit_denominator(_MAX_DENOMINATOR)
    # whole periods of the ratio are added before each lead, so that its sample 0 falls on a sample of the padded output
    periods = math.ceil(_REACH * max(1.0, source / target) / ratio.denominator)
    before = periods * ratio.denominator
    after = before + -num_samples % ratio.denominator
    padded = np.pad(signal, ((0, 0), (before, after)), "reflect", reflect_type="odd")
    out = _by_soxr(padded, source, target, ratio) if find_spec("soxr") else _by_polyphase(padded, exact, ratio)
    start = periods * ratio.numerator
    return np.ascontiguousarray(out[:, start : start + resampled_length(num_samples, source, target)])


def bridge(signal: NDArray[np.float32], gaps: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fills gaps by linear interpolation; a gap at an edge is filled with the nearest sample.

    Args:
        signal: Signal in any unit, shape (L, T).
        gaps: True where a sample is missing, shape (L, T); no lead may consist of gaps only.

    Returns:
        The signal with its gaps filled, shape (L, T); the same array if there are no gaps.
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
    """Computes which samples are missing after resampling.

    A resampled sample is missing if the source sample nearest to it in time is missing, or if it is itself the nearest
    one to a missing source sample.

    Args:
        gaps: True where a sample is missing, shape (L, T).
        source: Source sampling rate, in Hz.
        target: Target sampling rate, in Hz.

    Returns:
        True where a resampled sample is missing, shape (L, `resampled_length(T, source, target)`).
    """
    num_samples = gaps.shape[1]
    length = resampled_length(num_samples, source, target)
    if not gaps.any():
        return np.zeros((len(gaps), length), dtype=bool)
    nearest = np.rint(np.arange(length) * (source / target)).astype(np.int64)
    resampled = gaps[:, np.minimum(nearest, num_samples - 1)]
    leads, times = np.nonzero(gaps)
    # at a lower rate, a single missing sample may be the nearest one to no resampled sample
    resampled[leads, np.minimum(np.rint(times * (target / source)).astype(np.int64), length - 1)] = True
    return resampled


def _by_soxr(signal: NDArray[np.float32], source: float, target: float, ratio: Fraction) -> NDArray[np.float32]:
    import soxr

    if ratio != Fraction(target) / Fraction(source):
        leads = [soxr.resample(lead, source, target, quality="HQ") for lead in signal]
        return cast(NDArray[np.float32], np.stack(leads))
    # one stream of all leads is 3 times faster than one call per lead; the padding keeps them out of each other's reach
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
    """Designs a filter that passes up to 0.85 of the lower Nyquist frequency and attenuates by 100 dB above it.

    Args:
        factor: Rate at which the filter runs, divided by the lower of the two sampling rates.

    Returns:
        The taps, odd in number, symmetric, with sum 1.
    """
    stopband_db, transition = 100.0, 0.15
    # Kaiser's formulas for the length and the shape of the window
    half = math.ceil((stopband_db - 7.95) / (2 * 2.285 * math.pi * transition) * factor)
    beta = 0.1102 * (stopband_db - 8.7)
    taps = firwin(2 * half + 1, (1 - transition / 2) / factor, window=("kaiser", beta))
    return cast(NDArray[np.float32], taps.astype(np.float32))
