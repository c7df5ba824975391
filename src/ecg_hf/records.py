"""An ECG record: which leads, which unit, which samples are missing, and whether it looks like an ECG at all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MISSING = -32768  # WFDB's own mark of an invalid sample in 16 bits


@dataclass(frozen=True, eq=False)
class Record:
    """One stored ECG, as its device digitised it.

    Args:
        record_id: Its name, unique in its corpus.
        samples: ADC values, shape (L, T), int16 or int32; `MISSING` (int16) or the minimum of int32 marks a gap.
        gain: ADC units per mV, shape (L,), float64.
        baseline: ADC value of 0 mV, shape (L,), int32.
        leads: Standard names from `LEADS` (other names only for leads outside the twelve, such as "vx").
        sampling_rate: In Hz.
        comments: The header's free text, line by line, without the mark of a comment.
    """

    record_id: str
    samples: NDArray[np.int16] | NDArray[np.int32]
    gain: NDArray[np.float64]
    baseline: NDArray[np.int32]
    leads: tuple[str, ...]
    sampling_rate: float
    comments: tuple[str, ...] = ()

    @property
    def signal(self) -> NDArray[np.float32]:
        """In mV, shape (L, T), float32; a missing sample is NaN."""
        missing = self.samples == np.iinfo(self.samples.dtype).min
        signal = (self.samples - self.baseline[:, None].astype(np.float64)) / self.gain[:, None]
        signal[missing] = np.nan
        return signal.astype(np.float32)
