"""What a caller hands over as an ECG: its rate, lead names, shape, unit and amplitude, checked before use."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.record import lead_names
from ecg_hf.signals.units import gain_per_millivolt

SAMPLING_RATES = (20.0, 50_000.0)  # Hz
# mV, of the median distance from a lead's median; it is 0.011 to 0.42 in 1,193 records of PTB-XL, LUDB, PTB, Chapman
# and the 2021 Challenge, so that each of them is refused when its unit is wrong by a factor of 1,000 either way
PLAUSIBLE_AMPLITUDE = (0.002, 5.0)


def check_rate(rate: Any) -> float:
    """Gives a sampling rate in Hz, which must be there, a number, and one that an ECG may have.

    Args:
        rate: What the caller gave, Hz.

    Returns:
        The same.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is absent or outside `SAMPLING_RATES`.
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
    """Gives the standard names of leads (see `lead_names`), refusing one string, which is a sequence of letters.

    Args:
        leads: What the caller gave.

    Returns:
        One name per lead, in the same order.

    Raises:
        TypeError: If `leads` is a string.
        EcgLeadError: If a name is unknown or repeated.
    """
    if isinstance(leads, str):
        raise TypeError(f"leads must be a sequence of names, got the string {leads!r}; give ({leads!r},) for one lead")
    return lead_names(leads)


def as_batch(signal: Any, num_leads: int) -> NDArray[Any]:
    """Gives signals as one array of real numbers.

    Args:
        signal: One signal (L, T), several (B, L, T), or a list of (L, T) of equal length.
        num_leads: How many leads have a name.

    Returns:
        Shape (B, L, T), of the type that came.

    Raises:
        TypeError: If the numbers are not real.
        ValueError: If the shape is another, time comes before the leads, or there is no sample.
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
        unit: A unit of voltage; None for mV, which whole numbers are not believed to be.

    Returns:
        The same in mV, float32.

    Raises:
        EcgUnitsError: If the unit is unknown, or is None for whole numbers.
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
    """Refuses a signal that is too large or too small for an ECG, or constant: its unit is most likely another.

    Args:
        signal: In mV if `unit` is right, shape (L, T); NaN is missing.
        unit: The unit that it was read as.

    Raises:
        EcgUnitsError: If the amplitude is outside `PLAUSIBLE_AMPLITUDE`; the message names the units that would fit.
    """
    some = signal[:, :: max(1, signal.shape[1] // 500)]
    gaps = np.isnan(some)
    median = np.nanmedian if gaps.any() else np.median
    some = some[~gaps.all(axis=1)]
    if not len(some):
        return  # no lead at all: not a question of units
    distances = np.abs(some - median(some, axis=1, keepdims=True))
    distances = distances[distances > 0]  # zero padding and lost electrodes say nothing about the unit
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
        f"expected leads that stray by {low:g} to {high:g} mV from their median, got {amplitude:.3g} mV read as {unit}"
        f"; {remedy}divide by the gain if these are ADC counts"
    )
