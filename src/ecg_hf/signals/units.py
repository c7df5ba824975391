"""Conversion of gains in any unit of voltage to ADC units per mV."""

from decimal import Decimal
from functools import lru_cache

from ecg_hf.errors import EcgUnitsError

# Powers of ten that convert a gain per unit to a gain per mV; the micro sign has two code points.
_PER_MILLIVOLT = {"mv": 0, "uv": 3, "\u00b5v": 3, "\u03bcv": 3, "nv": 6, "v": -3}


@lru_cache(maxsize=256)  # a corpus has few gains, and most headers repeat the same one twelve times
def gain_per_millivolt(gain: str, unit: str) -> float:
    """Converts a gain to ADC units per mV, rounding only once.

    Args:
        gain: ADC units per `unit`, as the decimal number written in the file.
        unit: Unit of voltage, in upper or lower case; "MV" is read as millivolt, since no heart produces megavolts.

    Returns:
        The gain in ADC units per mV, above zero.

    Raises:
        EcgUnitsError: If the unit is not mV, uV, nV or V, or the gain is not above zero.

    Example:
        >>> from ecg_hf.signals.units import gain_per_millivolt
        >>> gain_per_millivolt("4.88", "uV"), gain_per_millivolt("1", "V")
        (4880.0, 0.001)
    """
    power = _PER_MILLIVOLT.get(unit.lower())
    if power is None:
        raise EcgUnitsError(
            f"expected a unit of voltage (mV, uV, nV or V), got {unit[:40]!r}; convert the signal to mV first"
        )
    value = float(Decimal(gain).scaleb(power))
    if value <= 0:
        raise EcgUnitsError(
            f"expected a gain above 0 ADC units per {unit}, got {gain}: 0 marks an uncalibrated signal and a negative "
            "gain an inverted one; find the gain of the device"
        )
    return value
