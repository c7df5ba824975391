import numpy as np
import pytest

from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError, EcgUnitsError
from ecg_hf.signals.formats import rare_wfdb, wfdb
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.record import LEADS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def write(folder, fmt, units="mV", gain=1000.0):
    oracle = pytest.importorskip("wfdb")
    samples = np.random.default_rng(0).integers(-900, 900, (700, 12))
    oracle.wrsamp(
        "r1",
        fs=500,
        units=[units] * 12,
        sig_name=list(LEADS),
        d_signal=samples,
        fmt=[fmt] * 12,
        adc_gain=[gain] * 12,
        baseline=[7] * 12,
        write_dir=str(folder),
    )
    return samples, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("fmt", ["16", "516", "524"])
def test_samples_units_and_leads_are_those_written(tmp_path, fmt):
    samples, files = write(tmp_path, fmt)
    record = rare_wfdb.decode("r1", files)
    assert np.array_equal(record.samples, samples.T)
    assert record.leads == LEADS and record.sampling_rate == 500
    assert record.signal == pytest.approx((samples.T - 7) / 1000, abs=1e-6)


def test_it_agrees_with_our_own_decoder_where_both_read(tmp_path):
    _, files = write(tmp_path, "16")
    header = wfdb.parse_header(files["r1.hea"], "r1")
    own = wfdb.decode(header, files)
    assert np.array_equal(rare_wfdb.decode("r1", files).signal, own.signal)


def test_our_own_decoder_refuses_flac_and_names_this_one(tmp_path):
    _, files = write(tmp_path, "516")
    with pytest.raises(EcgFormatError, match=r"through ecg_hf\.signals\.formats\.rare_wfdb"):
        wfdb.parse_header(files["r1.hea"], "r1")


def test_a_wrong_checksum_that_wfdb_lets_pass_is_found(tmp_path):
    _, files = write(tmp_path, "16")
    data = bytearray(files["r1.dat"])
    data[2000] ^= 4
    with pytest.raises(EcgIntegrityError, match="expected the checksums"):
        rare_wfdb.decode("r1", files | {"r1.dat": bytes(data)})


def test_a_unit_that_is_no_voltage_and_a_layout_that_disagrees_are_refused(tmp_path):
    _, files = write(tmp_path, "16", units="mmHg")
    with pytest.raises(EcgUnitsError, match="expected a unit of voltage"):
        rare_wfdb.decode("r1", files)
    _, files = write(tmp_path, "16")
    with pytest.raises(EcgIntegrityError, match=r"expected 250\.0 Hz, got 500\.0"):
        rare_wfdb.decode("r1", files, layout=Layout(LEADS, 250.0))


def test_paths_and_unreadable_records_are_refused(tmp_path):
    _, files = write(tmp_path, "16")
    with pytest.raises(EcgAccessError, match="plain name of a file"):
        rare_wfdb.decode("../r1", files)
    with pytest.raises(EcgFormatError, match="wfdb-python reads"):
        rare_wfdb.decode("r1", {"r1.hea": b"", "r1.dat": b""})
