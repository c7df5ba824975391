"""Checks shared by all decoders: harmless file names, and the layout that a corpus promises for its records."""

import re
from dataclasses import dataclass

from ecg_hf.errors import EcgAccessError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.record import Record

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


def check_file_name(name: str) -> None:
    """Checks that a file name in a header or table cannot lead out of the folder of that header or table.

    Args:
        name: File name as written in the header or table.

    Raises:
        EcgAccessError: If the name is a path or hidden, or has characters other than letters, digits and `.-_`.
    """
    if not _FILE_NAME.fullmatch(name) or ".." in name:
        raise EcgAccessError(
            f"expected the plain name of a file in the same folder, got {name[:80]!r}; rename the file"
        )


@dataclass(frozen=True)
class Layout:
    """Properties that a corpus promises for each of its records, so that a wrong header is noticed.

    Fields that are None are not promised and not checked.

    Args:
        leads: Names of the leads, as in `Record`, in stored order.
        sampling_rate: Sampling rate, in Hz.
        num_samples: Number of samples per lead.
        gain: ADC units per mV, one for all leads or one for each.
        baseline: ADC value of 0 mV, one for all leads or one for each.
    """

    leads: tuple[str, ...]
    sampling_rate: float
    num_samples: int | None = None
    gain: float | tuple[float, ...] | None = None
    baseline: int | tuple[int, ...] | None = None

    def check(self, record: Record) -> None:
        """Checks that a decoded record has the promised properties.

        Args:
            record: A record of the corpus.

        Raises:
            EcgLeadError: If its leads or their order differ.
            EcgIntegrityError: If its sampling rate or number of samples differs.
            EcgUnitsError: If a gain or baseline differs.
        """
        name, remedy = record.record_id, "check the file against the corpus' SHA-256 list"
        if record.leads != self.leads:
            raise EcgLeadError(f"{name}: expected the leads {self.leads} in this order, got {record.leads}; {remedy}")
        if record.sampling_rate != self.sampling_rate:
            raise EcgIntegrityError(f"{name}: expected {self.sampling_rate} Hz, got {record.sampling_rate}; {remedy}")
        if self.num_samples not in (None, record.samples.shape[1]):
            raise EcgIntegrityError(
                f"{name}: expected {self.num_samples} samples per lead, got {record.samples.shape[1]}; {remedy}"
            )
        for promise, values, what in (
            (self.gain, record.gain, "ADC units per mV"),
            (self.baseline, record.baseline, "as ADC value of 0 mV"),
        ):
            expected = list(promise) if isinstance(promise, tuple) else [promise] * len(values)
            if promise is not None and values.tolist() != expected:
                raise EcgUnitsError(f"{name}: expected {promise} {what}, got {values.tolist()}; {remedy}")
