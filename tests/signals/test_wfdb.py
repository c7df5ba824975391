"""What the WFDB decoder promises: the samples that wfdb reads, or a typed error, and never a changed record."""

import builtins
import tracemalloc
import warnings
from collections import Counter
from math import ceil

import numpy as np
import pytest
from scipy.io import loadmat

from ecg_hf.errors import EcgAccessError, EcgError, EcgFormatError, EcgIntegrityError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.formats import wfdb as decoder
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.wfdb import decode, parse_header
from ecg_hf.signals.record import LEADS, MISSING
from ecg_hf.signals.units import gain_per_millivolt
from places import SHARED

with warnings.catch_warnings():  # wfdb 4.3.1 asks pandas 3.1 for what pandas 4 will not have
    warnings.simplefilter("ignore")
    import wfdb

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")

BITS = {16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 212: 12}
GAP_32 = -(1 << 31)
MATLAB_TYPES = {16: 30, 32: 20, 80: 50}


def encode(values, storage_format):
    """Packs integers by way of a string of bits, one sample after the other."""
    bits = BITS[storage_format]
    words = [int(value) + (128 if storage_format == 80 else 0) for value in values]
    if storage_format == 61:
        return b"".join((word & 0xFFFF).to_bytes(2, "big") for word in words)
    if storage_format != 212:
        return b"".join((word & ((1 << bits) - 1)).to_bytes(bits // 8, "little") for word in words)
    packed = bytearray()
    for index in range(0, len(words), 2):
        one, two = [word & 0xFFF for word in [*words[index : index + 2], 0][:2]]
        packed += bytes([one & 0xFF, one >> 8 | (two >> 8) << 4, two & 0xFF])
    return bytes(packed[: ceil(len(words) * 1.5)])


def signal_line(row, lead, file_name="r.dat", encoding="16", gain="1000.0(0)/mV"):
    total = int(row.astype(np.int64).sum()) % 65_536
    return f"{file_name} {encoding} {gain} 16 0 {row[0]} {total - 65_536 * (total > 32_767)} 0 {lead}"


def make_files(samples, storage_format=16, leads=LEADS, name="r", gain="1000.0(0)/mV", rate="500", tail="# Age: 63\n"):
    lines = [
        signal_line(row, lead, f"{name}.dat", str(storage_format), gain)
        for row, lead in zip(samples, leads, strict=False)
    ]
    header = "\n".join([f"{name} {len(samples)} {rate} {samples.shape[1]}", *lines, tail])
    return header.encode(), {f"{name}.dat": encode(samples.T.reshape(-1).tolist(), storage_format)}


def random_samples(num_leads, num_samples, storage_format=16, seed=0, gaps=True):
    bits = BITS[storage_format]
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    samples = np.random.default_rng(seed).integers(low + 1, high, (num_leads, num_samples), endpoint=True)
    flat = samples.reshape(-1)
    edges = np.array([low + 1, high, 0, -1, 1, low // 2, high // 2, low + 2])
    places = np.unique(np.linspace(0, flat.size - 1, 8).astype(int))
    flat[places] = edges[: len(places)]
    if gaps:
        flat[3 :: max(flat.size // 5, 1)] = low
    return samples


def read_with_wfdb(folder, header, files, name="r"):
    (folder / f"{name}.hea").write_bytes(header)
    for file_name, data in files.items():
        (folder / file_name).write_bytes(data)
    return wfdb.rdrecord(str(folder / name), physical=False), wfdb.rdrecord(str(folder / name))


def assert_same_as_wfdb(record, digital, physical):
    expected = digital.d_signal.T.astype(np.int64)
    gap = np.isnan(physical.p_signal.T)
    kept = record.samples.astype(np.int64)
    assert np.array_equal(kept == np.iinfo(record.samples.dtype).min, gap)
    assert np.array_equal(kept[~gap], expected[~gap])
    assert np.array_equal(record.baseline, digital.baseline)
    assert record.sampling_rate == digital.fs
    power = [{"mv": 1, "uv": 1e3, "v": 1e-3}[unit.lower()] for unit in digital.units]
    assert np.allclose(record.gain, np.multiply(digital.adc_gain, power), rtol=1e-15, atol=0)
    expected_mv = physical.p_signal.T / np.array(power)[:, None]
    assert np.allclose(record.signal, expected_mv, rtol=2e-7, atol=1e-12, equal_nan=True)


def load(path, **options):
    header = parse_header(path.with_suffix(".hea").read_bytes(), path.stem)
    return decode(header, {name: (path.parent / name).read_bytes() for name in header.file_names}, **options)


def generated(seed, storage_format):
    rng = np.random.default_rng([seed, storage_format])
    num_leads, num_samples = int(rng.integers(1, 13)), int(rng.integers(1, 60))
    samples = random_samples(num_leads, num_samples, storage_format, seed, gaps=bool(seed % 2))
    gain = f"{rng.choice(['1000', '200.0', '42444.15189873418', '1e3', '4.88'])}({rng.integers(-9999, 9999)})"
    rate = str(rng.choice(["500", "257", "128.5", "360/360(0)"]))
    return make_files(samples, storage_format, gain=gain + str(rng.choice(["/mV", "/mv", "/uV", "/V", ""])), rate=rate)


def check_generated(folder, seed, storage_format):
    header, files = generated(seed, storage_format)
    assert_same_as_wfdb(decode(parse_header(header, "r"), files), *read_with_wfdb(folder, header, files))


@pytest.mark.parametrize("storage_format", BITS)
@pytest.mark.parametrize("seed", range(12))
def test_a_generated_record_decodes_as_in_wfdb(tmp_path, seed, storage_format):
    check_generated(tmp_path, seed, storage_format)


@pytest.mark.slow
@pytest.mark.parametrize("storage_format", BITS)
def test_5000_generated_records_decode_as_in_wfdb(tmp_path, storage_format):
    for seed in range(100, 934):
        check_generated(tmp_path, seed, storage_format)


@pytest.mark.parametrize("storage_format", [16, 24, 32, 80, 212])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 5), (12, 50)])
def test_a_record_written_by_wfdb_decodes_to_what_was_written(tmp_path, storage_format, shape):
    samples = random_samples(*shape, storage_format, seed=5)
    wfdb.wrsamp(
        "r", 500, ["mV"] * shape[0], list(LEADS[: shape[0]]), d_signal=samples.T, fmt=[str(storage_format)] * shape[0],
        adc_gain=[200.0] * shape[0], baseline=[0] * shape[0], comments=["Age: 63"], write_dir=str(tmp_path),
    )  # fmt: skip
    record = load(tmp_path / "r")
    gaps = samples == -(1 << (BITS[storage_format] - 1))
    assert np.array_equal(np.where(gaps, np.iinfo(record.samples.dtype).min, samples), record.samples)
    assert record.comments == ("Age: 63",) and record.leads == LEADS[: shape[0]] and record.sampling_rate == 500


@pytest.mark.parametrize("storage_format", BITS)
def test_extremes_and_the_mark_of_a_gap_are_told_apart(storage_format):
    low, high = -(1 << (BITS[storage_format] - 1)), (1 << (BITS[storage_format] - 1)) - 1
    samples = np.array([[low + 1, high, low, 0, -1]])
    record = decode(parse_header(make_files(samples, storage_format)[0]), make_files(samples, storage_format)[1])
    assert record.samples.tolist() == [[low + 1, high, np.iinfo(record.samples.dtype).min, 0, -1]]
    assert np.isnan(record.signal).tolist() == [[False, False, True, False, False]]
    assert record.samples.dtype == (np.int32 if BITS[storage_format] > 16 else np.int16)


def test_files_of_16_and_32_bits_join_with_their_gaps(tmp_path):
    narrow, wide = random_samples(2, 9, 16), random_samples(1, 9, 32)
    rows = [*narrow, *wide]
    names, encodings = ["a.dat", "a.dat", "b.dat"], ["16", "16", "32"]
    lines = [signal_line(*about) for about in zip(rows, LEADS, names, encodings, strict=False)]
    header = "\n".join(["r 3 500 9", *lines]).encode()
    files = {"a.dat": encode(narrow.T.reshape(-1), 16), "b.dat": encode(wide.T.reshape(-1), 32)}
    record = decode(parse_header(header), files)
    assert record.samples.dtype == np.int32
    assert_same_as_wfdb(record, *read_with_wfdb(tmp_path, header, files))
    assert (record.samples[:2][narrow == MISSING] == GAP_32).all() and (narrow == MISSING).any()


REAL = {
    "ptb-xl": "ptb-xl/records*/*/*.hea",
    "challenge": "challenge-2021/training/*/*/*.hea",
    "arrhythmia": "ecg-arrhythmia/WFDBRecords/*/*/*.hea",
    "ptbdb": "ptbdb/*/*.hea",
    "ludb": "ludb/data/*.hea",
    "legacy": "legacy-headers/*.hea",
}


def real_headers(corpus):
    paths = sorted(SHARED.glob(REAL[corpus]))
    if not paths:
        pytest.skip(f"no {corpus} beside the repository")
    return paths


def compare_real(paths):
    for path in paths:
        record, stem = load(path), str(path.with_suffix(""))
        if not path.read_bytes().split()[0].endswith(b".mat"):  # wfdb refuses a record name with a dot
            assert_same_as_wfdb(record, wfdb.rdrecord(stem, physical=False), wfdb.rdrecord(stem))
        if (matlab := path.with_suffix(".mat")).exists():
            assert np.array_equal(record.samples, loadmat(str(matlab))["val"])


@pytest.mark.parametrize("corpus", REAL)
def test_real_records_decode_as_in_wfdb_and_scipy(corpus):
    paths = real_headers(corpus)
    compare_real(paths[:: max(len(paths) // 25, 1)])


@pytest.mark.slow
@pytest.mark.parametrize("corpus", REAL)
def test_every_real_record_decodes_as_in_wfdb_and_scipy(corpus):
    compare_real(real_headers(corpus))


def test_ptb_xl_keeps_its_layout():
    for path in real_headers("ptb-xl")[::20]:
        rate = 500 if path.stem.endswith("hr") else 100
        layout = Layout(LEADS, rate, num_samples=10 * rate, gain=1000.0, baseline=0)
        assert load(path, layout=layout).samples.shape == (12, 10 * rate)


def test_fifteen_leads_in_two_files_keep_frank_leads_under_their_own_names():
    record = load(real_headers("ptbdb")[0])
    assert record.leads == (*LEADS, "vx", "vy", "vz")
    assert (record.gain == 2000).all() and record.comments[:2] == ("age: 81", "sex: female")


def test_a_2020_header_with_mat_in_its_record_name_gives_the_plain_name():
    real_headers("legacy")
    assert load(SHARED / "legacy-headers" / "E00271").record_id == "E00271"


HEADER, FILES = make_files(random_samples(3, 20, gaps=False), leads=("I", "II", "V1"))
FIRST = HEADER.split(b"\n")[1]
RECORD_FIELDS = ("samples", "gain", "baseline")


def refuse(error, text, header=HEADER, files=None, **options):
    with pytest.raises(error, match=text):
        decode(parse_header(header, "r"), FILES if files is None else files, **options)


def field(index, value, line=FIRST):
    fields = line.split(b" ")
    fields[index : index + 1] = [value] if value else []
    return HEADER.replace(line, b" ".join(fields))


@pytest.mark.parametrize(
    ("record_line", "text"),
    [
        (b"r 3", "1 to 1e6 Hz, got None"),
        (b"r 3 0 20", "1 to 1e6 Hz, got 0"),
        (b"r 3 1e9 20", "1 to 1e6 Hz, got 1e9"),
        (b"r 3 1e-9 20", "1 to 1e6 Hz, got 1e-9"),
        (b"r 3 -500 20", "name leads Hz samples"),
        (b"r 3 nan 20", "name leads Hz samples"),
        (b"r 3 inf 20", "name leads Hz samples"),
        (b"r 3 5OO 20", "name leads Hz samples"),
        (b"r 3 500 20 noon", "name leads Hz samples"),
        (b"r\x00 3 500 20", "name leads Hz samples"),
        (b"r", "name leads Hz samples"),
        (b"../r 3 500 20", "name leads Hz samples"),
        (b"r.hea 3 500 20", "name leads Hz samples"),
        (b"s 3 500 20", "expected the header of 'r', got that of 's'"),
        (b"r/2 3 500 20", "one segment, got 2; wfdb-python reads such"),
        (b"r 0 500 20", "expected 0 leads, got 3 lines"),
        (b"r 2 500 20", "expected 2 leads, got 3 lines"),
        (b"r 4 500 20", "expected 4 leads, got 3 lines"),
        (b"r 999999 500 20", "expected 999999 leads, got 3 lines"),
        (b"r 1000000000 500 20", "name leads Hz samples"),
    ],
)
def test_a_bad_record_line_is_refused(record_line, text):
    refuse(EcgFormatError, text, HEADER.replace(b"r 3 500 20", record_line))


@pytest.mark.parametrize("rate", ["500", "257", "128.5", "1e6", "5.e2", "500/1000(3)", "0500"])
def test_a_sampling_rate_is_read_as_written(rate):
    header = HEADER.replace(b"r 3 500", f"r 3 {rate}".encode())
    assert decode(parse_header(header), FILES).sampling_rate == float(rate.split("/")[0])


@pytest.mark.parametrize("moment", ["", "12:04:00 22/09/2182", "12:04", "05-May-2020 14:50:55", "1:2:3.456 1/2/99"])
def test_dates_and_times_in_either_order_change_nothing(moment):
    header = HEADER.replace(b"r 3 500 20", f"r 3 500 20 {moment}".encode())
    assert np.array_equal(decode(parse_header(header), FILES).samples, decode(parse_header(HEADER), FILES).samples)


@pytest.mark.parametrize("num_samples", [19, 21, 40, 10**9, 10**12, 10**15 - 1])
def test_a_wrong_number_of_samples_is_refused_before_memory_is_asked_for(num_samples):
    tracemalloc.start()
    refuse(EcgIntegrityError, f"of {num_samples} samples, got 120", HEADER.replace(b"500 20", b"500 %d" % num_samples))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("storage_format", BITS)
@pytest.mark.parametrize("record_line", [b"r 3 500", b"r 3 500 0"])
def test_an_open_number_of_samples_is_found_only_under_checksums(storage_format, record_line):
    samples = random_samples(3, 7, storage_format)
    header, files = make_files(samples, storage_format, leads=("I", "II", "V1"))
    opened = header.replace(b"r 3 500 7", record_line)
    assert np.array_equal(decode(parse_header(opened), files).samples, decode(parse_header(header), files).samples)
    refuse(EcgFormatError, "expected a number of samples", opened, files, verify_checksums=False)
    cut = encode(samples.T.reshape(-1).tolist()[:-3], storage_format)
    refuse(EcgIntegrityError, "checksums|bytes", opened, {"r.dat": cut})
    refuse(EcgIntegrityError, "checksums|bytes", opened, {"r.dat": files["r.dat"][:-1]})


@pytest.mark.parametrize(
    ("header", "error", "text"),
    [
        (field(1, b"999"), EcgFormatError, r"a format of \(16, 24.*got 999; wfdb-python reads"),
        (field(1, b"8"), EcgFormatError, "got 8; wfdb-python reads"),
        (field(1, b"516"), EcgFormatError, "got 516; wfdb-python reads"),
        (field(1, b"16x2"), EcgFormatError, "1 sample per frame and no skew, got '16x2'"),
        (field(1, b"16x1000000000"), EcgFormatError, "1 sample per frame and no skew"),
        (field(1, b"16:3"), EcgFormatError, "no skew, got '16:3'"),
        (field(1, b"16:1000000000"), EcgFormatError, "no skew"),
        (field(1, b"61"), EcgFormatError, r"expected one \(format, byte offset\) in r.dat"),
        (field(1, b"16+24"), EcgFormatError, r"expected one \(format, byte offset\) in r.dat"),
        (field(1, b""), EcgFormatError, "expected 'file format gain"),
        (field(2, b""), EcgLeadError, "expected the name of a lead"),
        (field(2, b"nan/mV"), EcgUnitsError, "expected a gain such as"),
        (field(2, b"0"), EcgUnitsError, "0 marks an uncalibrated signal"),
        (field(2, b"0.0(0)/mV"), EcgUnitsError, "0 marks an uncalibrated signal"),
        (field(2, b"-1000/mV"), EcgUnitsError, "a negative gain an inverted one"),
        (field(2, b"1e308/mV"), EcgUnitsError, "expected gains from"),
        (field(2, b"1e-308/mV"), EcgUnitsError, "expected gains from"),
        (field(2, b"1e-999/mV"), EcgUnitsError, "above 0"),
        (field(2, b"1e999/mV"), EcgUnitsError, "expected gains from"),
        (field(2, b"1000/mmHg"), EcgUnitsError, "a unit of voltage .* got 'mmHg'"),
        (field(2, b"1000/NU"), EcgUnitsError, "got 'NU'"),
        (field(2, b"1000/"), EcgUnitsError, "such as|'file format"),
        (field(2, b"1000(0"), EcgUnitsError, "expected a gain such as"),
        (field(2, b"1000(2147483648)/mV"), EcgFormatError, "a baseline of 32 bits"),
        (field(6, b"65536"), EcgFormatError, "a checksum of 16, got 0 and 65536"),
        (field(6, b"-32769"), EcgFormatError, "a checksum of 16"),
        (field(6, b"7"), EcgIntegrityError, "expected the checksums"),
        (field(5, b"7"), EcgIntegrityError, "expected the first values"),
        (field(8, b""), EcgLeadError, "expected the name of a lead"),
        (field(8, b"II"), EcgLeadError, "got II repeatedly"),
        (field(8, b"MLII"), EcgLeadError, "got 'MLII'"),
        (field(8, b"-I"), EcgLeadError, "got '-I'"),
        (field(8, b"I\x00"), EcgLeadError, "expected a spelling"),
        (field(8, b"ECG"), EcgLeadError, "got 'ECG'"),
        (field(4, b"x"), EcgFormatError, "expected 'file format gain"),
        (HEADER.replace(b"\n", b" "), EcgFormatError, "name leads Hz samples"),
        (b"", EcgFormatError, r"got \[\]; fetch the header again"),
        (b"# only a comment\n", EcgFormatError, r"got \[\]"),
        (b"<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>\n", EcgFormatError, "name leads Hz samples"),
        (HEADER + FIRST, EcgFormatError, "expected 3 leads, got 4 lines"),
    ],
)
def test_a_bad_header_is_refused(header, error, text):
    refuse(error, text, header)


NAMES = [
    *"../r.dat /etc/passwd /dev/zero a/r.dat a\\r.dat C:\\r.dat C:r.dat .. . - ~ .r.dat ~/r.dat r..dat r.dat/".split(),
    *"%2e%2e%2fr.dat file:///r.dat http://x/r.dat \\\\host\\r.dat $HOME `id` r;dat r|dat r*dat r?dat CON:".split(),
    *"....//r r.dat/. ./r.dat ..%00 &r <r r\x00 \x00 r\x7f r\x1b r\u2044dat \uff0e\uff0e\uff0fr \u202er.dat".split(" "),
    *("r\u00a0dat", "a" * 256, "a" * 4096),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_name_that_is_a_path_is_refused(name):
    header = HEADER.replace(b"r.dat", name.encode())
    refuse(
        (EcgAccessError, EcgFormatError), "plain name of a file|'file format gain", header, dict.fromkeys([name], b"")
    )


def test_names_that_differ_in_case_only_and_scattered_leads_are_refused():
    lines = HEADER.split(b"\n")
    for name in (b"R.dat", b"s.dat"):
        scattered = b"\n".join([*lines[:2], lines[2].replace(b"r.dat", name), *lines[3:]])
        refuse(EcgFormatError, "leads of a file next to each other", scattered)


def test_a_file_that_is_not_given_is_named():
    refuse(EcgAccessError, r"r: expected the file r.dat, got \['other.dat'\]", files={"other.dat": b""})


UNITS = {"mV": 1, "MV": 1, "mv": 1, "uV": 1000, "UV": 1000, "uv": 1000, "\u00b5V": 1000, "\u03bcV": 1000, "nV": 10**6}


@pytest.mark.parametrize("unit", [*UNITS, "V", "v"])
@pytest.mark.parametrize("gain", ["1000", "0.1", "4.88", "42444.15189873418"])
def test_a_gain_in_any_voltage_becomes_the_nearest_gain_per_millivolt(unit, gain):
    expected = float(f"{gain}e{len(str(UNITS.get(unit, 1))) - 1 if unit in UNITS else -3}")
    assert gain_per_millivolt(gain, unit) == expected
    if 1e-3 <= expected <= 1e9:
        record = decode(parse_header(field(2, f"{gain}(-7)/{unit}".encode())), FILES)
        assert record.gain.tolist() == [expected, 1000, 1000] and record.baseline.tolist() == [-7, 0, 0]


def test_a_gain_without_unit_is_per_millivolt_and_without_baseline_starts_at_adc_zero():
    record = decode(parse_header(HEADER.replace(FIRST, FIRST.replace(b"1000.0(0)/mV 16 0", b"2000 16 -5"))), FILES)
    assert record.gain[0] == 2000 and record.baseline[0] == -5


@pytest.mark.parametrize("storage_format", BITS)
def test_every_truncation_and_every_trailing_byte_is_found(storage_format):
    header, files = make_files(random_samples(3, 21, storage_format), storage_format, leads=("I", "II", "V1"))
    data = files["r.dat"]
    for end in np.linspace(0, len(data) - 1, 50).astype(int):
        refuse(EcgIntegrityError, f"expected {len(data)} bytes", header, {"r.dat": data[:end]})
    for tail in (b"\0", b"\0\0", b"\0\0\0", data):
        refuse(EcgIntegrityError, f"expected {len(data)} bytes", header, {"r.dat": data + tail})


def test_2000_flipped_bits_are_found():
    header, data, rng = parse_header(HEADER), FILES["r.dat"], np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(EcgIntegrityError, match=r"first values|checksums"):
            decode(header, {"r.dat": bytes(damaged)})


def test_checksums_are_left_out_on_request_and_nothing_else_is():
    header = field(6, b"7")
    assert np.array_equal(
        decode(parse_header(header), FILES, verify_checksums=False).samples, decode(parse_header(HEADER), FILES).samples
    )
    refuse(EcgIntegrityError, "expected 120 bytes", header, {"r.dat": FILES["r.dat"][:-2]}, verify_checksums=False)


@pytest.mark.parametrize("header", [b"#" * 100_000_000, b"r 3" + b" 5" * 600_000, b"\n" * 5000, b"# c\n" * 5000])
def test_a_huge_header_is_refused_at_once(header):
    with pytest.raises(EcgFormatError, match="at most 1048576 bytes and 4096 lines"):
        parse_header(header)


LONG = [b"r.dat 16 1000/%s 16 0 0 0 0 I" % (b"m" * 10**6), b"r.dat 16 1000/mV 16 0 0 0 0 " + b"I" * 10**6]


@pytest.mark.parametrize(
    "line", [b"9" * 10**6, b"a " * 500_000, b"r.dat 16 " + b"1" * 10**6, b"\t" * 10**6 + b"x", *LONG]
)
def test_a_long_line_under_the_cap_is_refused_without_backtracking(line):
    for header in (line, b"r 1 500 20\n" + line):
        with pytest.raises(EcgError) as caught:
            parse_header(header)
        assert len(str(caught.value)) < 1000


def matlab_files(storage_format=16, **changes):
    samples = random_samples(3, 20, storage_format, gaps=False)
    lines = [
        signal_line(row, lead, "r.mat", f"{storage_format}x1+24", "1000/mv")
        for row, lead in zip(samples, ("I", "II", "V1"), strict=True)
    ]
    about = {"type": MATLAB_TYPES[storage_format], "rows": 3, "columns": 20, "imaginary": 0, "length": 4} | changes
    name = about.pop("name", b"val\0")
    preamble = b"".join(int(value).to_bytes(4, "little") for value in about.values()) + name
    return "\n".join(["r.mat 3 500 20", *lines]).encode(), {
        "r.mat": preamble + encode(samples.T.reshape(-1), storage_format)
    }


@pytest.mark.parametrize("storage_format", MATLAB_TYPES)
def test_a_matlab_file_decodes_as_in_scipy(tmp_path, storage_format):
    header, files = matlab_files(storage_format)
    (tmp_path / "r.mat").write_bytes(files["r.mat"])
    expected = loadmat(str(tmp_path / "r.mat"))["val"].astype(np.int64) - (128 if storage_format == 80 else 0)
    assert np.array_equal(decode(parse_header(header, "r"), files).samples, expected)
    assert parse_header(header, "r.mat").record_id == "r"


@pytest.mark.parametrize(
    "changes",
    [
        {"type": 0},
        {"type": 1030},
        {"type": 20},
        {"rows": 20, "columns": 3},
        {"imaginary": 1},
        {"length": 5},
        {"name": b"ECG\0"},
    ],
    ids=str,
)
def test_a_matlab_preamble_that_says_something_else_is_refused(changes):
    header, files = matlab_files(**changes)
    refuse(EcgFormatError, r"expected a MATLAB 4 matrix 'val' of \(3, 20\)", header, files)


@pytest.mark.parametrize("encoding", [b"16x1", b"16+20", b"61+24", b"212+24"])
def test_a_matlab_file_is_read_only_behind_its_preamble(encoding):
    header, files = matlab_files()
    refuse(EcgFormatError, "in r.mat, of", header.replace(b"16x1+24", encoding), files)


def test_comments_keep_every_byte():
    header = HEADER.replace(b"# Age: 63", "# Age: 63\n#Dx: caf\u00e9\n  #\n#\xb5V".encode("latin-1"))
    header = b"# first\r\n\r\n" + header.replace(b"\n", b"\r\n")
    record = decode(parse_header(header), FILES)
    assert record.comments == ("first", "Age: 63", "Dx: caf\\xe9", "", "\\xb5V")
    assert np.array_equal(record.samples, decode(parse_header(HEADER), FILES).samples)


def test_decoding_opens_no_file(monkeypatch):
    def refuse_to_open(*args, **options):
        raise AssertionError(f"opened {args}")

    monkeypatch.setattr(builtins, "open", refuse_to_open)
    monkeypatch.setattr("os.open", refuse_to_open)
    assert decode(parse_header(HEADER), FILES).record_id == "r"


def test_header_and_decoder_know_the_same_formats():
    assert set(decoder._CODECS) == set(BITS) and set(decoder._MATLAB_TYPES) == set(MATLAB_TYPES)


LAYOUT = Layout(("I", "II", "V1"), 500, num_samples=20, gain=1000.0, baseline=0)


@pytest.mark.parametrize(
    ("header", "error", "text"),
    [
        (field(8, b"III"), EcgLeadError, r"expected the leads \('I', 'II', 'V1'\) in this order, got \('III'"),
        (
            HEADER.replace(b" I\n", b" x\n").replace(b" II\n", b" I\n").replace(b" x\n", b" II\n"),
            EcgLeadError,
            "this order",
        ),
        (HEADER.replace(b"r 3 500", b"r 3 50"), EcgIntegrityError, "expected 500 Hz, got 50"),
        (field(2, b"1001(0)/mV"), EcgUnitsError, r"expected 1000.0 ADC units per mV, got \[1001.0"),
        (field(2, b"1000(0)/uV"), EcgUnitsError, r"expected 1000.0 ADC units per mV, got \[1000000.0"),
        (field(2, b"1000(1)/mV"), EcgUnitsError, r"expected 0 as ADC value of 0 mV, got \[1, 0, 0\]"),
    ],
)
def test_a_layout_finds_a_header_that_contradicts_the_corpus(header, error, text):
    decode(parse_header(HEADER), FILES, layout=LAYOUT)
    decode(parse_header(header), FILES)
    refuse(error, text, header, layout=LAYOUT)


def test_a_layout_finds_another_length_and_checks_each_lead_by_itself():
    header, files = make_files(random_samples(3, 21), leads=("I", "II", "V1"))
    refuse(EcgIntegrityError, "expected 20 samples per lead, got 21", header, files, layout=LAYOUT)
    layout = Layout(("I", "II", "V1"), 500, gain=(2.0, 1000.0, 1000.0), baseline=(5, 0, 0))
    decode(parse_header(field(2, b"2(5)/mV")), FILES, layout=layout)
    refuse(EcgUnitsError, "expected", layout=layout)


def mutate(header, rng):
    """Damages a header once: a byte, a digit, or a line."""
    kind = rng.integers(8)
    if kind < 5:
        digits = [index for index, byte in enumerate(header) if 48 <= byte < 58]
        index = int(rng.choice(digits) if kind > 2 else rng.integers(len(header)))
        byte = bytes([rng.integers(48, 58)]) if kind > 2 else bytes([rng.integers(256)])
        middle, skip = [(byte, 1), (byte, 0), (b"", 1), (byte, 1), (byte, 1)][kind]
        return header[:index] + middle + header[index + skip :]
    lines = header.split(b"\n")
    one, two = (int(index) for index in rng.integers(len(lines), size=2))
    if kind == 5:
        lines[one], lines[two] = lines[two], lines[one]
    elif kind == 6:
        lines.insert(one, lines[two])
    else:
        del lines[one]
    return b"\n".join(lines)


def fuzz_bases():
    """Headers of every corpus' style, each with its files and what its corpus promises."""
    dat = make_files(random_samples(12, 50, gaps=False))
    mat = matlab_files()
    mimic = tuple(LEADS[index] for index in (0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11))
    odd = make_files(random_samples(3, 21, 212), 212, ("i", "avr", "v6"), gain="200")
    ludb_layout = Layout(("II", "V2"), 500, 40, (1206.0, 1000.0), (2, 0))
    ludb_lines = make_files(random_samples(2, 40), leads=("ii", "v2"))[0].replace(b"1000.0(0)", b"1206(2)", 1)
    long = make_files(random_samples(12, 40), leads=mimic, gain="200.0(0)/mV", tail="# <subject_id>: 12177274\n")
    return {
        "ptbxl": (*dat, Layout(LEADS, 500, 50, 1000.0, 0)),
        "challenge": (*mat, Layout(("I", "II", "V1"), 500, 20, 1000.0, 0)),
        "mimic": (*long, Layout(mimic, 500, 40, 200.0, 0)),
        "packed": (*odd, Layout(("I", "aVR", "V6"), 500, 21, 200.0, 0)),
        "ludb": (ludb_lines, make_files(random_samples(2, 40))[1], ludb_layout),
        "single": (*make_files(random_samples(1, 60, 24), 24), Layout(("I",), 500, 60, 1000.0, 0)),
    }


def changes_of(header, files, base, layout):
    """The fields in which a damaged header gives another record without an error."""
    try:
        record = decode(parse_header(header, "r"), files, layout=layout)
    except EcgError:
        return None
    changed = [name for name in RECORD_FIELDS if not np.array_equal(getattr(record, name), getattr(base, name))]
    return changed + [
        name for name in ("record_id", "leads", "sampling_rate") if getattr(record, name) != getattr(base, name)
    ]


def fuzz(base_name, count, with_layout, seed=0):
    header, files, layout = fuzz_bases()[base_name]
    base, rng, silent = decode(parse_header(header, "r"), files, layout=layout), np.random.default_rng(seed), Counter()
    for _ in range(count):
        damaged = header
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            damaged = mutate(damaged, rng)
        changed = changes_of(damaged, files, base, layout if with_layout else None)
        silent.update(["refused"] if changed is None else changed or ["identical"])
    return silent


@pytest.mark.parametrize("base_name", fuzz_bases())
def test_with_a_layout_no_damaged_header_changes_a_record_in_silence(base_name):
    outcome = fuzz(base_name, 340, with_layout=True)
    assert set(outcome) == {"refused", "identical"}, outcome


@pytest.mark.slow
@pytest.mark.parametrize("base_name", fuzz_bases())
def test_with_a_layout_20000_damaged_headers_change_no_record_in_silence(base_name):
    outcome = fuzz(base_name, 20_000, with_layout=True, seed=1)
    assert set(outcome) == {"refused", "identical"}, outcome


@pytest.mark.parametrize("base_name", fuzz_bases())
def test_without_a_layout_a_damaged_header_changes_only_what_nothing_else_in_it_repeats(base_name, record_property):
    outcome = fuzz(base_name, 340, with_layout=False)
    record_property("silent", dict(outcome))
    assert not {"samples", "record_id"} & set(outcome), outcome
    assert outcome["refused"] > 0
