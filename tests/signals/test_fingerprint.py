import logging

import numpy as np
import pytest
from scipy.signal import butter, resample_poly, sosfiltfilt

from ecg_hf.corpora.examples import example_samples
from ecg_hf.corpora.verification import duplicates
from ecg_hf.corpora.verification.duplicates import find_duplicates
from ecg_hf.errors import EcgFormatError, EcgLeadError
from ecg_hf.signals import resampling
from ecg_hf.signals.fingerprint import fingerprint, similarity, unpack
from ecg_hf.signals.formats.wfdb import decode, parse_header
from ecg_hf.signals.record import LEADS, LIMB_LEADS
from places import SHARED

real = pytest.mark.skipif(not SHARED.is_dir(), reason="no real data here")
NUM = 40


@pytest.fixture(scope="module")
def signals():
    """Different hearts, in mV at 500 Hz."""
    return [example_samples(number) / 1000 for number in range(NUM)]


@pytest.fixture(scope="module")
def originals(signals):
    return [fingerprint(signal, LEADS, 500) for signal in signals]


def resampled(signal, rate):
    return resample_poly(signal, rate, 500, axis=1)


def filtered(signal, hertz, kind):
    return sosfiltfilt(butter(2, hertz, kind, fs=500, output="sos"), signal, axis=1)


def with_gap(signal):
    signal = signal.copy()
    signal[:, 2000:2020] = np.nan
    return signal


WAYS = {
    "as it is": lambda signal: (signal, 500),
    "100 Hz": lambda signal: (resampled(signal, 100), 100),
    "240 Hz": lambda signal: (resampled(signal, 240), 240),
    "257 Hz": lambda signal: (resampled(signal, 257), 257),
    "1000 Hz": lambda signal: (resampled(signal, 1000), 1000),
    "1 uV off": lambda signal: (signal + np.random.default_rng(0).choice([-1e-3, 0, 1e-3], signal.shape), 500),
    "5 uV": lambda signal: (np.round(signal / 0.005) * 0.005, 500),
    "gains": lambda signal: (signal * np.linspace(0.98, 1.02, 12)[:, None], 500),
    "1.8 times, 2 mV lower": lambda signal: (1.8 * signal - 2, 500),
    "drift": lambda signal: (signal + 0.3 * np.sin(np.linspace(0, 12, signal.shape[1])), 500),
    "padded": lambda signal: (np.pad(resampled(signal, 400), ((0, 0), (48, 48))), 400),
    "padded long": lambda signal: (np.pad(signal - signal[:, :1], ((0, 0), (777, 1001))), 500),
    "from 0.5 Hz": lambda signal: (filtered(signal, 0.5, "highpass"), 500),
    "to 40 Hz": lambda signal: (filtered(signal, 40, "lowpass"), 500),
    "a gap": lambda signal: (with_gap(signal), 500),
    "its first 6 s": lambda signal: (signal[:, :3000], 500),
    "its last 7 s": lambda signal: (signal[:, 1500:], 500),
    "8.1 s from 1.113 s on, 250 Hz": lambda signal: (resampled(signal[:, 557:4607], 250), 250),
}


# copies


@pytest.mark.parametrize("way", WAYS)
def test_all_copies_are_found_and_nothing_else(way, signals, originals):
    copies = [fingerprint(changed, LEADS, rate) for changed, rate in map(WAYS[way], signals)]
    found = find_duplicates([*originals, *copies])
    assert [pair[:2] for pair in found] == [(number, NUM + number) for number in range(NUM)]
    assert all(0.985 <= score <= 1 + 1e-9 for *_, score in found)


def test_copies_resampled_or_a_step_off_are_found_among_each_other(signals, originals):
    ways = ("240 Hz", "1 uV off", "100 Hz")
    copies = [[fingerprint(x, LEADS, rate) for x, rate in map(WAYS[way], signals)] for way in ways]
    found = find_duplicates([*originals, *(one for way in copies for one in way)])
    want = [(a, b) for a in range(4 * NUM) for b in range(a + NUM, 4 * NUM, NUM)]
    assert [pair[:2] for pair in found] == sorted(want)


@pytest.mark.parametrize("num_samples", [2100, 2500, 3000])
def test_copies_of_short_recordings_are_found_but_no_short_parts(num_samples, signals):
    short = [fingerprint(signal[:, :num_samples], LEADS, 500) for signal in signals]
    copies = [fingerprint(resampled(signal[:, :num_samples], 250), LEADS, 250) for signal in signals]
    assert [pair[:2] for pair in find_duplicates([*short, *copies])] == [(n, NUM + n) for n in range(NUM)]
    assert similarity(short[0], fingerprint(signals[0][:, : num_samples + 300], LEADS, 500)) == (
        0.0 if num_samples < 2800 else pytest.approx(1.0, abs=0.01)
    )


def test_the_offset_of_a_part_is_where_it_was_cut(signals, originals):
    for number, signal in enumerate(signals[:8]):
        part = fingerprint(signal[:, 1000:4500], LEADS, 500)
        scores = {offset: similarity(originals[number], part, offset) for offset in (1.94, 1.98, 2.0, 2.02, 2.06)}
        assert max(scores, key=scores.get) == 2.0 and scores[2.0] > 0.997
        assert similarity(part, originals[number], -2.0) == pytest.approx(scores[2.0], abs=1e-3)
        assert similarity(originals[number], part, 5.0) == 0.0  # less than 4.8 s in common


def test_an_inverted_or_exchanged_lead_makes_another_recording(signals, originals):
    inverted = fingerprint(np.concatenate([-signals[0][:1], signals[0][1:]]), LEADS, 500)
    exchanged = fingerprint(signals[0], ("II", "I", *LEADS[2:]), 500)
    assert find_duplicates([originals[0], inverted, exchanged]) == []
    assert similarity(originals[0], inverted) < -0.99


# leads


def test_the_order_of_leads_and_which_others_there_are_do_not_matter(signals, originals):
    order = np.random.default_rng(0).permutation(12)
    assert fingerprint(signals[0][order], [LEADS[place] for place in order], 500) == originals[0]
    assert fingerprint(signals[0][[0, 1, 7]], ("I", "II", "V2"), 500) == originals[0]


def test_leads_that_are_derived_or_alone_find_their_recording(signals, originals):
    for number in range(4):
        limb = LIMB_LEADS @ signals[number][:2]
        others = [
            fingerprint(limb[[2, 5]], ("III", "aVF"), 500),
            fingerprint(limb[:1], ("I",), 500),
            fingerprint(limb[1:2], ("II",), 500),
        ]
        found = find_duplicates([originals[number], *others])
        assert {pair[:2] for pair in found} >= {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)}
        assert (2, 3) not in {pair[:2] for pair in found}  # they have no lead in common


# what has no fingerprint


def nothing_of(kind, signal):
    flat = np.zeros_like(signal)
    quiet = flat + np.random.default_rng(0).normal(0, 1e-3, flat.shape)
    return {
        "flat": flat,
        "constant": flat + 3,
        "quiet": quiet,
        "missing": flat + np.nan,
        "mostly missing": np.where(np.arange(flat.shape[1]) < 2000, signal, np.nan),
        "short": signal[:, :2000],
        "one sample": signal[:, :1],
        "empty": signal[:, :0],
        "short within padding": np.pad(signal[:, :2000] - signal[:, :1], ((0, 0), (2000, 2000))),
    }[kind]


KINDS = "flat|constant|quiet|missing|mostly missing|short|one sample|empty|short within padding".split("|")


@pytest.mark.parametrize("kind", KINDS)
def test_what_shows_nothing_has_no_fingerprint(kind, signals):
    assert fingerprint(nothing_of(kind, signals[0]), LEADS, 500) is None


def test_chest_leads_alone_have_no_fingerprint(signals):
    assert fingerprint(signals[0][6:], LEADS[6:], 500) is None


def test_recordings_without_a_fingerprint_are_like_nothing(originals):
    assert find_duplicates([None, originals[0], None, originals[0], None]) == [(1, 3, pytest.approx(1.0))]
    assert find_duplicates([None, None]) == find_duplicates([]) == []


def test_one_flat_lead_leaves_the_other_to_compare(signals, originals):
    off = signals[3].copy()
    off[0] = 0.7
    fallen = fingerprint(off, LEADS, 500)
    assert not unpack(fallen)[0].samples.any() and unpack(fallen)[1].samples.any()
    assert [pair[:2] for pair in find_duplicates([originals[2], originals[3], fallen])] == [(1, 2)]


# size, sameness and refusals


def test_a_fingerprint_is_small_and_always_the_same(signals, originals):
    assert all(len(data) < 2000 for data in originals)
    before = signals[1].copy()
    assert fingerprint(signals[1], LEADS, 500) == originals[1]
    np.testing.assert_array_equal(signals[1], before)
    assert similarity(originals[1], originals[1]) == pytest.approx(1.0)


def test_either_resampler_gives_all_but_the_same_fingerprint(signals, originals, monkeypatch):
    monkeypatch.setattr(resampling, "find_spec", lambda name: None)
    for signal, original in zip(signals[:5], originals[:5], strict=True):
        other = fingerprint(signal, LEADS, 500)
        assert len(other) == len(original) and similarity(other, original) > 0.9999


def test_of_very_many_copies_each_is_listed(originals, caplog, monkeypatch):
    monkeypatch.setattr(duplicates, "REACH", 20)
    with caplog.at_level(logging.WARNING, "ecg_hf.corpora.verification.duplicates"):
        found = find_duplicates([originals[0]] * 33 + [originals[1]])
    assert {index for pair in found for index in pair[:2]} == set(range(33))
    assert "windows look like more than 20 others; not all are compared" in caplog.text


@pytest.mark.parametrize(
    ("shape", "leads", "rate", "error", "message"),
    [
        ((5000, 12), LEADS, 500, EcgFormatError, "one row for each of 12 leads, got shape"),
        ((5000,), ("I",), 500, EcgFormatError, "got shape"),
        ((2, 5000), ("I", "I"), 500, EcgLeadError, "each once"),
        ((2, 5000), ("I", "II"), 0, ValueError, "sampling rate of 40 Hz or more, got 0"),
        ((2, 5000), ("I", "II"), float("nan"), ValueError, "got nan"),
        ((2, 5000), ("I", "II"), float("inf"), ValueError, "got inf"),
    ],
)
def test_what_is_no_recording_is_refused(shape, leads, rate, error, message):
    with pytest.raises(error, match=message):
        fingerprint(np.ones(shape), leads, rate)


def test_bytes_that_are_no_fingerprint_are_refused(originals):
    for data in (b"", b"ECG1", b"x" * 500):
        with pytest.raises(ValueError, match="expected a fingerprint, got"):
            unpack(data)
    for data in (originals[0][:-1], originals[0] + b"\0"):
        with pytest.raises(ValueError, match="expected a whole fingerprint"):
            unpack(data)


# real recordings


def read(path):
    header = parse_header(path.read_bytes())
    record = decode(header, {name: (path.parent / name).read_bytes() for name in header.file_names})
    return fingerprint(record.signal, record.leads, record.sampling_rate)


@real
def test_every_real_copy_is_found_under_each_of_its_names_and_nothing_else():
    apart = {"vendor", "cases"}  # files of other devices, and files that are wrong on purpose
    paths = sorted(path for path in SHARED.glob("*/**/*.hea") if not apart & set(path.relative_to(SHARED).parts))
    names = [path.stem for path in paths]
    found = find_duplicates([read(path) for path in paths])
    of_ptbxl = {name: name.removesuffix("_lr").removesuffix("_hr").removeprefix("HR") for name in names}
    twins = {"00138": "00137", "00144": "00143", "00463": "00145", "00460": "00459", "E07510": "E07509"}  # bit by bit
    recordings = [twins.get(of_ptbxl[name], of_ptbxl[name]) for name in names]
    places = {}
    for place, (path, recording) in enumerate(zip(paths, recordings, strict=True)):
        corpus = "ludb" if "ludb" in path.parts else ""  # whose records are named by numbers alone
        places.setdefault((corpus, recording), []).append(place)
    want = {(a, b) for copies in places.values() for a in copies for b in copies if a < b}
    assert len(names) > 1000 and len(want) > 450
    assert {pair[:2] for pair in found} == want and min(score for *_, score in found) > 0.997


@real
def test_the_figshare_files_of_chapman_are_found_in_the_challenge():
    files = sorted((SHARED / "chapman-figshare" / "ECGData").glob("*.csv"))
    headers = sorted((SHARED / "challenge-2021/training/chapman_shaoxing").rglob("*.hea"))
    tables = [np.loadtxt(path, delimiter=",", skiprows=1).T / 1000 for path in files]
    found = find_duplicates([*(fingerprint(table, LEADS, 500) for table in tables), *map(read, headers)])
    assert len(found) == len(files) == 12 and {b for _, b, _ in found} == set(range(12, 12 + len(headers)))
    for first, second, _ in found:
        record = parse_header(headers[second - 12].read_bytes())
        assert record.signals[1].first == round(1000 * tables[first][1, 0])
