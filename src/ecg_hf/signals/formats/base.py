"""What every decoder needs: units of voltage, harmless file names, and what a corpus promises about its records."""

import re
from dataclasses import dataclass

from ecg_hf.errors import EcgAccessError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.record import Record

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


def check_file_name(name: str) -> None:
    """Refuses a name that could lead out of the folder of the file that mentions it.

    Args:
        name: As a header or table writes it.

    Raises:
        EcgAccessError: If it is a path, hidden, or has characters other than letters, digits and `.-_`.
    """
    if not _FILE_NAME.fullmatch(name) or ".." in name:
        raise EcgAccessError(
            f"expected the plain name of a file in the same folder, got {name[:80]!r}; rename the file"
        )


@dataclass(frozen=True)
class Layout:
    """What a corpus promises about each of its records, so that a header that says otherwise is found out.

    Fields that are None are not promised, and a change of them in a header is not noticed.

    Args:
        leads: Names as in `Record`, in stored order.
        sampling_rate: In Hz.
        num_samples: T.
        gain: ADC units per mV, one for all leads or one for each.
        baseline: ADC value of 0 mV, one for all leads or one for each.
    """

    leads: tuple[str, ...]
    sampling_rate: float
    num_samples: int | None = None
    gain: float | tuple[float, ...] | None = None
    baseline: int | tuple[int, ...] | None = None

    def check(self, record: Record) -> None:
        """Compares a decoded record with the promise.

        Args:
            record: Any record of the corpus.

        Raises:
            EcgLeadError: If its leads are others, or in another order.
            EcgIntegrityError: If its sampling rate or number of samples differ.
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
