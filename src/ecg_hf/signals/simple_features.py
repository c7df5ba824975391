"""Hand-crafted features of one ECG: the baseline that needs no network."""

import numpy as np
from numpy.typing import NDArray

BANDS = ((0.0, 1.0), (1.0, 5.0), (5.0, 15.0), (15.0, 40.0))  # Hz
HEART_RATES = (30, 200)  # beats per minute


def simple_features(signal: NDArray[np.floating], sampling_rate: float) -> NDArray[np.float64]:
    """Computes simple features of an ECG.

    These are, for each lead, mean, standard deviation and log power in four frequency bands, and for the whole ECG the
    heart rate and its regularity, from the autocorrelation of the slopes.

    Args:
        signal: Signal without gaps, shape (L, T), at least 2.1 s long.
        sampling_rate: Sampling rate, in Hz.

    Returns:
        Features, shape (6 L + 2,).

    Example:
        >>> import numpy as np
        >>> generator = np.random.default_rng(0)
        >>> simple_features(generator.normal(size=(12, 2400)), 240).shape
        (74,)
    """
    power = np.abs(np.fft.rfft(signal, axis=1)) ** 2 / signal.shape[1]
    frequency = np.fft.rfftfreq(signal.shape[1], 1 / sampling_rate)
    powers = [np.log(power[:, (frequency >= low) & (frequency < high)].mean(axis=1) + 1e-6) for low, high in BANDS]
    slope = np.abs(np.diff(signal, axis=1)).sum(axis=0)
    slope = slope - slope.mean()
    correlation = np.correlate(slope, slope, "full")[len(slope) - 1 :]
    first, last = (round(sampling_rate * 60 / rate) for rate in reversed(HEART_RATES))
    beat = first + int(correlation[first:last].argmax())
    regularity = correlation[beat] / max(correlation[0], 1e-9)
    rhythm = [60 * sampling_rate / beat, regularity]
    return np.concatenate([signal.mean(axis=1), signal.std(axis=1), *powers, rhythm])
