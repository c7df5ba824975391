"""What a record promises: leads found by name, millivolts, gaps that stay gaps, and the sums that limb leads obey."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from ecg_hf.errors import EcgFormatError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.record import LEADS, LIMB_LEADS, MISSING, Record, derive_limb_leads, lead_names, standard_lead

GAP_32 = np.iinfo(np.int32).min
MIMIC = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def make_record(leads=LEADS, dtype=np.int16, num_samples=50, seed=0, gain=1000.0, baseline=0, span=30_000):
    samples = np.random.default_rng(seed).integers(-span, span, (len(leads), num_samples)).astype(dtype)
    gains = np.broadcast_to(np.asarray(gain, np.float64), len(leads)).copy()
    baselines = np.broadcast_to(np.asarray(baseline, np.int32), len(leads)).copy()
    return Record("r", samples, gains, baselines, tuple(leads), 500.0, ("Age: 63",))


def consistent_record(gain=1000.0, seed=0):
    """Twelve leads of which the limb leads obey both laws to the last bit."""
    record = make_record(seed=seed, gain=gain, span=2000)
    pair = record.samples[:2].astype(np.int64) * 2
    record.samples[:6] = LIMB_LEADS @ pair
    return record


def spellings(lead):
    plain = [lead, lead.upper(), lead.lower(), f" {lead} "]
    prefixed = [prefix + name for prefix in ("Lead ", "ECG ", "ECG Lead ", "lead_") for name in (lead, lead.upper())]
    codes = [f"MDC_ECG_LEAD_{lead}", f"MDC_ECG_LEAD_{lead.upper()}"]
    return plain + prefixed + codes + ([f"D{lead}", f"d{lead.lower()}"] if lead in LEADS[:3] else [])


@pytest.mark.parametrize("lead", LEADS)
def test_every_spelling_of_a_lead_gives_its_standard_name(lead):
    assert {standard_lead(name) for name in spellings(lead)} == {lead}


def test_no_two_leads_share_a_spelling():
    names = [name.strip().lower() for lead in LEADS for name in set(spellings(lead))]
    owners = {name: {standard_lead(name)} for name in names}
    assert all(len(owner) == 1 for owner in owners.values()) and len({*map(tuple, owners.values())}) == len(LEADS)


NOT_LEADS = "-aVR aVR- MLII ML2 vx V7 V4R V0 V11 IIII aV V VI L I+ II/V 1 X1 V\u00b2 lead ECG MDC_ECG_LEAD_ DDI".split()


@pytest.mark.parametrize("name", [*NOT_LEADS, "", "Lead", "I II", "V 1", "i\u0131"])
def test_a_name_of_another_signal_is_refused(name):
    with pytest.raises(EcgLeadError, match="expected a spelling of one of I, II"):
        standard_lead(name)


def test_frank_leads_keep_their_own_names_beside_the_twelve():
    ptb = "i ii iii avr avl avf v1 v2 v3 v4 v5 v6 vx vy vz".split()
    assert lead_names(ptb) == (*LEADS, "vx", "vy", "vz")
    assert make_record(lead_names(ptb)).select().leads == LEADS


def test_a_lead_under_two_spellings_is_refused():
    with pytest.raises(EcgLeadError, match="got II repeatedly"):
        lead_names(["II", "V1", "DII"])


@pytest.mark.parametrize("num_leads", [12, 8, 6, 4, 3, 2, 1])
def test_leads_are_found_by_name_in_any_stored_order(num_leads):
    rng = np.random.default_rng(num_leads)
    record = make_record(gain=np.arange(1, 13) * 100.0, baseline=np.arange(12))
    for _ in range(1000):
        order = rng.permutation(12)
        stored = record.select([LEADS[index] for index in order])
        wanted = [LEADS[index] for index in rng.permutation(12)[:num_leads]]
        rows = [LEADS.index(lead) for lead in wanted]
        chosen = stored.select(wanted)
        assert chosen.leads == tuple(wanted)
        assert np.array_equal(chosen.samples, record.samples[rows])
        assert np.array_equal(chosen.gain, record.gain[rows]) and np.array_equal(chosen.baseline, record.baseline[rows])


def test_the_lead_order_of_mimic_becomes_the_standard_one():
    record = make_record(MIMIC)
    assert np.array_equal(record.select().samples[[4, 5]], record.samples[[5, 4]])  # aVL, aVF from aVF, aVL


def test_a_missing_lead_is_refused_unless_it_can_be_derived():
    with pytest.raises(EcgLeadError, match=r"\['aVL'\] missing"):
        make_record([lead for lead in LEADS if lead != "aVL"]).select()
    with pytest.raises(EcgLeadError, match=r"\['V3'\] missing"):
        make_record([lead for lead in LEADS if lead != "V3"]).select(derive=True)
    with pytest.raises(EcgLeadError, match="two or more limb leads"):
        make_record(LEADS[5:]).select(derive=True)


def test_derived_leads_follow_einthoven_and_goldberger():
    one, two = np.random.default_rng(0).normal(size=(2, 100))
    expected = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    assert np.allclose(derive_limb_leads(np.stack([one, two]), ("I", "II")), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("pair", list(combinations(range(6), 2)), ids=str)
def test_any_two_limb_leads_give_all_six(pair):
    full = LIMB_LEADS @ np.random.default_rng(1).normal(size=(2, 40))
    order = pair[::-1]
    derived = derive_limb_leads(full[list(order)], [LEADS[index] for index in order])
    assert np.allclose(derived, full, rtol=0, atol=1e-14)
    assert np.array_equal(derived[list(pair)], full[list(pair)])


def test_limb_leads_are_not_derived_from_integers_or_from_a_repeated_lead():
    with pytest.raises(TypeError, match="expected a floating-point signal, got int16"):
        derive_limb_leads(make_record(("I", "II")).samples, ("I", "II"))
    with pytest.raises(EcgLeadError, match="each once"):
        derive_limb_leads(np.zeros((3, 4)), ("I", "II", "I"))


def test_a_gap_in_either_source_is_a_gap_in_what_is_derived():
    signal = np.ones((2, 4))
    signal[0, 1] = signal[1, 2] = np.nan
    gaps = np.isnan(derive_limb_leads(signal, ("I", "II")))
    assert gaps[0].tolist() == [False, True, False, False] and gaps[1].tolist() == [False, False, True, False]
    assert (gaps[2:] == [False, True, True, False]).all()


@pytest.mark.parametrize("kept", [("I", "II"), ("II", "aVF"), ("III", "I", "aVR")])
def test_dropped_limb_leads_come_back_exactly_when_gains_agree(kept):
    record = consistent_record()
    reduced = record.select([*kept, *LEADS[6:]])
    assert np.array_equal(reduced.select(derive=True).signal, record.signal)


def test_half_a_sum_of_odd_numbers_is_derived_exactly():
    record = make_record(("I", "II"), span=2000)
    one, two = record.samples.astype(int)
    derived = record.select(LEADS[3:6], derive=True)
    assert (derived.gain == 2000).all()
    assert np.array_equal(derived.samples, [-(one + two), 2 * one - two, 2 * two - one])


def test_a_derived_lead_is_within_half_its_step_when_gains_differ():
    record = make_record(("I", "II"), gain=(1716.0, 1206.0), baseline=(6, 2), span=3000)
    record.samples[0, 3] = MISSING
    exact = [
        [None if a == MISSING else Fraction(int(b) - 2, 1206) - Fraction(int(a) - 6, 1716)]
        for a, b in record.samples.T.tolist()
    ]
    derived = record.select(("III",), derive=True)
    for value, (expected,) in zip(derived.samples[0].tolist(), exact, strict=True):
        if expected is None:
            assert value == MISSING
        else:
            assert abs(value / Fraction(derived.gain[0]) - expected) <= Fraction(1, 2) / Fraction(derived.gain[0])


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
@pytest.mark.parametrize("gain", [1000.0, 1.0 / 3, 42444.15189873418, (1716.0, 1206.5, 0.1)])
@pytest.mark.parametrize("baseline", [0, -13120, 2**31 - 1])
def test_signal_is_the_float64_quotient_rounded_once(dtype, gain, baseline):
    record = make_record(("I", "II", "V1"), dtype, 5000, gain=gain, baseline=baseline)
    expected = (record.samples.astype(np.float64) - record.baseline[:, None]) / record.gain[:, None]
    assert np.array_equal(record.signal, expected.astype(np.float32))
    assert record.signal.dtype == np.float32


@pytest.mark.parametrize(("dtype", "gap"), [(np.int16, MISSING), (np.int32, GAP_32)])
def test_a_gap_is_nan_and_nothing_else_is(dtype, gap):
    record = make_record(("I", "II"), dtype)
    record.samples[0, :3] = gap
    record.samples[1, 5] = gap + 1
    assert np.array_equal(np.isnan(record.signal), record.samples == gap)


def test_16_bits_hold_a_wide_record_exactly_when_its_range_allows():
    record = make_record(("I", "II", "V1"), np.int32, gain=500.0, baseline=(0, 7, 90_000))
    record.samples[2] += 100_000  # out of int16, but its range is not
    record.samples[1, 4] = GAP_32
    narrow = record.to_int16()
    assert narrow.samples.dtype == np.int16 and np.array_equal(narrow.gain, record.gain)
    assert np.array_equal(narrow.signal, record.signal, equal_nan=True)
    assert narrow.samples[1, 4] == MISSING and (narrow.samples == MISSING).sum() == 1
    assert np.array_equal(narrow.samples[:2, :4], record.samples[:2, :4])
    assert narrow.to_int16() is narrow


@pytest.mark.parametrize("seed", range(20))
def test_16_bits_are_within_half_a_step_of_a_wider_record(seed):
    rng = np.random.default_rng(seed)
    span, baseline = int(10 ** rng.uniform(4.4, 9.3)), int(rng.integers(-(10**6), 10**6))
    record = make_record(("I", "V1"), np.int32, 2000, seed, gain=10 ** rng.uniform(2, 6), baseline=baseline, span=span)
    record.samples[0, :2] = record.samples[1, 5] = GAP_32
    record.samples[0, 3:5] = span, -span
    narrow = record.to_int16()
    gaps = record.samples == GAP_32
    assert np.array_equal(narrow.samples == MISSING, gaps)
    old = (record.samples.astype(np.float64) - baseline) / record.gain[:, None]
    new = (narrow.samples.astype(np.float64) - narrow.baseline[:, None]) / narrow.gain[:, None]
    assert (np.abs(new - old)[~gaps] <= (0.5 / narrow.gain[:, None] * np.ones_like(old))[~gaps] * (1 + 1e-9)).all()
    used = np.ptp(np.where(gaps, 0, narrow.samples.astype(np.int64)), axis=1)
    assert (used[record.gain > narrow.gain] > 32_000).all()  # no coarser than it had to be


def test_a_lead_of_gaps_alone_survives_in_16_bits():
    record = make_record(("I", "II"), np.int32, span=10**6)
    record.samples[0] = GAP_32
    assert (record.to_int16().samples[0] == MISSING).all()


def test_a_baseline_that_leaves_32_bits_is_refused():
    record = make_record(("I",), np.int32, baseline=2**31 - 1)
    record.samples[:] = -(2**31) + 1 + np.arange(50)
    with pytest.raises(EcgUnitsError, match="baselines in 32 bits"):
        record.to_int16()


@pytest.mark.parametrize("scale", [0.001, 1, 32.0, 33.0, 1000, 1e6])
def test_a_signal_in_millivolts_is_kept_to_half_a_step(scale):
    signal = np.random.default_rng(0).uniform(-scale, scale, (3, 1000))
    signal[0] /= scale * 10
    signal[1, 10:20] = np.nan
    record = Record.from_millivolts("r", signal, ("I", "II", "V1"), 400.0)
    decoded = (record.samples - record.baseline[:, None]) / record.gain[:, None]
    present = np.isfinite(signal)
    assert (np.abs(decoded - signal) <= 0.5 / record.gain[:, None] * (1 + 1e-9))[present].all()
    assert np.array_equal(record.samples == MISSING, ~present)
    assert record.gain[0] == 1000 and (record.gain[1] == 1000) == (scale <= 32)


def test_numbers_that_came_from_an_adc_of_1000_per_millivolt_return_to_it():
    record = make_record(span=32_000)
    again = Record.from_millivolts("r", record.signal, LEADS, 500.0)
    assert np.array_equal(again.samples, record.samples)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_an_infinite_sample_is_refused(bad):
    with pytest.raises(EcgFormatError, match="got infinity"):
        Record.from_millivolts("r", np.array([[0.0, bad]]), ("I",), 500.0)


@pytest.mark.parametrize(
    ("field", "value", "error", "text"),
    [
        ("samples", np.zeros((2, 5), np.int16), EcgFormatError, r"expected int16 or int32 samples of shape \(3, T\)"),
        ("samples", np.zeros((3, 0), np.int16), EcgFormatError, r"got int16 of \(3, 0\)"),
        ("samples", np.zeros(3, np.int16), EcgFormatError, r"got int16 of \(3,\)"),
        ("samples", np.zeros((3, 5), np.int64), EcgFormatError, "got int64"),
        ("samples", np.zeros((3, 5), np.float32), EcgFormatError, "got float32"),
        ("gain", np.ones(2), EcgFormatError, "one gain and one baseline for each of 3 leads"),
        ("baseline", np.zeros((3, 1), np.int32), EcgFormatError, "one gain and one baseline for each of 3 leads"),
        ("sampling_rate", 0.0, EcgFormatError, "above 0 Hz, got 0"),
        ("sampling_rate", -500.0, EcgFormatError, "above 0 Hz, got -500"),
        ("sampling_rate", float("nan"), EcgFormatError, "above 0 Hz, got nan"),
        ("sampling_rate", float("inf"), EcgFormatError, "above 0 Hz, got inf"),
        ("gain", np.array([1.0, 0.0, 1.0]), EcgUnitsError, "expected gains from 0.001"),
        ("gain", np.array([1.0, np.nan, 1.0]), EcgUnitsError, "expected gains from 0.001"),
        ("gain", np.array([1.0, np.inf, 1.0]), EcgUnitsError, "expected gains from 0.001"),
        ("gain", np.array([1e308, 1.0, 1.0]), EcgUnitsError, "expected gains from 0.001"),
        ("gain", np.array([1e-308, 1.0, 1.0]), EcgUnitsError, "expected gains from 0.001"),
        ("leads", ("I", "II", "I"), EcgLeadError, "every lead once"),
        ("leads", ("I", "II", "avr"), EcgLeadError, "standard spelling"),
        ("leads", ("I", "II", "DIII"), EcgLeadError, "standard spelling"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(field, value, error, text):
    with pytest.raises(error, match=text):
        replace(make_record(("I", "II", "V1"), num_samples=5), **{field: value})
