"""Resampling against analytic signals, with soxr and without it."""

import numpy as np
import pytest
from scipy import signal as scipy_signal

from ecg_hf.signals import resampling
from ecg_hf.signals.resampling import bridge, resample, resample_gaps, resampled_length

RATES = [(500, 240), (400, 240), (257, 240), (1000, 240), (128.5, 240), (100, 240), (360, 240), (500, 100), (240, 500)]


@pytest.fixture(params=["soxr", "polyphase"])
def backend(request, monkeypatch):
    if request.param == "polyphase":
        monkeypatch.setattr(resampling, "find_spec", lambda name: None)
    else:
        pytest.importorskip("soxr")
    return request.param


def tone(frequency, rate, num_samples):
    return np.sin(2 * np.pi * frequency * np.arange(num_samples) / rate + 0.7)


def tones(frequencies, rate, seconds=10):
    return np.stack([tone(f, rate, round(seconds * rate)) for f in frequencies]).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_tone_is_the_same_tone_at_the_other_rate(backend, source, target):
    nyquist = min(source, target) / 2
    frequencies = nyquist * np.array([0.01, 0.1, 0.3, 0.5, 0.65, 0.85])
    resampled = resample(tones(frequencies, source), source, target)
    exact = tones(frequencies, target)
    second = round(target)
    error = np.abs(resampled - exact)[:, second:-second].max(axis=1)
    assert resampled.dtype == np.float32
    # soxr rolls off gently, the other filter ripples by 1e-5 and then falls
    assert (error < np.array([2, 2, 2, 2, 50, 500]) * 1e-6 if backend == "soxr" else error < 1.5e-5).all(), error


@pytest.mark.parametrize(("source", "target"), [rates for rates in RATES if rates[0] > rates[1]])
def test_a_tone_that_the_lower_rate_cannot_hold_is_silenced(backend, source, target):
    frequencies = np.array([f for f in target / 2 * np.array([1.0, 1.01, 1.05, 1.5, 2.0, 3.5]) if f < source / 2])
    resampled = resample(tones(frequencies, source), source, target)
    assert np.abs(resampled[:, target:-target]).max() < 1e-5


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_drifting_baseline_stays_a_straight_line_to_the_very_edge(backend, source, target):
    line = (0.3 * np.arange(round(10 * source)) / source - 1).astype(np.float32)[None]
    resampled = resample(line, source, target)[0]
    np.testing.assert_allclose(resampled, 0.3 * np.arange(len(resampled)) / target - 1, atol=2e-5)


def test_the_edges_of_a_slow_wave_are_off_by_a_hundredth_at_most(backend):
    error = np.abs(resample(tones([1, 5, 10], 500), 500, 240) - tones([1, 5, 10], 240))
    assert error.max(axis=1) == pytest.approx([0, 0, 0], abs=0.011)


def test_a_periodic_signal_agrees_with_the_fourier_method():
    spectrum = np.random.default_rng(0).standard_normal((3, 151)) + 0j  # up to 75 Hz in 2 s
    periodic = np.tile(np.fft.irfft(spectrum, 1_000) * 50, 5).astype(np.float32)
    expected = scipy_signal.resample(periodic, 2_400, axis=1)
    np.testing.assert_allclose(resample(periodic, 500, 240)[:, 480:1_920], expected[:, 480:1_920], atol=2e-5)


def test_soxr_and_the_polyphase_filter_agree_in_the_band_of_an_ecg(monkeypatch):
    pytest.importorskip("soxr")
    signal = tones([0.5, 5, 40, 80, 100, 102], 500)
    by_soxr = resample(signal, 500, 240)
    monkeypatch.setattr(resampling, "find_spec", lambda name: None)
    by_polyphase = resample(signal, 500, 240)
    assert np.abs(by_soxr - by_polyphase)[:, 240:-240].max() < 1e-4


def test_leads_do_not_leak_into_each_other(backend):
    signal = np.zeros((3, 5_000), np.float32)
    signal[[0, 2]] = 5 * tones([7, 31], 500)
    assert np.abs(resample(signal, 500, 240)[1]).max() < 2e-6
    alone = resample(signal[2:], 500, 240)
    np.testing.assert_allclose(resample(signal, 500, 240)[2:], alone, atol=5e-6)


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("num_samples", [2, 3, 50, 777, 5_001])
def test_the_length_is_the_rounded_ratio(backend, source, target, num_samples):
    expected = round(num_samples * target / source)
    assert resampled_length(num_samples, source, target) == expected
    assert resample(np.zeros((2, num_samples), np.float32), source, target).shape == (2, expected)


def test_equal_rates_leave_the_signal_alone():
    signal = tones([5], 240)
    assert resample(signal, 240, 240.0) is signal
    assert resample(signal, 240 * (1 + 1e-10), 240) is signal
    assert resample(signal, 240.001, 240) is not signal


def test_rates_without_a_small_ratio_are_resampled_all_the_same():
    pytest.importorskip("soxr")
    resampled = resample(tones([1, 10], 499.99), 499.99, 240)
    np.testing.assert_allclose(resampled[:, 240:-240], tones([1, 10], 240)[:, 240:-240], atol=2e-5)


def test_the_polyphase_filter_refuses_to_drift(monkeypatch):
    monkeypatch.setattr(resampling, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs soxr, pip install ecg_hf\[io\]: .* drifts by 0.1"):
        resample(tones([1], 240.01), 240.01, 240)


def test_a_single_sample_cannot_be_resampled():
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        resample(np.zeros((12, 1), np.float32), 500, 240)


def test_gaps_are_bridged_by_straight_lines_and_held_at_the_edges():
    line = np.stack([np.linspace(0, 1, 11), np.linspace(3, 1, 11)]).astype(np.float32)
    gaps = np.zeros((2, 11), bool)
    gaps[0, 3:7] = True
    gaps[1, [0, 1, 10]] = True
    bridged = bridge(np.where(gaps, np.float32(np.nan), line), gaps)
    line[1, [0, 1, 10]] = line[1, [2, 2, 9]]
    np.testing.assert_allclose(bridged, line, rtol=1e-6)


def test_a_signal_without_gaps_is_not_copied():
    signal = tones([5], 240)
    assert bridge(signal, np.zeros(signal.shape, bool)) is signal


@pytest.mark.parametrize(("source", "target"), RATES)
def test_resampled_gaps_are_those_of_a_slow_loop(source, target):
    gaps = np.random.default_rng(0).random((2, 400)) < 0.05
    gaps[:, 100:140] = True
    resampled = resample_gaps(gaps, source, target)
    expected = np.zeros((2, resampled_length(400, source, target)), bool)
    for lead, at in zip(*np.nonzero(gaps), strict=True):
        expected[lead, min(round(at * target / source), expected.shape[1] - 1)] = True
    for at in range(expected.shape[1]):
        expected[:, at] |= gaps[:, min(round(at * source / target), 399)]
    np.testing.assert_array_equal(resampled, expected)


def test_no_missing_sample_is_lost_at_a_lower_rate():
    for at in range(50):
        gaps = np.zeros((1, 50), bool)
        gaps[0, at] = True
        assert resample_gaps(gaps, 500, 100).sum() >= 1
