"""The ECG record, with gains, lead names and gaps; the spellings of lead names, and the laws of the limb leads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgFormatError, EcgLeadError, EcgUnitsError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
FRANK_LEADS = ("vx", "vy", "vz")
MISSING = -32768  # WFDB's marker of an invalid 16-bit sample

# Each limb lead as a weighted sum of I and II: Einthoven's law, III = II - I, and Goldberger's augmented leads.
LIMB_LEADS = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])

_PREFIX = re.compile(r"mdc_ecg_lead_|(?:(?:ecg|lead)[ _]+)+")
_NAMES = {lead.lower(): lead for lead in LEADS} | {"di": "I", "dii": "II", "diii": "III"}
_GAINS = (1e-3, 1e9)  # ADC units per mV: steps from 1 V down to 1 pV


def standard_lead(name: str) -> str:
    """Returns the standard name of one of the twelve leads, whatever its case, prefix or national spelling.

    Only spellings of the same lead are mapped. "-aVR" is a different signal, and so is "MLII", whose electrodes are on
    the chest: both are refused instead of being mapped to aVR and II.

    Args:
        name: Name as written by a device or file, such as "avf", "DII", "Lead I", "ECG V1" or "MDC_ECG_LEAD_AVR".

    Returns:
        A name in `LEADS`.

    Raises:
        EcgLeadError: If `name` is not a spelling of one of the twelve leads.

    Example:
        >>> from ecg_hf.signals.record import standard_lead
        >>> [standard_lead(name) for name in ("avf", "DII", "Lead I", "MDC_ECG_LEAD_AVR")]
        ['aVF', 'II', 'I', 'aVR']
    """
    text = name.strip().lower()
    prefix = _PREFIX.match(text)
    lead = _NAMES.get(text[prefix.end() :] if prefix else text)
    if lead is None:
        raise EcgLeadError(
            f"expected a spelling of one of {', '.join(LEADS)}, got {name[:80]!r}; rename it if you know it"
        )
    return lead


def lead_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names that a record uses for its leads: the standard names, and Frank's vx, vy and vz.

    Args:
        names: Names as written in a file, in stored order.

    Returns:
        One name per lead, in the same order.

    Raises:
        EcgLeadError: If a name is unknown, or two names denote the same lead.
    """
    leads = tuple(name.lower() if name.lower() in FRANK_LEADS else standard_lead(name) for name in names)
    if len(set(leads)) < len(leads):
        repeated = sorted({lead for lead in leads if leads.count(lead) > 1})
        raise EcgLeadError(f"expected every lead once, got {', '.join(repeated)} repeatedly in {list(names)}; drop one")
    return leads


def derive_limb_leads(signal: NDArray[np.floating], leads: Sequence[str]) -> NDArray[np.floating]:
    """Computes the six limb leads from any two of them.

    Limb leads in `signal` are returned unchanged. The missing ones are computed from the first two that are present, in
    the order of `LEADS`; where a sample of either is NaN, the computed sample is NaN.

    Args:
        signal: Signal in any unit of voltage, shape (L, T), floating point.
        leads: Standard names, one per row of `signal`; leads other than limb leads are ignored.

    Returns:
        I, II, III, aVR, aVL and aVF, shape (6, T).

    Raises:
        EcgLeadError: If fewer than two limb leads are given, or a lead is repeated.
        TypeError: If the samples are integers, which cannot hold the halves in the augmented leads.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.signals.record import derive_limb_leads
        >>> derive_limb_leads(np.array([[0.4], [1.0]]), ["I", "II"])[:, 0].round(3).tolist()  # in mV
        [0.4, 1.0, 0.6, -0.7, -0.1, 0.8]
    """
    if not np.issubdtype(signal.dtype, np.floating):
        raise TypeError(f"expected a floating-point signal, got {signal.dtype}; use Record.signal")
    rows = {LEADS.index(lead): row for lead, row in zip(leads, signal, strict=True) if lead in LEADS[:6]}
    if len(rows) < 2 or len(set(leads)) < len(leads):
        raise EcgLeadError(f"expected two or more limb leads, each once, got {list(leads)}; the others come from those")
    first, second = sorted(rows)[:2]
    weights = LIMB_LEADS @ np.linalg.inv(LIMB_LEADS[[first, second]])
    weights = np.rint(weights * 12) / 12  # exact weights are multiples of 1/12
    derived = (a * rows[first] + b * rows[second] for a, b in weights.astype(signal.dtype))
    return np.stack([rows.get(index, row) for index, row in enumerate(derived)])


@dataclass(frozen=True, eq=False)
class Record:
    """One stored ECG, as digitised by its device.

    Args:
        record_id: Name of the record, unique in its corpus.
        samples: ADC values, shape (L, T), int16 or int32; `MISSING` (int16) or the minimum of int32 marks a gap.
        gain: ADC units per mV, shape (L,), float64.
        baseline: ADC value of 0 mV, shape (L,), int32.
        leads: Standard names from `LEADS` (other names only for leads outside the twelve, such as "vx").
        sampling_rate: Sampling rate, in Hz.
        comments: Lines of free text from the header, without comment characters.

    Raises:
        EcgFormatError: If shapes or types disagree, or the sampling rate is not a positive number.
        EcgUnitsError: If a gain is zero, not finite, or outside the range of electrocardiographs.
        EcgLeadError: If a lead is repeated, or a standard name is not in its standard spelling.

    Example:
        >>> import numpy as np
        >>> from ecg_hf import Record
        >>> signal = np.array([[0.0, 0.1, np.nan], [0.0, 0.2, 0.3]])  # in mV, with a missing sample
        >>> record = Record.from_millivolts("a-record", signal, ["I", "II"], sampling_rate=500)
        >>> record.samples.tolist()
        [[0, 100, -32768], [0, 200, 300]]
        >>> print(record.select(["aVF", "II"], derive=True).signal)
        [[0.   0.15  nan]
         [0.   0.2  0.3 ]]
    """

    record_id: str
    samples: NDArray[np.int16] | NDArray[np.int32]
    gain: NDArray[np.float64]
    baseline: NDArray[np.int32]
    leads: tuple[str, ...]
    sampling_rate: float
    comments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape, num_leads = self.samples.shape, len(self.leads)
        if len(shape) != 2 or shape[0] != num_leads or shape[1] == 0 or self.samples.dtype not in (np.int16, np.int32):
            raise EcgFormatError(
                f"{self.record_id}: expected int16 or int32 samples of shape ({num_leads}, T), "
                f"got {self.samples.dtype} of {shape}; give one row per lead and at least one sample"
            )
        if (self.gain.shape, self.baseline.shape) != ((num_leads,), (num_leads,)):
            raise EcgFormatError(
                f"{self.record_id}: expected one gain and one baseline for each of {num_leads} leads, "
                f"got shapes {self.gain.shape} and {self.baseline.shape}"
            )
        if not 0 < self.sampling_rate < np.inf:
            raise EcgFormatError(f"{self.record_id}: expected a sampling rate above 0 Hz, got {self.sampling_rate}")
        if not all(_GAINS[0] <= abs(gain) <= _GAINS[1] for gain in self.gain.tolist()):
            raise EcgUnitsError(
                f"{self.record_id}: expected gains from {_GAINS[0]:g} to {_GAINS[1]:g} ADC units per mV, "
                f"got {self.gain.tolist()}; find the unit of the source"
            )
        if len(set(self.leads)) < num_leads or any(_NAMES.get(lead.lower(), lead) != lead for lead in self.leads):
            raise EcgLeadError(
                f"{self.record_id}: expected every lead once and in its standard spelling, got {list(self.leads)}; "
                "name them with lead_names"
            )

    @property
    def signal(self) -> NDArray[np.float32]:
        """Signal in mV, shape (L, T), float32; a missing sample is NaN."""
        # Then the division is the only step that rounds in float32, and its result is that of float64, cast to float32.
        narrow = (
            self.samples.dtype == np.int16
            and bool((np.abs(self.baseline) < 1 << 23).all())
            and np.array_equal(self.gain, self.gain.astype(np.float32))
        )
        return self._millivolts(np.float32 if narrow else np.float64).astype(np.float32, copy=False)

    def _millivolts(self, dtype: type[np.float32] | type[np.float64]) -> NDArray[np.floating]:
        signal: NDArray[Any] = self.samples.astype(dtype)
        if self.baseline.any():
            signal -= self.baseline[:, None].astype(dtype)
        signal /= self.gain[:, None].astype(dtype)
        gap = np.iinfo(self.samples.dtype).min
        if self.samples.min() == gap:
            signal[self.samples == gap] = np.nan
        return signal

    def select(self, leads: Sequence[str] = LEADS, derive: bool = False) -> "Record":
        """Selects and reorders leads by name.

        Args:
            leads: Names of the leads to keep, in their new order.
            derive: Whether to compute missing limb leads from two present ones. If any is computed, the record becomes
                int16. A lead computed from I and II of equal gain is exact if it fits 16 bits at twice that gain; any
                other is within half a step of its own gain.

        Returns:
            A record of exactly these leads.

        Raises:
            EcgLeadError: If a lead is missing and cannot or may not be derived.
        """
        missing = [lead for lead in leads if lead not in self.leads]
        if missing and not (derive and set(missing) <= set(LEADS[:6])):
            raise EcgLeadError(
                f"{self.record_id}: expected the leads {list(leads)}, got {list(self.leads)}; {missing} missing, "
                "ask for fewer leads, or for derive=True if only limb leads are missing"
            )
        source = self._with_limb_leads(missing) if missing else self
        rows = [source.leads.index(lead) for lead in leads]
        return replace(
            source,
            samples=source.samples[rows],
            gain=source.gain[rows],
            baseline=source.baseline[rows],
            leads=tuple(leads),
        )

    def _with_limb_leads(self, missing: Sequence[str]) -> "Record":
        record = self.to_int16()
        signal = derive_limb_leads(self._millivolts(np.float64), self.leads)
        rows = [LEADS.index(lead) for lead in missing]
        # A Goldberger lead contains halves of ADC units, so twice the gain makes its samples whole numbers.
        derived = Record.from_millivolts(
            self.record_id, signal[rows], missing, self.sampling_rate, 2 * float(np.abs(record.gain).max())
        )
        return replace(
            record,
            samples=np.concatenate([record.samples, derived.samples]),
            gain=np.concatenate([record.gain, derived.gain]),
            baseline=np.concatenate([record.baseline, derived.baseline]),
            leads=(*record.leads, *missing),
        )

    def to_int16(self) -> "Record":
        """Converts the samples to 16 bits, per lead: exactly if the lead's range fits, else rounded to a coarser gain.

        Returns:
            The same record if it is int16 already, else a record with the same gaps, within half a step of its gain.
        """
        if self.samples.dtype == np.int16:
            return self
        wide, gaps = self.samples.astype(np.int64), self.samples == np.iinfo(np.int32).min
        low = np.where(gaps, np.iinfo(np.int64).max, wide).min(axis=1)
        high = np.where(gaps, np.iinfo(np.int64).min, wide).max(axis=1)
        low, high = np.where(low > high, 0, low), np.where(low > high, 0, high)  # a lead that consists of gaps only
        fits = (low > MISSING) & (high <= -MISSING - 1)
        step = -((low - high) // 65_532)  # two of the 65,535 values are left for rounding
        step = np.where(fits, 1, np.maximum(step, 1))
        # The baseline stays a whole number: the new origin is a whole number of steps away from it.
        shift = np.where(fits, self.baseline, np.rint((self.baseline - (low + high) // 2) / step)).astype(np.int64)
        if (np.abs(shift) > np.iinfo(np.int32).max).any():
            raise EcgUnitsError(
                f"{self.record_id}: expected baselines in 32 bits, got {shift.tolist()}; check the source"
            )
        samples = np.rint((wide - self.baseline[:, None]) / step[:, None]).astype(np.int64) + shift[:, None]
        samples[gaps] = MISSING
        return replace(self, samples=samples.astype(np.int16), gain=self.gain / step, baseline=shift.astype(np.int32))

    @classmethod
    def from_millivolts(
        cls,
        record_id: str,
        signal: NDArray[np.floating],
        leads: Sequence[str],
        sampling_rate: float,
        gain: float = 1000.0,
        comments: tuple[str, ...] = (),
    ) -> "Record":
        """Digitises a signal that its source stores as floating-point numbers.

        Args:
            record_id: Name of the record, unique in its corpus.
            signal: Signal in mV, shape (L, T); NaN marks a missing sample.
            leads: Standard names, one per row of `signal`.
            sampling_rate: Sampling rate, in Hz.
            gain: ADC units per mV; if a lead would exceed 16 bits, its gain is divided by a whole number.
            comments: Lines of free text.

        Returns:
            A record of int16 samples whose signal is within half an ADC step of `signal`.

        Raises:
            EcgFormatError: If a sample is infinite.
        """
        if np.isinf(signal).any():
            raise EcgFormatError(f"{record_id}: expected finite samples or NaN, got infinity; mark gaps as NaN")
        values = signal.astype(np.float64)
        gaps = np.isnan(values)
        largest = np.where(gaps, 0, np.abs(values)).max(axis=1, initial=0)
        gains = gain / np.maximum(np.ceil(largest * gain / 32_767), 1)
        samples = np.rint(np.where(gaps, 0, values * gains[:, None])).astype(np.int16)
        samples[gaps] = MISSING
        baseline = np.zeros(len(gains), np.int32)
        return cls(record_id, samples, gains, baseline, tuple(leads), sampling_rate, comments)
