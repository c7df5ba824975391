"""Checks of a caller's ECG before use: sampling rate, lead names, shape, unit and amplitude."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.record import lead_names
from ecg_hf.signals.units import gain_per_millivolt

SAMPLING_RATES = (20.0, 50_000.0)  # Hz
# Median distance of the samples from their lead's median, in mV. It is 0.011 to 0.42 in 1,193 records of PTB-XL, LUDB,
# PTB, Chapman and the 2021 Challenge, so each of them is refused if its unit is wrong by a factor of 1,000 either way.
PLAUSIBLE_AMPLITUDE = (0.002, 5.0)


def check_rate(rate: Any) -> float:
    """Checks that a sampling rate is present, a number, and plausible for an ECG.

    Args:
        rate: Sampling rate as given by the caller, in Hz.

    Returns:
        The same rate, as a float.

    Raises:
        TypeError: If the rate is not a number.
        ValueError: If the rate is None or outside `SAMPLING_RATES`.
    """
    if rate is None:
        raise ValueError(f"sampling_rate is {rate}; give the rate at which the signal was recorded, in Hz, such as 500")
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating):
        raise TypeError(f"sampling_rate must be a number of Hz, got {rate!r}; convert it first")
    low, high = SAMPLING_RATES
    if not low <= rate <= high:
        raise ValueError(
            f"sampling_rate must lie in {low:g} to {high:g} Hz, got {rate}; convert kHz or intervals to Hz"
        )
    return float(rate)


def check_leads(leads: Sequence[str]) -> tuple[str, ...]:
    """Converts lead names to standard names (see `lead_names`), and refuses a single string, a sequence of letters.

    Args:
        leads: Lead names as given by the caller.

    Returns:
        One standard name per lead, in the same order.

    Raises:
        TypeError: If `leads` is a string.
        EcgLeadError: If a name is unknown or repeated.
    """
    if isinstance(leads, str):
        raise TypeError(f"leads must be a sequence of names, got the string {leads!r}; give ({leads!r},) for one lead")
    return lead_names(leads)


def as_batch(signal: Any, num_leads: int) -> NDArray[Any]:
    """Converts one or several signals to an array with a batch axis.

    Args:
        signal: One signal (L, T), several (B, L, T), or a list of signals (L, T) of equal length.
        num_leads: Number of leads that the caller named.

    Returns:
        The signals, shape (B, L, T), in their original type.

    Raises:
        TypeError: If the samples are not real numbers.
        ValueError: If the shape is none of the above, time comes before leads, or there are no samples.
        EcgLeadError: If there are more or fewer leads than names.
    """
    if isinstance(signal, list | tuple):
        parts = [np.asarray(part) for part in signal]
        if len({part.shape for part in parts}) != 1:
            shapes = [part.shape for part in parts]
            raise ValueError(f"the signals of one call must have one shape, got {shapes}; call once for each length")
        signal = np.stack(parts)
    batch = np.asarray(signal)
    if batch.dtype.kind not in "fiu":
        raise TypeError(f"a signal must be made of real numbers, got {batch.dtype}; convert it to float32 mV")
    expected = f"a signal must have the shape ({num_leads}, T) or (B, {num_leads}, T), got {batch.shape}"
    if batch.ndim not in (2, 3):
        raise ValueError(f"{expected}; one lead alone is signal[None] with its name in leads")
    if batch.shape[-2] != num_leads:
        if batch.shape[-1] == num_leads:
            raise ValueError(f"{expected}, time before leads; swap its last two axes")
        raise EcgLeadError(f"{expected}; name in leads exactly the leads that the signal has")
    if not batch.size:
        raise ValueError(f"{expected}, which is empty; check how it was read")
    return batch if batch.ndim == 3 else batch[None]


def to_millivolts(batch: NDArray[Any], unit: str | None) -> NDArray[np.float32]:
    """Converts signals to mV.

    Args:
        batch: Signals of any shape.
        unit: Unit of voltage; None means mV and is accepted only for floating-point signals.

    Returns:
        The signals in mV, float32.

    Raises:
        EcgUnitsError: If the unit is unknown, or is None for signals of whole numbers.
        EcgIntegrityError: If a sample is infinite.
    """
    if unit is None and batch.dtype.kind != "f":
        raise EcgUnitsError(
            f"expected mV, got whole numbers ({batch.dtype}); divide ADC counts by the gain or give a unit"
        )
    per_millivolt = gain_per_millivolt("1", unit or "mV")
    with np.errstate(over="ignore"):
        signal = (batch if per_millivolt == 1 else batch / per_millivolt).astype(np.float32, copy=False)
    if np.isinf(signal).any():
        raise EcgIntegrityError(
            f"expected finite samples, got {np.isinf(signal).sum()} infinite ones; mark gaps as NaN"
        )
    return signal


def check_amplitude(signal: NDArray[np.float32], unit: str) -> None:
    """Checks that a signal is neither constant nor too large or too small for an ECG, as it is if its unit is wrong.

    Args:
        signal: Signal converted to mV, shape (L, T); NaN marks a missing sample.
        unit: Unit from which the signal was converted.

    Raises:
        EcgUnitsError: If all leads are constant, or the amplitude is outside `PLAUSIBLE_AMPLITUDE`; in the second case
            the message lists the units that would fit.
    """
    some = signal[:, :: max(1, signal.shape[1] // 500)]
    gaps = np.isnan(some)
    median = np.nanmedian if gaps.any() else np.median
    some = some[~gaps.all(axis=1)]
    if not len(some):
        return  # no samples at all, which is not a matter of units
    distances = np.abs(some - median(some, axis=1, keepdims=True))
    distances = distances[distances > 0]  # zero padding and lost electrodes carry no information about the unit
    if not distances.size:
        raise EcgUnitsError(f"expected an ECG, got {len(signal)} constant leads; check the electrodes or the decoder")
    amplitude = float(np.median(distances))
    low, high = PLAUSIBLE_AMPLITUDE
    if low <= amplitude <= high:
        return
    raw = amplitude * gain_per_millivolt("1", unit)
    fitting = [name for name in ("mV", "uV", "V") if low <= raw / gain_per_millivolt("1", name) <= high]
    remedy = f"it looks like {' or '.join(fitting)}, so give that unit, or " if fitting else ""
    raise EcgUnitsError(
        f"expected samples that deviate by {low:g} to {high:g} mV from their lead's median, got {amplitude:.3g} mV "
        f"read as {unit}; {remedy}divide by the gain if these are ADC counts"
    )
