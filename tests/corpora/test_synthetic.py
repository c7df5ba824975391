"""Facts of the made-up ECGs, measured on the signals by estimators that know nothing of how they were made."""

import hashlib
from collections import Counter
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks, resample

from ecg_hf.corpora.loading import load_corpus
from ecg_hf.corpora.sources.synthetic import FINDINGS, Synthetic, SyntheticConfig, draw_episode, draw_patient
from ecg_hf.signals.record import LEADS, MISSING
from ecg_hf.signals.row import row_to_signal
from ecg_hf.signals.simulated_heart import ELECTRODES_TO_LEADS, draw_heart
from ecg_hf.signals.simulation import Episode, simulate
from ecg_hf.tasks.synthetic import SYNTHETIC

I, II, III, AVR, AVL, AVF, V1, V2, V3, V4, V5, V6 = range(12)  # noqa: E741, as cardiologists call it
TERRITORY = {"inferior": (-0.1, 1.0, 0.0), "anterior": (0.3, 0.0, -1.0), "lateral": (1.0, -0.5, 0.0)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lru_cache(lambda **options: Synthetic(dataset_name="synthetic", cache_dir=str(cache), **options))


@pytest.fixture(scope="module")
def index(corpus):
    return corpus().read_index(None)


def ecg(number=0, duration_s=10.0, episode=None, **heart):
    """A clean ECG of an anonymous heart."""
    rng = np.random.default_rng([9, number])
    return simulate(draw_heart(rng, **heart), episode or Episode(), rng, duration_s)


def speed(signal):
    """Of the signal at 500 Hz in all leads together, in mV/s, after a mean over 20 ms."""
    return np.linalg.norm(np.gradient(uniform_filter1d(signal, 10, axis=1), 1 / 500, axis=1), axis=0)


def qrs_times(signal, height=0.4):
    """Samples in the middle of each QRS complex."""
    bustle = uniform_filter1d(uniform_filter1d(speed(signal), 50), 50)
    return find_peaks(bustle, height=height * np.quantile(bustle, 0.98), distance=130)[0]


def beat(signal):
    """The median beat, 0.4 s before to 0.6 s after the middle of QRS, above the level just before QRS."""
    beats = np.stack([signal[:, at - 200 : at + 300] for at in qrs_times(signal) if 200 <= at < signal.shape[1] - 300])
    median = np.median(beats, axis=0)
    return median - np.median(median[:, 156:162], axis=1, keepdims=True)


def qrs_duration(signal):
    """Of the median beat, in ms: how long the signal moves fast."""
    fast = np.flatnonzero(speed(beat(signal))[150:260] > 20)
    return 2 * (fast[-1] - fast[0])


def net_qrs(signal):
    """Area of QRS in the median beat, in mV ms."""
    return 2 * beat(signal)[:, 162:238].sum(axis=1)


def test_the_average_torso_is_the_one_of_dower():
    torsos = [draw_heart(np.random.default_rng(number)).electrodes for number in range(400)]
    leads = ELECTRODES_TO_LEADS @ np.mean(torsos, axis=0)
    vectors = {I: (0.632, -0.235, 0.059), II: (0.235, 1.066, -0.132), V1: (-0.515, 0.157, -0.917)}
    vectors |= {V2: (0.044, 0.164, -1.387), V3: (0.882, 0.098, -1.277), V4: (1.213, 0.127, -0.601)}
    vectors |= {V5: (1.125, 0.127, -0.086), V6: (0.831, 0.076, 0.230)}
    np.testing.assert_allclose(leads[list(vectors)], list(vectors.values()), atol=0.03)


@pytest.mark.parametrize("rate", [45, 75, 140])
def test_the_heart_beats_at_the_stated_rate(rate):
    signal = ecg(duration_s=60, episode=Episode(rate=rate))
    assert 60 * 500 / np.diff(qrs_times(signal)).mean() == pytest.approx(rate, rel=0.02)


def test_fibrillation_beats_far_less_regularly_than_a_sinus_rhythm():
    def variation(fibrillating, irregularity):
        gaps = np.diff(qrs_times(ecg(1, 60, Episode(rate=80, irregularity=irregularity), fibrillating=fibrillating)))
        return gaps.std() / gaps.mean()

    assert variation(False, 0.03) == pytest.approx(0.03, abs=0.01)
    assert variation(True, 0.22) == pytest.approx(0.22, abs=0.05)


@pytest.mark.parametrize("number", range(5))
def test_fibrillation_has_no_p_wave_and_a_restless_baseline(number):
    sinus, fibrillation = (ecg(number, 40, fibrillating=fibrillating)[II] for fibrillating in (False, True))
    p_waves = []
    for signal in (sinus, fibrillation):
        at = [at for at in qrs_times(np.tile(signal, (12, 1))) if at > 150]
        stretch = np.mean([signal[r - 110 : r - 45] for r in at], axis=0)
        p_waves.append(np.ptp(stretch))
    assert p_waves[0] > 0.05
    assert p_waves[1] < 0.6 * p_waves[0]
    quiet = [
        np.concatenate([s[r - 170 : r - 110] for r in qrs_times(np.tile(s, (12, 1))) if r > 170])
        for s in (sinus, fibrillation)
    ]
    assert quiet[1].std() > 2 * quiet[0].std()


def test_a_bundle_branch_block_makes_qrs_wide():
    normal, left, right = (
        [qrs_duration(ecg(n, conduction=conduction)) for n in range(20)] for conduction in ("normal", "left", "right")
    )
    assert 65 <= np.median(normal) <= 110
    assert np.quantile(normal, 0.9) < 115
    assert np.min(left) >= 120
    assert np.min(right) >= 105
    assert np.median(right) >= 120


@pytest.mark.parametrize("number", range(8))
def test_a_left_block_ends_below_zero_in_v1_and_a_right_block_above(number):
    left, right = (beat(ecg(number, conduction=conduction)) for conduction in ("left", "right"))
    assert left[V1, 180:225].min() < -0.5
    assert left[V1, 180:225].mean() < -0.2
    assert left[V6, 180:240].max() > 0.3
    assert left[V6, 330:380].mean() < 0
    assert right[V1, 205:250].max() > 0.3
    assert right[V6, 205:250].min() < -0.1


@pytest.mark.parametrize("axis", [-70, -40, 0, 30, 60, 90])
def test_the_main_qrs_forces_point_along_the_stated_axis(axis):
    off = []
    for number in range(10):
        area = net_qrs(ecg(number, axis=axis))
        off.append((np.degrees(np.arctan2(2 * area[AVF], np.sqrt(3) * area[I])) - axis + 180) % 360 - 180)
    assert abs(np.median(off)) < 12, off


@pytest.mark.parametrize("number", range(8))
def test_left_axis_deviation_is_up_in_i_and_down_in_avf(number):
    area = net_qrs(ecg(number, axis=-45))
    assert area[I] > 0 > area[AVF]


@pytest.mark.parametrize(
    ("territory", "up", "down"),
    [("inferior", (II, III, AVF), (AVL,)), ("anterior", (V1, V2, V3), ()), ("lateral", (I, AVL, V5, V6), (III,))],
)
def test_st_is_raised_in_the_leads_over_the_territory(territory, up, down):
    raised = Episode(rate=60, irregularity=0.0, st=0.3, st_direction=TERRITORY[territory])
    for number in range(5):
        change = ecg(number, episode=raised) - ecg(number, episode=replace(raised, st=0.0))
        level = beat(ecg(number, episode=raised)) - beat(ecg(number, episode=replace(raised, st=0.0)))
        at = 200 + 50  # 100 ms after the middle of QRS
        assert (level[list(up), at] > 0.06).all(), level[:, at]
        assert (level[list(down), at] < -0.05).all(), level[:, at]
        assert np.abs(level[:, at]).max() == pytest.approx(0.3, abs=0.07)
        assert np.abs(level[:, 100:140]).max() < 0.02
        np.testing.assert_allclose(change.mean(axis=1), 0, atol=1e-9)


def test_ventricular_beats_come_early_and_wide_and_atrial_ones_early_and_narrow():
    usual = Episode(rate=60, irregularity=0.0)
    ratios = []
    for kind in ("num_ventricular", "num_atrial"):
        for number in range(6):
            signal = ecg(number, episode=replace(usual, **{kind: 1}))
            times = qrs_times(signal, height=0.3)
            early = times[1:][np.diff(times) < 400]
            assert len(early) == 1, (kind, number, np.diff(times))
            normal = times[np.argmax(times > 300)]
            width = [(speed(signal[:, at - 60 : at + 60]) > 20).sum() for at in (early[0], normal)]
            ratios.append(width[0] / width[1])
    assert min(ratios[:6]) > 1.1
    assert np.median(ratios[:6]) > 1.4
    assert ratios[6:] == pytest.approx([1] * 6, abs=0.15)


def test_noise_has_the_stated_size_and_leaves_the_beats_alone():
    quiet = Episode(irregularity=0.05)
    clean = ecg(3, 60, quiet)
    muscle = ecg(3, 60, replace(quiet, muscle=0.02)) - clean
    electrode = np.sqrt(np.diag(ELECTRODES_TO_LEADS @ ELECTRODES_TO_LEADS.T))
    np.testing.assert_allclose(muscle.std(axis=1) / electrode, 0.02, rtol=0.1)
    wander = [(ecg(n, 20, replace(quiet, wander=0.1)) - ecg(n, 20, quiet)).std(axis=1) / electrode for n in range(40)]
    assert np.sqrt(np.mean(np.square(wander))) == pytest.approx(0.1, rel=0.25)
    hum = ecg(3, 10, replace(quiet, hum=0.05, hum_rate=60.0)) - ecg(3, 10, quiet)
    spectrum = np.abs(np.fft.rfft(hum, axis=1))
    assert (spectrum.argmax(axis=1) == 600).all()


def test_limb_leads_obey_einthoven_and_goldberger_however_noisy():
    signal = ecg(4, episode=Episode(muscle=0.1, hum=0.1, wander=0.5))
    derived = [
        signal[II] - signal[I],
        -(signal[I] + signal[II]) / 2,
        signal[I] - signal[II] / 2,
        signal[II] - signal[I] / 2,
    ]
    np.testing.assert_allclose(signal[III : AVF + 1], derived, atol=1e-12)


def test_limb_leads_still_obey_them_once_digitised(corpus, index):
    for entry in index[:20]:
        adc = corpus().read_record(None, entry).samples[:6].astype(int)
        assert np.abs(adc[III] - (adc[II] - adc[I])).max() <= 1
        assert np.abs(2 * adc[AVR] + adc[I] + adc[II]).max() <= 2
        assert np.abs(2 * adc[AVL] - 2 * adc[I] + adc[II]).max() <= 2
        assert np.abs(2 * adc[AVF] - 2 * adc[II] + adc[I]).max() <= 2


def test_amplitudes_are_those_of_people(corpus, index):
    signals = np.stack([corpus().read_record(None, entry).signal for entry in index[:60]])
    assert np.median(signals[:, V5].max(axis=1)) == pytest.approx(1.25, abs=0.4)
    assert np.abs(signals).max() < 8
    assert signals.shape == (60, 12, 5000)


def test_a_rate_that_no_heart_has_is_refused():
    with pytest.raises(ValueError, match="expected 20-300 beats/min during 1-3600 s, got 0 during"):
        ecg(episode=Episode(rate=0))
    with pytest.raises(ValueError, match=r"conduction must be one of \['left', 'normal', 'right'\], got 'both'"):
        ecg(conduction="both")


def test_a_record_depends_on_the_seed_and_its_number_alone(corpus, index):
    few = corpus(num_records=7)
    assert few.read_index(None) == index[:7]
    backwards = [few.read_record(None, entry).samples for entry in index[6::-1]][::-1]
    forwards = [corpus().read_record(None, entry).samples for entry in index[:7]]
    np.testing.assert_array_equal(backwards, forwards)
    assert len({samples.tobytes() for samples in forwards}) == 7


def test_another_seed_is_other_patients(corpus, index):
    other = corpus(seed=1, num_records=30).read_index(None)
    assert not {entry.patient_id for entry in other} & {entry.patient_id for entry in index}
    assert [entry.labels for entry in other] != [entry.labels for entry in index[:30]]
    first = corpus(seed=1, num_records=30).read_record(None, other[0]).samples
    assert not np.array_equal(first, corpus().read_record(None, index[0]).samples)


def test_the_default_corpus_is_the_one_that_was_published(corpus, index):
    digest = hashlib.sha256(b"".join(corpus().read_record(None, entry).samples.tobytes() for entry in index[:5]))
    assert digest.hexdigest()[:16] == "358b601f2a048b85", "raise Synthetic.data_version with any change of the ECGs"
    assert Synthetic.data_version == "1.0.0"


def test_patients_keep_to_one_split_and_the_splits_to_their_shares(index):
    home = {}
    for entry in index:
        assert home.setdefault(entry.patient_id, entry.split) == entry.split
    shares = {split: count / len(home) for split, count in Counter(home.values()).items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.01)
    assert set(Counter(entry.patient_id for entry in index).values()) == {1, 2, 3, 4}
    assert len({entry.split for entry in index[:20]}) == 3


def test_what_lasts_is_the_same_in_every_ecg_of_a_patient(corpus, index):
    lasting = {"AFIB", "CLBBB", "CRBBB", "LAD"}
    seen = {}
    for entry in index:
        found = {name for _, name, _ in entry.labels} & lasting
        assert seen.setdefault(entry.patient_id, (found, entry.sex)) == (found, entry.sex)
    assert (index[5].patient_id, index[5].age + 1) == (index[6].patient_id, index[6].age)
    shapes = [beat(corpus().read_record(None, entry).signal)[:, 170:230].ravel() for entry in index[:64]]
    shapes = np.corrcoef(shapes)
    same = np.equal.outer(*2 * [[entry.patient_id for entry in index[:64]]])
    assert np.median(shapes[~same]) < np.median(shapes[same & ~np.eye(64, dtype=bool)]) - 0.05
    assert np.quantile(shapes[same], 0.1) > 0.95


def test_findings_are_neither_rare_nor_common_and_normal_means_none(index):
    found = [{name for label_set, name, value in entry.labels} for entry in index]
    share = {name: np.mean([name in names for names in found]) for name in FINDINGS}
    assert all(0.05 <= share[name] <= 0.25 for name in FINDINGS if name != "NORM"), share
    assert 0.2 < share["NORM"] < 0.5
    assert all(names and (names == {"NORM"} or "NORM" not in names) for names in found)
    assert Synthetic.label_sets == {SYNTHETIC.label_set: SYNTHETIC.labels}


def test_findings_and_report_say_what_the_signal_shows(corpus, index):
    agrees = {name: [] for name in ("rate", "axis", "CLBBB", "CRBBB", "STD", "STE")}
    for entry in index[:250]:
        names = {name for _, name, _ in entry.labels}
        signal = corpus().read_record(None, entry).signal
        rhythm, rate, axis, *others = entry.report.split(", ")
        rate, axis = int(rate.removesuffix("/min")), int(axis.split()[1])
        assert ("AFIB" in names) == (rhythm == "atrial fibrillation")
        assert ("BRADY" in names) == (rate < 60) or rate == 60
        assert ("TACHY" in names) == (rate > 100) or rate == 100
        assert ("LAD" in names) == (axis < -30)
        agrees["rate"].append(abs(60 * 500 / np.diff(qrs_times(signal)).mean() / rate - 1) < 0.08)
        area, late, st = net_qrs(signal), beat(signal)[:, 205:225].mean(axis=1), beat(signal)[:, 245:255].mean(axis=1)
        if "CRBBB" not in names:
            seen = np.degrees(np.arctan2(2 * area[AVF], np.sqrt(3) * area[I]))
            agrees["axis"].append(abs((seen - axis + 180) % 360 - 180) < 20)
        if "CLBBB" in names:
            agrees["CLBBB"].append(late[V1] < -0.1)
        if "CRBBB" in names:
            agrees["CRBBB"].append(late[V1] > 0.1)
        if "STD" in names:
            agrees["STD"].append(st[V5] < -0.02)
        if "STE" in names:
            territory = next(other for other in others if "elevation" in other).split()[0]
            agrees["STE"].append(st[{"anterior": V2, "inferior": AVF, "lateral": V6}[territory]] > 0.05)
    # simple estimators fail on the noisiest records
    assert all(len(found) > 4 and np.mean(found) > 0.8 for found in agrees.values()), agrees


def test_every_early_beat_that_is_labelled_has_room(corpus):
    episodes = []
    for number in range(3000):
        rng = np.random.default_rng(number)
        patient = draw_patient(rng)
        episode, _ = draw_episode(rng, patient)
        episodes.append((patient.fibrillating, episode))
    slow = sorted((e for f, e in episodes if e.num_ventricular), key=lambda e: e.rate)[:8]
    for number, episode in enumerate(slow):
        quiet = replace(episode, muscle=0.0, hum=0.0, wander=0.0)
        with_beats, without = (ecg(number, 8.0, e) for e in (quiet, replace(quiet, num_ventricular=0)))
        assert np.abs(with_beats - without).max() > 0.3


def test_a_lower_sampling_rate_shows_the_same_ecg(corpus, index):
    full, low = (corpus(num_records=3, sampling_rate=rate) for rate in (500, 100))
    for entry in index[:3]:
        signal, decimated = full.read_record(None, entry).signal, low.read_record(None, entry).signal
        assert decimated.shape == (12, 1000)
        error = (decimated - resample(signal, 1000, axis=1))[:, 50:-50]
        assert np.sqrt(np.mean(error**2)) < 0.1 * signal.std()


def test_load_corpus_gives_the_schema_and_the_asked_for_records(tmp_path):
    data = load_corpus("synthetic", num_records=30, seed=3, sampling_rate=100, cache_dir=tmp_path)
    assert sum(map(len, data.values())) == 30
    row = data["train"][0]
    signal = row_to_signal(row)
    assert signal.shape == (12, 1000)
    assert tuple(row["leads"]) == LEADS
    assert np.isfinite(signal).all()
    assert (row["gain"], row["baseline"], row["sampling_rate"]) == ([1000.0] * 12, [0] * 12, 100.0)
    assert MISSING not in np.frombuffer(row["signal"], "<i2")
    stream = load_corpus("synthetic", num_records=30, seed=3, sampling_rate=100, split="train", streaming=True)
    assert next(iter(stream)) == row


def test_another_noise_changes_the_noise_and_nothing_else(corpus):
    plain, silent, noisy = (corpus(num_records=30, noise=noise) for noise in (1.0, 0.0, 3.0))
    for entries in zip(*(builder.read_index(None) for builder in (plain, silent, noisy)), strict=True):
        assert len({replace(entry, device="") for entry in entries}) == 1
    for index in (0, 7, 19):
        records = [builder.read_record(None, builder.read_index(None)[index]) for builder in (plain, silent, noisy)]
        once, without, thrice = (record.samples / 1000 for record in records)
        assert np.allclose(thrice - without, 3 * (once - without), atol=3e-3)
        assert (once - without).std() > 5e-3


def test_every_field_of_the_config_reaches_the_cache(corpus):
    options = [{}, {"num_records": 9}, {"seed": 3}, {"sampling_rate": 100}, {"duration_s": 12.0}, {"noise": 2.0}]
    assert len({corpus(**option).cache_dir for option in options}) == len(options)
    assert len({corpus(**option).fingerprint for option in options}) == len(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_records": 0}, "num_records must be at least 1, got 0"),
        ({"seed": -1}, r"seed must be from 0 to 2\*\*32 - 1, got -1"),
        ({"sampling_rate": 128}, r"sampling_rate must be one of \(100, 250, 500\) Hz, got 128"),
        ({"duration_s": 2.5}, "duration_s must be from 8 to 600 s, got 2.5"),
        ({"noise": -1}, "noise must be a factor from 0 to 100, got -1"),
    ],
)
def test_config_refuses_what_cannot_be_made(options, message):
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**options)


def test_write_example_needs_no_files(tmp_path):
    Synthetic.write_example(tmp_path)
    assert list(tmp_path.iterdir()) == []
