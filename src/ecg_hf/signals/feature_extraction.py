"""The feature extractor, a model's input contract: it turns an ECG into the input that the model was trained on."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from transformers import BatchFeature, SequenceFeatureExtractor

from ecg_hf.errors import EcgError, EcgIntegrityError, EcgLeadError
from ecg_hf.signals.inputs import as_batch, check_amplitude, check_leads, check_rate, to_millivolts
from ecg_hf.signals.record import LEADS, derive_limb_leads
from ecg_hf.signals.resampling import bridge, resample, resample_gaps, resampled_length
from ecg_hf.signals.row import row_to_signal

# Statistics of the raw signals of PTB-XL in mV, in the order of LEADS. Other publications list these numbers in the
# order I, II, V1-V6, III, aVR, aVL, aVF.
PTBXL_MEAN = (
    *(-0.00184586, -0.00130277, 0.00054329, 0.00155546, -0.00114379, -0.00035649),
    *(0.00017031, -0.00091313, -0.00148835, -0.00174687, -0.00077071, -0.00207407),
)
PTBXL_STD = (
    *(0.16401004, 0.1647168, 0.17128962, 0.14030828, 0.14606956, 0.14656108),
    *(0.23374124, 0.33767231, 0.33362807, 0.30583013, 0.2731171, 0.27554379),
)
CONTRACT_VERSION = 1  # increase it when the same fields produce a different input
MIN_STD = 0.001  # mV, the usual resolution; noise of a lead that is flatter than this is not amplified to unit variance

_CHOICES = {
    "normalization": ("none", "record", "corpus"),
    "missing_leads": ("refuse", "derive", "zero"),
    "missing_samples": ("refuse", "zero", "interpolate"),
}


class EcgFeatureExtractor(SequenceFeatureExtractor):
    """Preprocessing of an ECG for a model, saved beside the weights as preprocessor_config.json.

    The steps are, in this order: leads are arranged by name, missing leads and samples are treated, the signal is
    resampled, and the signal is normalised. Input for which no treatment was chosen is refused with an error that
    states the remedy; nothing is guessed.

    Args:
        sampling_rate: Sampling rate of the model's input, in Hz.
        leads: Leads of the model's input in their order, out of `LEADS`.
        num_samples: Length of the crops that the model was trained on, at `sampling_rate`; a shorter signal is
            refused. None if any length is accepted.
        normalization: "none": the signal stays in mV. "record": each lead of a record gets mean 0 and standard
            deviation 1 over its present samples (the divisor is at least `MIN_STD`). "corpus": each lead is shifted by
            its `mean` and divided by its `std`, the same for all records.
        mean: Mean of each lead in mV, in the order of `leads`, such as `PTBXL_MEAN`; only for normalization "corpus".
        std: Standard deviation of each lead in mV, likewise, such as `PTBXL_STD`.
        missing_leads: Treatment of missing leads. "refuse": an error. "derive": limb leads are computed from two others
            by Einthoven's and Goldberger's laws; other leads are refused. "zero": a missing lead is 0 after
            normalisation, and the features include a `lead_mask`.
        missing_samples: Treatment of NaN. "refuse": an error. "interpolate": linear interpolation, and the nearest
            sample at the edges. "zero": 0 after normalisation (and interpolated before, to keep the filter from
            ringing). A lead that consists of NaN only is a missing lead.
        kwargs: Constants in a saved configuration, which must have their present values: `unit` "mV",
            `contract_version` and `feature_extractor_type`; also `processor_class`.

    Raises:
        TypeError: If a key is unknown.
        ValueError: If a value is not one of those above, or the saved configuration is of another version.
        EcgLeadError: If `leads` are not standard leads, each once.

    Example:
        >>> import ecg_hf
        >>> row = next(iter(ecg_hf.load_corpus("synthetic", split="test", streaming=True, num_records=20)))
        >>> signal = ecg_hf.row_to_signal(row)  # in mV
        >>> extractor = ecg_hf.EcgFeatureExtractor(sampling_rate=240, normalization="record", missing_leads="derive")
        >>> extractor(signal, sampling_rate=500)["signal"].shape
        (1, 12, 2400)
        >>> leads = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
        >>> extractor(signal[[0, 1, 6, 7, 8, 9, 10, 11]], sampling_rate=500, leads=leads)["signal"].shape
        (1, 12, 2400)
        >>> extractor(signal)
        Traceback (most recent call last):
            ...
        ValueError: sampling_rate is None; give the rate at which the signal was recorded, in Hz, such as 500
    """

    model_input_names: ClassVar[list[str]] = ["signal"]

    def __init__(
        self,
        sampling_rate: float = 240,
        leads: Sequence[str] = LEADS,
        num_samples: int | None = None,
        normalization: str = "none",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        missing_leads: str = "refuse",
        missing_samples: str = "refuse",
        **kwargs: Any,
    ) -> None:
        processor_class = kwargs.pop("processor_class", None)
        for key, value in kwargs.items():
            if key not in self._facts():
                raise TypeError(f"{type(self).__name__} has no field {key!r}; its fields are {self._fields()}")
            if value != self._facts()[key]:
                raise ValueError(f"{key} must be {self._facts()[key]!r}, got {value!r}; update ecg_hf or correct it")
        super().__init__(len(leads), cast(Any, check_rate(sampling_rate)), 0.0, processor_class=processor_class)
        self.leads = list(check_leads(leads))
        self.num_samples = num_samples
        self.normalization = normalization
        self.mean = None if mean is None else [float(value) for value in mean]
        self.std = None if std is None else [float(value) for value in std]
        self.missing_leads = missing_leads
        self.missing_samples = missing_samples
        self._validate()

    @classmethod
    def _fields(cls) -> list[str]:
        return [name for name in inspect.signature(cls).parameters if name != "kwargs"]

    @classmethod
    def _facts(cls) -> dict[str, Any]:
        return {"contract_version": CONTRACT_VERSION, "feature_extractor_type": cls.__name__, "unit": "mV"}

    def _validate(self) -> None:
        if not self.leads or not set(self.leads) <= set(LEADS):
            raise EcgLeadError(f"leads must be at least one of {LEADS}, got {self.leads}; leave the others out")
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} must be one of {choices}, got {getattr(self, field)!r}")
        if self.num_samples is not None and (type(self.num_samples) is not int or self.num_samples < 1):
            raise ValueError(f"num_samples must be a whole number above 0, or None, got {self.num_samples!r}")
        statistics = (self.mean, self.std)
        if self.normalization != "corpus" and statistics != (None, None):
            raise ValueError(f"mean and std belong to normalization 'corpus', got them with {self.normalization!r}")
        if self.normalization == "corpus":
            mean, std = np.array(self.mean or []), np.array(self.std or [])
            if not len(mean) == len(std) == len(self.leads):
                raise ValueError(
                    f"normalization 'corpus' needs a mean and a std for each of {len(self.leads)} leads, "
                    f"got {statistics}; those of PTB-XL are PTBXL_MEAN and PTBXL_STD"
                )
            if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
                raise ValueError(f"mean must be finite and std finite and above 0, got {statistics}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and constants that are saved in preprocessor_config.json."""
        return {field: copy.deepcopy(getattr(self, field)) for field in self._fields()} | self._facts()

    def __call__(
        self,
        signal: ArrayLike,
        *,
        sampling_rate: float | None = None,
        leads: Sequence[str] = LEADS,
        unit: str | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Computes the features of one or several signals.

        Args:
            signal: One signal of shape (L, T), several of shape (B, L, T), or a list of signals of equal length; NaN
                marks a missing sample.
            sampling_rate: Sampling rate of `signal`, in Hz; required.
            leads: Names of the leads of `signal`, in the order of its rows.
            unit: Unit of `signal`, such as "mV" or "uV"; None means mV and is refused for signals of whole numbers.
            return_tensors: "pt" for torch tensors; None for numpy arrays.

        Returns:
            `signal`, shape (B, L, T), float32, with T the whole length at the extractor's sampling rate: signals are
            not cropped. With missing_leads "zero" also `lead_mask`, shape (B, L), True where the record has the lead.

        Raises:
            TypeError: If the samples or the rate are not real numbers, or `leads` is a string.
            ValueError: If the rate is absent or implausible, or the signal is too short or of the wrong shape.
            EcgUnitsError: If the unit is unknown, or absent for whole numbers, or the amplitude is implausible.
            EcgLeadError: If leads are unknown, repeated, not as many as the rows, or missing and not treated.
            EcgIntegrityError: If samples are infinite, or missing and not treated.
        """
        rate, names = check_rate(sampling_rate), check_leads(leads)
        batch = to_millivolts(as_batch(signal, len(names)), unit)
        self._require_length(batch.shape[2], rate)
        prepared = []
        for index, one in enumerate(batch):
            try:
                check_amplitude(one, unit or "mV")
                prepared.append(self._prepare(one, rate, names))
            except EcgError as error:
                error.add_note(f"in signal {index} of {len(batch)}")
                raise
        features = {"signal": np.stack([one for one, _ in prepared])}
        if self.missing_leads == "zero":
            features["lead_mask"] = np.stack([present for _, present in prepared])
        return BatchFeature(features, tensor_type=return_tensors)

    def process_row(self, row: Mapping[str, Any]) -> NDArray[np.float32]:
        """Computes the features of a row of a corpus, without checks of its length and of its amplitude.

        The row states its gain, so its unit needs no check.

        Args:
            row: Row of a corpus, with the fields of `row_features`.

        Returns:
            The features, shape (L, T), float32, at the extractor's sampling rate.

        Raises:
            EcgLeadError: If leads are missing and not treated.
            EcgIntegrityError: If samples are missing and not treated.
        """
        rate = check_rate(row["sampling_rate"])
        return self._prepare(row_to_signal(row), rate, check_leads(row["leads"]))[0]

    def _prepare(
        self, signal: NDArray[np.float32], rate: float, names: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Computes the features of a record in mV, shape (L, T), and the mask of its present leads, shape (L,)."""
        signal, present = self._arrange(signal, names)
        gaps = self._find_gaps(signal)
        signal = resample(bridge(signal, gaps), rate, self.sampling_rate)
        gaps = resample_gaps(gaps, rate, self.sampling_rate)
        signal = self.normalise(signal, gaps)
        signal[~present] = 0
        if self.missing_samples == "zero":
            signal[gaps] = 0
        return signal, present

    def _arrange(
        self, signal: NDArray[np.float32], names: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rows = {name: row for name, row in zip(names, signal, strict=True) if not np.isnan(row).all()}
        if self.missing_leads == "derive" and rows and set(self.leads) & set(LEADS[:6]) - set(rows):
            limbs = zip(LEADS[:6], derive_limb_leads(np.stack(list(rows.values())), list(rows)), strict=True)
            rows = {name: row for name, row in limbs if not np.isnan(row).all()} | rows
        absent = [lead for lead in self.leads if lead not in rows]
        if absent and (self.missing_leads != "zero" or len(absent) == len(self.leads)):
            raise EcgLeadError(
                f"expected the leads {self.leads}, got {list(rows)} and no sample of {absent}; record them, or use "
                "a model whose feature extractor has missing_leads 'derive' (limb leads) or 'zero'"
            )
        arranged = np.stack([rows.get(lead, np.zeros_like(signal[0])) for lead in self.leads])
        return arranged, np.array([lead in rows for lead in self.leads])

    def _find_gaps(self, signal: NDArray[np.float32]) -> NDArray[np.bool_]:
        gaps = np.isnan(signal)
        if self.missing_samples == "refuse" and gaps.any():
            counts = {lead: int(count) for lead, count in zip(self.leads, gaps.sum(axis=1), strict=True) if count}
            raise EcgIntegrityError(
                f"expected no missing sample, got NaN in {counts} of {signal.shape[1]} samples a lead; use another "
                "part of the record, or a feature extractor with missing_samples 'interpolate' or 'zero'"
            )
        return gaps

    def normalise(self, signal: NDArray[np.float32], gaps: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Normalises signals that already have the extractor's leads and sampling rate, the last step of extraction.

        Args:
            signal: Signal of one or several records, in mV, shape (..., L, T).
            gaps: True for samples that are filled in and do not count in statistics, shape (..., L, T).

        Returns:
            The normalised signal, shape (..., L, T).
        """
        if self.normalization == "none":
            return signal
        if self.normalization == "corpus":
            mean, std = (np.array(values, np.float32)[:, None] for values in (self.mean, self.std))
            centred: NDArray[np.float32] = signal - mean
            centred /= std
            return centred
        # a lead of few samples may resample to gaps only; its statistics are then those of the interpolated samples
        kept = ~gaps | gaps.all(axis=-1, keepdims=True)
        mean = signal.mean(axis=-1, keepdims=True, where=kept, dtype=np.float64)
        std = signal.std(axis=-1, keepdims=True, where=kept, dtype=np.float64)
        return cast(NDArray[np.float32], ((signal - mean) / np.maximum(std, MIN_STD)).astype(np.float32))

    def _require_length(self, length: int, rate: float) -> None:
        if self.num_samples is not None and resampled_length(length, rate, self.sampling_rate) < self.num_samples:
            raise ValueError(
                f"expected at least {self.num_samples / self.sampling_rate:g} s, {self.num_samples} samples at "
                f"{self.sampling_rate:g} Hz, got {length / rate:g} s, {length} samples at {rate:g} Hz; give a "
                "longer record, or check the sampling rate"
            )
