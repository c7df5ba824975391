"""The input contract: equal inputs however they are written down, and a refusal with the remedy for all others."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor

from ecg_hf.errors import EcgError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.models.config import EcgConfig
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD, EcgFeatureExtractor
from ecg_hf.signals.inputs import PLAUSIBLE_AMPLITUDE, check_amplitude
from ecg_hf.signals.record import LEADS
from places import SHARED

# the order in which PTB-XL's statistics were published, and in which they are easily misread
PUBLISHED_ORDER = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")
CORPUS = {"normalization": "corpus", "mean": PTBXL_MEAN, "std": PTBXL_STD}


def ecg(num_samples=2_500, rate=500, seed=0):
    """Beats of a random dipole, so that the limb leads obey Einthoven's law; mV, (12, T), float32."""
    rng = np.random.default_rng(seed)
    times = np.arange(num_samples) / rate
    beats = np.exp(-(((times % 0.8) - 0.4) ** 2) / 0.001) + 0.2 * np.exp(-(((times % 0.8) - 0.6) ** 2) / 0.004)
    waves = np.stack([beats + 0.1 * np.sin(2 * np.pi * f * times) for f in rng.uniform(0.2, 8, 8)])
    one, two, *chest = waves * rng.uniform(-1, 1, (8, 1))
    limbs = (one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2)
    return np.stack([*limbs, *chest]).astype(np.float32)


def extract(signal, rate=500, *, names=LEADS, unit=None, **fields):
    return EcgFeatureExtractor(**fields)(signal, sampling_rate=rate, leads=names, unit=unit)["signal"]


def row(signal, rate=500.0, leads=LEADS, gain=1_000.0):
    adc = np.where(np.isnan(signal), -32_768, np.rint(np.nan_to_num(signal) * gain)).astype("<i2")
    return {
        "record_id": "jim",
        "signal": adc.tobytes(),
        "leads": list(leads),
        "gain": [gain] * len(leads),
        "baseline": [0] * len(leads),
        "num_samples": signal.shape[1],
        "sampling_rate": rate,
    }


def einthoven_residual(values, leads):
    one, two, three, avr, avl, avf = (values[leads.index(lead)] for lead in LEADS[:6])
    return max(abs(three - two + one), abs(avr + (one + two) / 2), abs(avl - one + two / 2), abs(avf - two + one / 2))


# the statistics of PTB-XL


def test_means_of_ptbxl_obey_einthovens_law_in_our_order_and_not_as_published():
    assert einthoven_residual(PTBXL_MEAN, LEADS) < 6e-5
    published = [PTBXL_MEAN[LEADS.index(lead)] for lead in PUBLISHED_ORDER]
    assert einthoven_residual(published, LEADS) > 1e-3


def test_deviations_of_ptbxl_are_in_the_order_of_real_records():
    wfdb = pytest.importorskip("wfdb")
    headers = sorted((SHARED / "ptb-xl" / "records100").glob("*/*.hea"))[::6]
    if not headers:
        pytest.skip("no PTB-XL records here")
    stds = np.mean([wfdb.rdsamp(str(header.with_suffix("")))[0].std(axis=0) for header in headers], axis=0)
    published = [PTBXL_STD[LEADS.index(lead)] for lead in PUBLISHED_ORDER]
    assert np.corrcoef(stds, PTBXL_STD)[0, 1] > 0.9
    assert np.corrcoef(stds, published)[0, 1] < 0.3


# the same ECG, written down in another way


def test_leads_are_found_by_name_in_any_order():
    signal, rng = ecg(), np.random.default_rng(0)
    expected = extract(signal)
    for _ in range(50):
        order = rng.permutation(12)
        np.testing.assert_array_equal(extract(signal[order], names=[LEADS[i] for i in order]), expected)


def test_lead_names_of_devices_are_understood_and_other_leads_left_out():
    signal = ecg()
    names = ["DI", "dii", "Lead III", "AVR", "avl", "MDC_ECG_LEAD_AVF", *LEADS[6:], "vx"]
    np.testing.assert_array_equal(extract(np.vstack([signal, signal[:1]]), names=names), extract(signal))


def test_units_are_converted():
    signal = ecg()
    for unit, factor in (("mV", 1), ("uV", 1e3), ("\u00b5V", 1e3), ("V", 1e-3)):
        np.testing.assert_allclose(extract(signal * factor, unit=unit), extract(signal), rtol=1e-5, atol=1e-6)
    microvolts = np.rint(signal * 1_000)
    np.testing.assert_array_equal(extract(microvolts.astype(np.int16), unit="uV"), extract(microvolts, unit="uV"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_precision_and_byte_order_do_not_matter(dtype):
    features = extract(ecg().astype(dtype))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, extract(ecg()), atol=2e-3)


def test_a_batch_a_list_a_tensor_and_single_signals_give_the_same():
    signals = np.stack([ecg(seed=seed) for seed in range(3)])
    expected = np.concatenate([extract(signal) for signal in signals])
    for several in (signals, list(signals), signals.tolist(), torch.from_numpy(signals)):
        np.testing.assert_array_equal(extract(several), expected)
    np.testing.assert_array_equal(extract(signals[0].tolist()), expected[:1])


def test_the_callers_signal_stays_as_it_was():
    signal = ecg(rate=240)
    signal[3, 5] = np.nan
    before = signal.copy()
    extract(signal, 240, normalization="record", missing_samples="zero")
    np.testing.assert_array_equal(signal, before)


def test_a_row_of_a_corpus_gives_what_its_signal_gives():
    adc = np.rint(ecg() * 1_000) / np.float32(1_000)
    extractor = EcgFeatureExtractor(normalization="record")
    np.testing.assert_allclose(
        extractor.process_row(row(adc)), extractor(adc, sampling_rate=500)["signal"][0], atol=1e-5
    )
    order = [11, *range(11)]
    np.testing.assert_array_equal(
        extractor.process_row(row(adc[order], leads=[LEADS[i] for i in order])), extractor.process_row(row(adc))
    )


def test_a_row_may_be_short_or_flat_for_its_gain_is_known():
    features = EcgFeatureExtractor(num_samples=600).process_row(row(np.zeros((12, 50))))
    assert features.shape == (12, 24)
    assert not features.any()


def test_tensors_come_out_when_asked_for():
    batch = EcgFeatureExtractor(missing_leads="zero")(ecg(), sampling_rate=500, return_tensors="pt")
    assert (batch["signal"].dtype, tuple(batch["signal"].shape)) == (torch.float32, (1, 12, 1_200))
    assert (batch["lead_mask"].dtype, tuple(batch["lead_mask"].shape)) == (torch.bool, (1, 12))


# time


@pytest.mark.parametrize("rate", [100, 128.5, 240, 257, 360, 400, 500, 1000])
def test_a_rhythm_keeps_its_rate_in_hz_whatever_the_sampling_rate(rate):
    times = np.arange(round(10 * rate)) / rate
    signal = np.tile(np.sin(2 * np.pi * 3 * times), (12, 1)).astype(np.float32)
    features = extract(signal, rate)[0]
    assert features.shape == (12, 2_400)
    expected = np.sin(2 * np.pi * 3 * np.arange(2_400) / 240)
    np.testing.assert_allclose(features[:, 240:-240], np.tile(expected, (12, 1))[:, 240:-240], atol=1e-5)


def test_normalisation_comes_after_resampling():
    features = extract(ecg(), normalization="record")[0]
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=1), 1, atol=1e-5)


# normalisation


def test_a_record_is_normalised_whatever_its_gain_and_offset():
    signal = ecg()
    gains, offsets = np.random.default_rng(1).uniform(0.5, 2, (2, 12, 1))
    expected = extract(signal, normalization="record")
    np.testing.assert_allclose(extract(signal * gains + offsets, normalization="record"), expected, atol=1e-4)


def test_a_record_is_normalised_by_the_samples_that_it_has():
    whole = ecg(rate=240)
    holed = whole.copy()
    holed[:, 1_000:1_100] = np.nan
    features = extract(holed, 240, normalization="record", missing_samples="zero")[0]
    there = np.delete(whole, np.s_[1_000:1_100], axis=1)
    expected = (there - there.mean(axis=1, keepdims=True)) / there.std(axis=1, keepdims=True)
    np.testing.assert_allclose(np.delete(features, np.s_[1_000:1_100], axis=1), expected, atol=1e-5)


def test_a_corpus_mean_becomes_0_and_one_deviation_becomes_1():
    mean, std = np.array(PTBXL_MEAN)[:, None], np.array(PTBXL_STD)[:, None]
    wave = np.sin(np.arange(2_500) / 50)
    np.testing.assert_allclose(extract(mean + std * wave, 240, **CORPUS)[0], np.tile(wave, (12, 1)), atol=1e-5)


def test_a_flat_lead_is_not_blown_up():
    signal = ecg()
    signal[4] = 0.2 + 1e-5 * np.random.default_rng(0).standard_normal(2_500)
    assert np.abs(extract(signal, normalization="record")[0, 4]).max() < 0.1
    signal[4] = 0.2
    np.testing.assert_allclose(extract(signal, normalization="record")[0, 4], 0, atol=1e-3)


# missing leads


@pytest.mark.parametrize("fields", [{}, {"normalization": "record"}, CORPUS])
@pytest.mark.parametrize("num_leads", [1, 2, 3, 4, 6, 8])
def test_missing_leads_are_0_and_the_others_what_they_were(fields, num_leads):
    signal = ecg()
    kept = np.sort(np.random.default_rng(num_leads).permutation(12)[:num_leads])
    extractor = EcgFeatureExtractor(missing_leads="zero", **fields)
    batch = extractor(signal[kept], sampling_rate=500, leads=[LEADS[i] for i in kept])
    assert np.flatnonzero(batch["lead_mask"][0]).tolist() == kept.tolist()
    np.testing.assert_allclose(batch["signal"][0, kept], extract(signal, **fields)[0, kept], atol=1e-5)
    assert not batch["signal"][0, ~batch["lead_mask"][0]].any()


@pytest.mark.parametrize("pair", [("I", "II"), ("I", "III"), ("II", "III"), ("aVR", "aVL"), ("I", "aVF")])
def test_limb_leads_are_derived_from_any_two(pair):
    signal, names = ecg(), (*pair, *LEADS[6:])
    partial = signal[[LEADS.index(name) for name in names]]
    np.testing.assert_allclose(extract(partial, names=names, missing_leads="derive"), extract(signal), atol=1e-5)


def test_a_lead_can_be_derived_from_leads_that_the_model_does_not_see():
    signal = ecg()
    derived = extract(signal[[0, 5]], names=("I", "aVF"), leads=("aVL",), missing_leads="derive")
    np.testing.assert_allclose(derived, extract(signal)[:, [4]], atol=1e-5)
    with pytest.raises(EcgLeadError, match=r"limb leads.* got \['I', 'V1'\]"):
        extract(signal[[0, 6]], names=("I", "V1"), leads=("aVL",), missing_leads="derive")


@pytest.mark.parametrize("missing_leads", ["refuse", "derive"])
def test_a_chest_lead_cannot_be_derived(missing_leads):
    with pytest.raises(EcgLeadError, match=r"no sample of \['V1'\]; record them, or use a model whose"):
        extract(np.delete(ecg(), 6, axis=0), names=[x for x in LEADS if x != "V1"], missing_leads=missing_leads)


def test_a_lead_without_samples_is_a_missing_lead():
    signal = ecg()
    signal[2] = np.nan
    with pytest.raises(EcgLeadError, match=r"no sample of \['III'\]"):
        extract(signal)
    np.testing.assert_allclose(extract(signal, missing_leads="derive"), extract(ecg()), atol=1e-5)
    batch = EcgFeatureExtractor(missing_leads="zero")(signal, sampling_rate=500)
    assert batch["lead_mask"][0].tolist() == [lead != "III" for lead in LEADS]


@pytest.mark.parametrize("missing_leads", ["refuse", "derive", "zero"])
def test_a_signal_without_any_sample_is_refused(missing_leads):
    with pytest.raises(EcgLeadError, match="no sample of"):
        extract(np.full((12, 2_500), np.nan), missing_leads=missing_leads)


def test_no_mask_is_given_where_no_lead_can_be_missing():
    assert set(EcgFeatureExtractor()(ecg(), sampling_rate=500)) == {"signal"}


# missing samples


def test_missing_samples_are_bridged():
    signal = np.tile(np.linspace(-1, 1, 2_500, dtype=np.float32), (12, 1))
    holed = signal.copy()
    holed[3, 700:900] = np.nan
    np.testing.assert_allclose(extract(holed, missing_samples="interpolate"), extract(signal), atol=1e-5)


@pytest.mark.parametrize("fields", [{}, {"normalization": "record"}, CORPUS])
def test_missing_samples_are_0_and_do_not_ring(fields):
    holed = ecg() + 5
    holed[3, 700:900] = np.nan
    features = extract(holed, missing_samples="zero", **fields)[0]
    bridged = extract(holed, missing_samples="interpolate", **fields)[0]
    assert not features[3, 337:432].any()
    outside = np.r_[:335, 433:1_200]
    np.testing.assert_array_equal(features[3, outside], bridged[3, outside])
    np.testing.assert_array_equal(np.delete(features, 3, axis=0), np.delete(bridged, 3, axis=0))


def test_a_lead_of_two_samples_gives_numbers_all_the_same():
    signal = ecg()
    signal[4, :2_498] = np.nan
    for missing_samples in ("zero", "interpolate"):
        assert np.isfinite(extract(signal, missing_samples=missing_samples, normalization="record")).all()


# amplitude


def test_real_records_are_taken_for_mv_and_for_nothing_else():
    wfdb = pytest.importorskip("wfdb")
    headers = [*(SHARED / "ptb-xl" / "records100").glob("*/*.hea"), *(SHARED / "ludb").rglob("*.hea")]
    if not headers:
        pytest.skip("no records here")
    for header in sorted(headers)[::6]:
        signal = wfdb.rdsamp(str(header.with_suffix("")))[0].T.astype(np.float32)
        check_amplitude(signal, "mV")
        for factor, unit in ((1e3, "uV"), (1e-3, "V")):
            with pytest.raises(EcgUnitsError, match=f"it looks like {unit}, so give that unit"):
                check_amplitude(signal * np.float32(factor), "mV")
            with pytest.raises(EcgUnitsError, match="it looks like mV, so give that unit"):
                check_amplitude(signal * np.float32(1 / factor), unit)


def test_padding_and_offsets_say_nothing_about_the_unit():
    padded = np.pad(ecg(), ((0, 0), (3_000, 3_000)))
    assert extract(padded).shape == (1, 12, 4_080)
    assert extract(ecg() + 300).shape == (1, 12, 1_200)


def test_plausible_amplitudes_tell_units_apart():
    low, high = PLAUSIBLE_AMPLITUDE
    assert low < 0.0102  # the quietest of 1,193 real records
    assert high > 0.42  # and the loudest
    assert 0.0102 * 1_000 > high
    assert 0.42 / 1_000 < low


# refusals: each fault in each form of input

NAN, INF = float("nan"), float("inf")


def with_value(value, *where):
    signal = ecg()
    signal[where] = value
    return signal


RATES = {
    "absent": (None, ValueError, "sampling_rate is None; give the rate"),
    "zero": (0, ValueError, "must lie in 20 to 50000 Hz, got 0"),
    "negative": (-500, ValueError, "must lie in 20 to 50000 Hz, got -500"),
    "nan": (NAN, ValueError, "must lie in 20 to 50000 Hz, got nan"),
    "infinite": (INF, ValueError, "must lie in 20 to 50000 Hz, got inf"),
    "kHz": (0.5, ValueError, "convert kHz or intervals to Hz"),
    "interval": (0.002, ValueError, "convert kHz or intervals to Hz"),
    "MHz": (1e6, ValueError, "must lie in 20 to 50000 Hz"),
    "text": ("500", TypeError, "must be a number of Hz, got '500'; convert it first"),
    "truth": (True, TypeError, "must be a number of Hz, got True"),
}
SIGNALS = {
    "uV as mV": (ecg() * 1_000, EcgUnitsError, "looks like uV, so give that unit"),
    "V as mV": (ecg() / 1_000, EcgUnitsError, "looks like V, so give that unit"),
    "nV as mV": (ecg() * 1e6, EcgUnitsError, "read as mV; divide by the gain if these are ADC counts"),
    "ADC counts": (
        np.rint(ecg() * 200).astype(np.int16),
        EcgUnitsError,
        "got whole numbers .int16.; divide ADC counts",
    ),
    "constant": (np.ones((12, 2_500)), EcgUnitsError, "got 12 constant leads; check the electrodes"),
    "zeros": (np.zeros((12, 2_500)), EcgUnitsError, "got 12 constant leads"),
    "a lead too few": (ecg()[:11], EcgLeadError, "name in leads exactly the leads that the signal has"),
    "a lead too many": (np.vstack([ecg(), ecg()[:1]]), EcgLeadError, "name in leads exactly the leads"),
    "time first": (ecg().T, ValueError, "time before leads; swap its last two axes"),
    "too short": (ecg(1_248), ValueError, "at least 2.5 s, 600 samples at 240 Hz, got 2.496 s, 1248 samples at 500 Hz"),
    "one sample": (ecg(2), ValueError, "give a longer record, or check the sampling rate"),
    "no sample": (ecg()[:, :0], ValueError, "which is empty; check how it was read"),
    "truth values": (ecg() > 0, TypeError, "must be made of real numbers, got bool; convert it"),
    "complex": (ecg() + 0j, TypeError, "must be made of real numbers, got complex64"),
    "text": (ecg()[:, :700].astype(str), TypeError, "must be made of real numbers, got <U"),
    "objects": (ecg()[:, :700].astype(object), TypeError, "must be made of real numbers, got object"),
    "one missing sample": (
        with_value(NAN, 5, 7),
        EcgIntegrityError,
        r"NaN in \{'aVF': 1\} of 2500 samples a lead; use",
    ),
    "a missing second": (with_value(NAN, 3, slice(500)), EcgIntegrityError, "a feature extractor with missing_samples"),
    "a missing lead": (with_value(NAN, 3), EcgLeadError, r"no sample of \['aVR'\]; record them"),
    "nothing": (np.full((12, 2_500), NAN), EcgLeadError, "no sample of"),
    "infinity": (with_value(INF, 5, 7), EcgIntegrityError, "infinite ones; mark gaps as NaN"),
    "a lead of infinity": (with_value(-INF, 5), EcgIntegrityError, "infinite ones; mark gaps as NaN"),
    "beyond float32": (ecg().astype(np.float64) * 1e39, EcgIntegrityError, "infinite ones; mark gaps as NaN"),
}
FORMS = {
    "one": lambda signal: signal,
    "batch": lambda signal: np.stack([signal, signal]),
    "list": lambda signal: [signal, signal],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", RATES)
def test_a_wrong_rate_is_refused(fault, form):
    rate, error, message = RATES[fault]
    with pytest.raises(error, match=message):
        EcgFeatureExtractor(num_samples=600)(FORMS[form](ecg()), sampling_rate=rate)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", SIGNALS)
def test_a_wrong_signal_is_refused(fault, form):
    signal, error, message = SIGNALS[fault]
    with pytest.raises(error, match=message):
        EcgFeatureExtractor(num_samples=600)(FORMS[form](signal), sampling_rate=500)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"unit": "mmHg"}, EcgUnitsError, "a unit of voltage .* got 'mmHg'; convert the signal"),
        ({"unit": "uV"}, EcgUnitsError, "read as uV; it looks like mV"),
        ({"unit": "V"}, EcgUnitsError, "read as V; it looks like mV"),
        ({"leads": (*LEADS[:11], "V7")}, EcgLeadError, "got 'V7'; rename it"),
        ({"leads": (*LEADS[:11], "I")}, EcgLeadError, "got I repeatedly"),
        ({"leads": (*LEADS[:11], "vx")}, EcgLeadError, r"no sample of \['V6'\]"),
        ({"leads": "IIIIIIaVRaVL"}, TypeError, "got the string 'IIIIIIaVRaVL'"),
    ],
)
def test_a_wrong_unit_or_lead_name_is_refused(fields, error, message):
    with pytest.raises(error, match=message):
        EcgFeatureExtractor()(ecg(), sampling_rate=500, **fields)


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (ecg()[0], r"must have the shape \(12, T\) or \(B, 12, T\), got \(2500,\); one lead alone is signal\[None\]"),
        (ecg()[None, None], r"got \(1, 1, 12, 2500\)"),
        ([ecg(), ecg(2_000)], r"must have one shape, got \[\(12, 2500\), \(12, 2000\)\]; call once for each length"),
        ([], r"must have one shape, got \[\]"),
    ],
)
def test_another_shape_is_refused(signal, message):
    with pytest.raises(ValueError, match=message):
        EcgFeatureExtractor()(signal, sampling_rate=500)


def test_the_faulty_signal_of_a_batch_is_named():
    with pytest.raises(EcgError) as caught:
        EcgFeatureExtractor()([ecg(), with_value(NAN, 5, 7), ecg()], sampling_rate=500)
    assert caught.value.__notes__ == ["in signal 1 of 3"]


def test_the_models_leads_come_in_the_models_order():
    np.testing.assert_allclose(extract(ecg(), leads=("V5", "II")), extract(ecg())[:, [10, 1]], atol=1e-6)


def test_a_signal_of_exactly_one_crop_is_long_enough():
    extractor = EcgFeatureExtractor(num_samples=600)
    assert extractor(ecg(1_250), sampling_rate=500)["signal"].shape == (1, 12, 600)


# the contract itself


class ToyFeaturesConfig(EcgConfig):
    model_type = "ecg-toy-features"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sampling_rate": 128.5, "leads": ("II", "V1", "V5"), "num_samples": 320, "normalization": "record"},
        {**CORPUS, "missing_leads": "derive", "missing_samples": "interpolate"},
        {"missing_leads": "zero", "missing_samples": "zero"},
    ],
)
def test_a_saved_contract_is_the_same_contract(tmp_path, fields):
    AutoFeatureExtractor.register(ToyFeaturesConfig, EcgFeatureExtractor, exist_ok=True)
    saved = EcgFeatureExtractor(**fields)
    saved.save_pretrained(tmp_path)
    for loaded in (EcgFeatureExtractor.from_pretrained(tmp_path), AutoFeatureExtractor.from_pretrained(tmp_path)):
        assert type(loaded) is EcgFeatureExtractor
        assert loaded.to_dict() == saved.to_dict()
        given = loaded(ecg(), sampling_rate=500)["signal"]
        np.testing.assert_array_equal(given, extract(ecg(), **fields))
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert written == json.loads(json.dumps(EcgFeatureExtractor(**written).to_dict()))


def test_a_saved_contract_states_everything(tmp_path):
    EcgFeatureExtractor(num_samples=600).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text()) == {
        "contract_version": 1,
        "feature_extractor_type": "EcgFeatureExtractor",
        "leads": list(LEADS),
        "mean": None,
        "missing_leads": "refuse",
        "missing_samples": "refuse",
        "normalization": "none",
        "num_samples": 600,
        "sampling_rate": 240.0,
        "std": None,
        "unit": "mV",
    }


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sampling_rat": 500}, TypeError, "has no field 'sampling_rat'; its fields are"),
        ({"contract_version": 2}, ValueError, "contract_version must be 1, got 2; update ecg_hf"),
        ({"unit": "uV"}, ValueError, "unit must be 'mV', got 'uV'"),
        ({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, ValueError, "must be 'EcgFeatureExtractor'"),
        ({"sampling_rate": 0}, ValueError, "must lie in 20 to 50000 Hz, got 0"),
        ({"sampling_rate": None}, ValueError, "sampling_rate is None"),
        ({"leads": ["I", "I"]}, EcgLeadError, "got I repeatedly"),
        ({"leads": ["vx"]}, EcgLeadError, r"leads must be at least one of .*, got \['vx'\]"),
        ({"leads": []}, EcgLeadError, r"leads must be at least one of .*, got \[\]"),
        ({"num_samples": 0}, ValueError, "num_samples must be a whole number above 0, or None, got 0"),
        ({"num_samples": 2.5}, ValueError, "got 2.5"),
        ({"normalization": "zscore"}, ValueError, "normalization must be one of .* got 'zscore'"),
        ({"missing_leads": "guess"}, ValueError, "missing_leads must be one of .* got 'guess'"),
        ({"missing_samples": "guess"}, ValueError, "missing_samples must be one of .* got 'guess'"),
        ({"normalization": "corpus"}, ValueError, "needs a mean and a std for each of 12 leads"),
        ({**CORPUS, "mean": PTBXL_MEAN[:8]}, ValueError, "needs a mean and a std for each of 12 leads"),
        ({**CORPUS, "std": [0.0] * 12}, ValueError, "std finite and above 0"),
        ({**CORPUS, "mean": [NAN] * 12}, ValueError, "mean must be finite"),
        ({**CORPUS, "normalization": "record"}, ValueError, "mean and std belong to normalization 'corpus'"),
    ],
)
def test_a_contract_that_is_not_ours_is_refused(tmp_path, change, error, message):
    EcgFeatureExtractor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=message):
        EcgFeatureExtractor.from_pretrained(tmp_path)
