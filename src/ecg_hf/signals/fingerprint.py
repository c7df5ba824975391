"""Fingerprints of waveforms, which recognise copies of a recording even if they are stored differently."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from ecg_hf.errors import EcgFormatError
from ecg_hf.signals.record import LEADS, derive_limb_leads
from ecg_hf.signals.resampling import bridge, resample

Floats = NDArray[np.float64]

RATE, STORED_RATE = 100, 50  # Hz; rate of the computation, and of the samples in a fingerprint
FINE_S, COARSE_S = 0.02, 0.15  # widths of two Gaussians, whose difference passes about 1 to 10 Hz
EDGE_S = 0.5  # left out at both edges; longer than the reach of the band-pass filter
HALF_S = 1.5  # half the length of the window around a mark
NUM_FEATURES, STEP = 24, 0.04  # features per window, and the value of one unit of a feature
MIN_S = 2 * (EDGE_S + HALF_S) + 0.2
MIN_OVERLAP_S = 4.8  # two recordings may share less if both are shorter
FLAT = 0.02  # mV; a lead with less amplitude counts as flat
MAGIC = b"ECG1"

HEAD = struct.Struct("<4s2II")
_OFFSETS = np.arange(-HALF_S * RATE, HALF_S * RATE + 1, 4)
# the stream of RandomState is frozen: all machines and versions of numpy draw the same numbers
_PROJECTION: Floats = np.random.RandomState(0).standard_normal((len(_OFFSETS), NUM_FEATURES))
_PROJECTION /= np.linalg.norm(_PROJECTION, axis=0) / np.sqrt(len(_OFFSETS))


class Lead(NamedTuple):
    """Content of a fingerprint for one lead; a flat lead has no marks and only zeros as samples.

    Args:
        times: Times of the marks, in 0.1 ms, shape (M,).
        features: Features of the window around each mark, in steps of `STEP`, shape (M, 24).
        samples: Samples of the filtered and squashed lead at `STORED_RATE`, in 1/127, shape (T,).
    """

    times: NDArray[np.int32]
    features: NDArray[np.int8]
    samples: NDArray[np.int8]


def fingerprint(signal: NDArray[np.floating], leads: Sequence[str], sampling_rate: float) -> bytes | None:
    """Computes the fingerprint of a recording, about 130 bytes per second that are nearly the same for all its copies.

    A fingerprint holds leads I and II from 1 to 10 Hz, on a scale of their own, and 24 features of the 3 s around each
    beat. Another sampling rate, rounding, gain, baseline or constant padding hardly changes it; inverting or exchanging
    leads does.

    Args:
        signal: Signal in mV, shape (L, T); NaN marks a missing sample.
        leads: Standard names, one per row of `signal`; I and II are derived if any two limb leads are present.
        sampling_rate: Sampling rate, in Hz.

    Returns:
        The fingerprint; None if neither I nor II is present or can be derived, or if both are flat, mostly missing, or
        shorter than 4.2 s without constant padding.

    Raises:
        EcgFormatError: If `signal` has not one row for each of `leads`.
        EcgLeadError: If two or more limb leads are present and a lead is repeated.
        ValueError: If the sampling rate is below 40 Hz.

    Example:
        >>> import numpy as np
        >>> from ecg_hf import LEADS
        >>> from ecg_hf.signals.fingerprint import fingerprint, similarity
        >>> from ecg_hf.signals.simulation import Episode, simulate
        >>> from ecg_hf.signals.simulated_heart import draw_heart
        >>> rng = np.random.default_rng(0)
        >>> heart = draw_heart(rng)
        >>> first, second = (simulate(heart, Episode(), rng) for _ in range(2))  # two ECGs of one patient
        >>> copy = np.round(2 * first[:, ::2], 2)  # at 250 Hz, with another gain, in steps of 0.01 mV
        >>> round(similarity(fingerprint(first, LEADS, 500), fingerprint(copy, LEADS, 250)), 3)
        1.0
        >>> similarity(fingerprint(first, LEADS, 500), fingerprint(second, LEADS, 500)) < 0.5
        True
    """
    if signal.ndim != 2 or len(signal) != len(leads):
        raise EcgFormatError(f"expected one row for each of {len(leads)} leads, got shape {signal.shape}; transpose it")
    if not 40 <= sampling_rate < np.inf:
        raise ValueError(f"expected a sampling rate of 40 Hz or more, got {sampling_rate}; give the true one")
    if signal.shape[1] < MIN_S * sampling_rate:
        return None
    rows = [_present(row, sampling_rate) for row in _first_leads(signal, leads)]
    start, stop = _trim(rows)
    if stop - start < MIN_S * RATE:
        return None
    parts = [_reduce(row[start:stop]) for row in rows]
    if not any(part.samples.any() for part in parts):
        return None
    head = HEAD.pack(MAGIC, *(len(part.times) for part in parts), len(parts[0].samples))
    return head + b"".join(array.tobytes() for part in parts for array in part)


def _first_leads(signal: NDArray[np.floating], leads: Sequence[str]) -> Floats:
    """Returns leads I and II, shape (2, T); a lead that is absent and cannot be derived is zero."""
    if sum(lead in LEADS[:6] for lead in leads) > 1:
        return derive_limb_leads(signal, leads)[:2].astype(np.float64)
    rows = np.zeros((2, signal.shape[1]))
    for place, lead in enumerate(leads):
        if lead in LEADS[:2]:
            rows[LEADS.index(lead)] = signal[place]
    return rows


def _present(row: Floats, sampling_rate: float) -> Floats:
    """Resamples a lead to 100 Hz and fills its gaps; a lead that is mostly gaps becomes zero."""
    gaps = ~np.isfinite(row)
    if gaps.mean() > 0.5:
        row, gaps = np.zeros_like(row), np.zeros_like(gaps)
    filled = bridge(row[None].astype(np.float32), gaps[None])
    lead: Floats = resample(filled, sampling_rate, RATE)[0].astype(np.float64)
    return lead


def _trim(rows: Sequence[Floats]) -> tuple[int, int]:
    """Returns the range of samples without the edges in which both leads are constant for 0.25 s or more."""
    edges: list[list[int]] = [[], []]
    for row in rows:
        tolerance = 0.002 * np.subtract(*np.percentile(row, [99, 1]))
        for side, values in enumerate((row, row[::-1])):
            moving = np.abs(values - values[0]) > tolerance
            edges[side].append(int(moving.argmax()) if moving.any() else len(row))
    start, stop = (min(places) if min(places) >= RATE // 4 else 0 for places in edges)
    return start, len(rows[0]) - stop


def _reduce(row: Floats) -> Lead:
    band = gaussian_filter1d(row, FINE_S * RATE, mode="nearest")
    band -= gaussian_filter1d(row, COARSE_S * RATE, mode="nearest", truncate=3)
    inner = band[round(EDGE_S * RATE) : len(band) - round(EDGE_S * RATE)]
    if np.subtract(*np.percentile(inner, [99.5, 0.5])) < FLAT:
        inner = np.zeros_like(inner)
    squashed = _squash(inner)
    marks = _marks(squashed) if inner.any() else np.zeros(0)
    times = np.rint(marks * (1e4 / RATE)).astype("<i4")
    samples = np.rint(127 * squashed[:: RATE // STORED_RATE]).astype(np.int8)
    return Lead(times, _features(squashed, marks), samples)


def _squash(row: Floats) -> Floats:
    """Scales samples by their 75th percentile and compresses large ones, so that an artefact does not dominate."""
    usual = float(np.percentile(np.abs(row), 75))
    return row / np.maximum(np.abs(row) + 2 * usual, 1e-9)


def _marks(row: Floats) -> Floats:
    """Returns the peaks of the power, to a fraction of a sample, followed by the middle of the lead."""
    power = gaussian_filter1d(row**2, 0.06 * RATE, mode="nearest")
    tops = np.flatnonzero(power == maximum_filter1d(power, RATE // 2 + 1, mode="nearest"))
    reach = round(HALF_S * RATE) + 2
    tops = tops[(tops >= reach) & (tops < len(row) - reach)]
    before, here, after = power[tops - 1], power[tops], power[tops + 1]
    bend = before - 2 * here + after
    exact = tops + np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
    return np.append(exact, len(row) / 2)


def _features(row: Floats, marks: Floats) -> NDArray[np.int8]:
    windows = np.interp(marks[:, None] + _OFFSETS, np.arange(len(row)), row)
    windows -= windows.mean(axis=1, keepdims=True)
    windows /= np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-9)
    return np.clip(np.rint(windows @ _PROJECTION / STEP), -127, 127).astype(np.int8)


def unpack(data: bytes) -> list[Lead]:
    """Reads leads I and II from a fingerprint.

    Args:
        data: A fingerprint from `fingerprint`.

    Returns:
        The content for lead I and for lead II.

    Raises:
        ValueError: If `data` is not a complete fingerprint.
    """
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise ValueError(f"expected a fingerprint, got {data[:8]!r}; make it with fingerprint")
    _, *counts, num_samples = HEAD.unpack_from(data)
    if len(data) != HEAD.size + sum(counts) * (4 + NUM_FEATURES) + len(counts) * num_samples:
        raise ValueError(f"expected a whole fingerprint, got {len(data)} bytes of one; make it again")
    parts, start = [], HEAD.size
    for count in counts:
        times = np.frombuffer(data, "<i4", count, start)
        features = np.frombuffer(data, np.int8, count * NUM_FEATURES, start + 4 * count)
        start += count * (4 + NUM_FEATURES) + num_samples
        samples = np.frombuffer(data, np.int8, num_samples, start - num_samples)
        parts.append(Lead(times, features.reshape(count, NUM_FEATURES), samples))
    return parts


def similarity(first: bytes, second: bytes, offset: float = 0.0) -> float:
    """Compares two fingerprints at a given offset.

    Args:
        first: Fingerprint of the first recording.
        second: Fingerprint of the second recording.
        offset: Time in the first recording at which the second one begins, in s.

    Returns:
        The correlation of lead I or II over the common samples, whichever is lower, from -1 to 1. A lead that is flat
        in either recording is left out, and so is one whose overlap is shorter than both 4.8 s and 95 % of the longer
        recording; 0 if both leads are left out.
    """
    shift = offset * STORED_RATE
    margin = 2 if shift % 1 else 0  # samples that the interpolation needs on either side
    start = max(0, int(np.ceil(shift)) + margin)
    scores = []
    for one, other in zip(unpack(first), unpack(second), strict=True):
        stop = min(len(one.samples), int(np.floor(len(other.samples) + shift)) - margin)
        enough = min(MIN_OVERLAP_S * STORED_RATE, 0.95 * max(len(one.samples), len(other.samples)))
        if stop - start < enough or not (one.samples.any() and other.samples.any()):
            continue
        a = _squash(_linear(one.samples[start:stop]))
        b = _squash(_shifted(_linear(other.samples), start - shift, stop - start))
        scores.append(float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9))
    return min(scores, default=0.0)


def _shifted(samples: Floats, start: float, length: int) -> Floats:
    """Returns `length` samples from a fractional index on, by Keys' cubic interpolation."""
    whole = int(np.floor(start))
    part = start - whole
    if part == 0:
        return samples[whole : whole + length]
    weights = (
        part * (-0.5 + part * (1 - 0.5 * part)),
        1 + part**2 * (-2.5 + 1.5 * part),
        part * (0.5 + part * (2 - 1.5 * part)),
        part**2 * (-0.5 + 0.5 * part),
    )
    values = np.lib.stride_tricks.sliding_window_view(samples[whole - 1 : whole + length + 2], 4)
    shifted: Floats = values @ np.array(weights)
    return shifted


def _linear(samples: NDArray[np.int8]) -> Floats:
    squashed = samples.astype(np.float64) / 128
    linear: Floats = squashed / (1 - np.abs(squashed))
    return linear
