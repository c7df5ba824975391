"""Simulation of 12-lead ECGs: beats of a simulated heart, picked up by nine electrodes together with noise."""

from dataclasses import dataclass

import numpy as np

from ecg_hf.signals.simulated_heart import ELECTRODES_TO_LEADS, J_POINT, Array, Heart

SAMPLING_RATE = 500  # Hz


@dataclass(frozen=True)
class Episode:
    """Rhythm, ST shift and noise of one simulated ECG.

    Args:
        rate: Mean ventricular rate, in beats per minute.
        irregularity: Coefficient of variation of the intervals between beats.
        num_ventricular: Number of early beats from a ventricle; beats that do not fit into the record are left out.
        num_atrial: Number of early beats from the atria, likewise.
        st: Shift of the ST segment in the lead where it is largest, in mV.
        st_direction: Direction of the ST shift: x to the left, y to the feet, z to the back; its length is ignored.
        muscle: RMS of muscle noise at an electrode, in mV.
        hum: RMS over the electrodes of the amplitude of mains hum, in mV.
        hum_rate: Frequency of the mains, in Hz.
        wander: RMS of baseline wander at an electrode, in mV.
    """

    rate: float = 70.0
    irregularity: float = 0.03
    num_ventricular: int = 0
    num_atrial: int = 0
    st: float = 0.0
    st_direction: tuple[float, float, float] = (0.0, 1.0, 0.0)
    muscle: float = 0.0
    hum: float = 0.0
    hum_rate: float = 50.0
    wander: float = 0.0


def simulate(heart: Heart, episode: Episode, rng: np.random.Generator, duration_s: float = 10.0) -> Array:
    """Simulates one 12-lead ECG.

    The beats are drawn before the noise, so an episode with and one without noise have the same beats for the same
    seed. Noise is added at the electrodes, so the limb leads obey Einthoven's and Goldberger's laws at any noise level.

    Args:
        heart: Heart and torso of the patient.
        episode: Rhythm, ST shift and noise of the ECG.
        rng: Generator from which the beats and the noise are drawn.
        duration_s: Duration of the ECG, in s.

    Returns:
        The signal in mV at `SAMPLING_RATE`, shape (12, T), leads in the order of `LEADS`.

    Raises:
        ValueError: If the rate is not within 20 to 300 beats per minute or the duration not within 1 to 3600 s.

    Example:
        >>> import numpy as np
        >>> from ecg_hf.signals.simulation import Episode, simulate
        >>> from ecg_hf.signals.simulated_heart import draw_heart
        >>> rng = np.random.default_rng(0)
        >>> signal = simulate(draw_heart(rng, conduction="left"), Episode(rate=80, muscle=0.01), rng)
        >>> signal.shape, bool(np.allclose(signal[0] + signal[2], signal[1]))  # 10 s at 500 Hz; I + III = II
        ((12, 5000), True)

    Source:
        McSharry et al. 2003 for Gaussian waves and beat intervals with two rhythms, here in closed form and in three
        dimensions, as in Clifford et al. 2010; Dower et al. 1980 for the lead vectors of the torso.
    """
    if not (20 <= episode.rate <= 300 and 1 <= duration_s <= 3600):
        raise ValueError(
            f"expected 20-300 beats/min during 1-3600 s, got {episode.rate} during {duration_s}; change it"
        )
    time = np.arange(round(duration_s * SAMPLING_RATE)) / SAMPLING_RATE
    dipole = _beats(heart, episode, rng, duration_s)
    if heart.fibrillating:
        dipole += _atrial_flicker(rng, time)
    potential = heart.electrodes @ dipole + _noise(episode, rng, time)
    signal: Array = ELECTRODES_TO_LEADS @ (potential - potential.mean(axis=1, keepdims=True))  # no amplifier passes DC
    return signal


def _beat_times(heart: Heart, episode: Episode, rng: np.random.Generator, duration_s: float) -> Array:
    """Draws the times of the beats in s, from before the start of the record to after its end."""
    mean = 60 / episode.rate
    num_beats = int((duration_s + 3) / mean) + 2
    if heart.fibrillating:
        gaps = np.maximum(rng.lognormal(0, episode.irregularity, num_beats), 0.3 / mean)
    else:
        rates = [rng.uniform(0.2, 0.3), 0.1]  # Hz; rates of breathing and of the slow waves of blood pressure
        phases = 2 * np.pi * (np.outer(rates, np.arange(num_beats) * mean) + rng.random((2, 1)))
        swing = np.array([1.0, 0.8]) @ np.sin(phases) + 0.4 * rng.normal(size=num_beats)
        gaps = 1 + episode.irregularity * swing
    times: Array = np.cumsum(gaps / gaps.mean()) * mean - 1.5 - rng.random() * mean
    return times[times < duration_s + 1]


def _beats(heart: Heart, episode: Episode, rng: np.random.Generator, duration_s: float) -> Array:
    """Computes the dipole of all beats, in mV, shape (3, T)."""
    times = _beat_times(heart, episode, rng, duration_s)
    gaps = np.diff(times, prepend=times[0] - 60 / episode.rate)
    candidates = np.flatnonzero((times > 1.2) & (times < duration_s - 0.8))[rng.integers(2) :: 2]
    early = rng.permutation(candidates)[: episode.num_ventricular + episode.num_atrial]
    times[early] -= gaps[early] - np.maximum(0.65 * gaps[early], np.minimum(gaps[early], 0.38))
    ventricular = early[: episode.num_ventricular]
    size = 1 + 0.04 * np.sin(2 * np.pi * (0.25 * times + rng.random()))
    usual = np.setdiff1d(np.arange(len(times)), ventricular)
    stretch = np.sqrt((gaps + 60 / episode.rate) / 2)
    repolarisation = np.vstack([heart.t, _st_waves(heart, episode)])

    num_samples = round(duration_s * SAMPLING_RATE)
    dipole = _train(heart.qrs, times[usual], size[usual], num_samples)
    dipole += _train(repolarisation, times[usual], size[usual], num_samples, stretch[usual])
    if not heart.fibrillating:
        dipole += _train(heart.p, times[usual], size[usual], num_samples)
    return dipole + _train(heart.ectopic, times[ventricular], size[ventricular], num_samples)


def _st_waves(heart: Heart, episode: Episode) -> Array:
    """Builds the waves of an ST shift: a row of bumps that form a plateau from the J point to the T wave."""
    direction = np.array(episode.st_direction)
    leads = ELECTRODES_TO_LEADS @ heart.electrodes @ direction
    dipole = episode.st * direction / np.abs(leads).max()
    peak, rise, fall = heart.t[-1, :3]
    centres = np.linspace(J_POINT[heart.conduction] + 20, peak - 60, 4)
    flat = np.diff(centres)[0] / (30 * np.sqrt(2 * np.pi))  # scales a row of Gaussians to add up to one
    return np.array([[centre, 30, 30, *(flat * dipole)] for centre in centres] + [[peak, rise, fall, *dipole]])


def _train(waves: Array, times: Array, size: Array, num_samples: int, stretch: Array | None = None) -> Array:
    """Adds up the waves of all beats, shape (3, T); `stretch` scales the times of the waves, one factor per beat."""
    pad = 3 * SAMPLING_RATE
    stretch = np.ones(len(times)) if stretch is None else stretch
    bumps = np.empty((len(waves), num_samples + 2 * pad))
    for row, (offset, rise, fall) in zip(bumps, waves[:, :3], strict=True):
        centre = times + offset / 1000 * stretch
        reach = int(5 * max(rise, fall) / 1000 * SAMPLING_RATE)
        index = np.rint(centre * SAMPLING_RATE).astype(int)[:, None] + np.arange(-reach, reach + 1)
        since = (index / SAMPLING_RATE - centre[:, None]) * 1000 / stretch[:, None]
        bump = size[:, None] * np.exp(-0.5 * (since / np.where(since < 0, rise, fall)) ** 2)
        row[:] = np.bincount((index + pad).ravel(), bump.ravel(), len(row))
    dipole: Array = waves[:, 3:].T @ bumps[:, pad:-pad]
    return dipole


def _atrial_flicker(rng: np.random.Generator, time: Array) -> Array:
    """Simulates the f waves of atrial fibrillation, shape (3, T): two drifting sawtooth waves of 5-8 Hz."""
    total = np.zeros((3, len(time)))
    for height in (0.05, 0.03):
        drift = np.sin(2 * np.pi * (rng.uniform(0.1, 0.5) * time + rng.random()))
        phase = 2 * np.pi * (rng.uniform(5, 8) * time + 0.5 * drift + rng.random())
        wave = (np.sin(phase) + 0.4 * np.sin(2 * phase)) * (1 + 0.4 * drift)
        direction = np.array([-0.2, 0.7, -0.8]) + 0.2 * rng.normal(size=3)
        total += np.outer(direction, height * rng.lognormal(0, 0.3) * wave)
    return total


def _noise(episode: Episode, rng: np.random.Generator, time: Array) -> Array:
    """Simulates the noise of muscle, mains and skin at each electrode, in mV, shape (9, T)."""
    frequency = np.fft.rfftfreq(len(time), 1 / SAMPLING_RATE)
    band = (frequency / 20) / (1 + (frequency / 20) ** 2) / (1 + (frequency / 120) ** 4)
    band *= len(time) / np.sqrt(4 * np.sum(band**2))
    spectrum = rng.normal(size=(9, 2 * len(band))).view(complex)
    noise: Array = np.fft.irfft(episode.muscle * band * spectrum, len(time))
    rates = np.append(np.exp(rng.uniform(np.log(0.05), np.log(0.5), 4)), episode.hum_rate)
    waves = np.sin(2 * np.pi * (np.outer(rates, time) + rng.random((5, 1))))
    heights = rng.normal(size=(9, 5)) * np.append(np.full(4, episode.wander / np.sqrt(2)), episode.hum)
    noise += heights @ waves
    return noise
