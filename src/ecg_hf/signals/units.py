"""Units of voltage, and gains in ADC units per mV."""

from decimal import Decimal
from functools import lru_cache

from ecg_hf.errors import EcgUnitsError

# Powers of ten from "per unit" to "per mV"; the sign of micro has two code points.
_PER_MILLIVOLT = {"mv": 0, "uv": 3, "\u00b5v": 3, "\u03bcv": 3, "nv": 6, "v": -3}


@lru_cache(maxsize=256)  # one corpus has few gains, and most headers write the same one twelve times
def gain_per_millivolt(gain: str, unit: str) -> float:
    """Converts a gain to ADC units per mV, rounding once.

    Args:
        gain: ADC units per `unit`, a decimal number as the file writes it.
        unit: A unit of voltage in any case; "MV" is taken for millivolt, since no heart gives a megavolt.

    Returns:
        ADC units per mV, above zero.

    Raises:
        EcgUnitsError: If the unit is not a voltage or the gain not above zero.
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
