"""Strict parser of WFDB headers, which refuses ambiguous and incomplete ones."""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, NoReturn

from ecg_hf.errors import EcgFormatError, EcgLeadError, EcgUnitsError
from ecg_hf.signals.formats.base import check_file_name
from ecg_hf.signals.record import lead_names
from ecg_hf.signals.units import gain_per_millivolt

_MAX_BYTES, _MAX_LINES = 1 << 20, 4096
_FORMATS = (16, 24, 32, 61, 80, 212)
_MATLAB_ENCODINGS = [(16, 24), (32, 24), (80, 24)]  # (format, byte offset) of MATLAB 4 matrices, after their preamble
_RARE = (
    "wfdb-python reads such records (single segments: through ecg_hf.signals.formats.rare_wfdb); or convert it to one "
    "segment of format 16"
)

_FLOAT = r"[0-9]{1,15}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?"
_INT = r"-?[0-9]{1,10}"
_RECORD = re.compile(
    r"(?P<name>[A-Za-z0-9_-]+)(?:\.mat)?(?P<segments>/[0-9]+)?[ \t]+(?P<num_leads>[0-9]{1,6})"
    rf"(?:[ \t]+(?P<rate>{_FLOAT})(?:/{_FLOAT}(?:\(-?{_FLOAT}\))?)?(?:[ \t]+(?P<num_samples>[0-9]{{1,15}})"
    r"(?:[ \t]+[0-9][0-9:./]*|[ \t]+[0-9]{1,2}-[A-Z][a-z]{2}-[0-9]{4}){0,2})?)?"
)
_ENCODING = (
    r"(?P<format>[0-9]{1,5})(?:x(?P<frame>[0-9]{1,10}))?(?::(?P<skew>[0-9]{1,10}))?(?:\+(?P<offset>[0-9]{1,10}))?"
)
_GAIN = rf"(?P<gain>-?{_FLOAT})(?:\((?P<baseline>{_INT})\))?(?:/(?P<unit>\S+))?"
_SIGNAL = re.compile(
    rf"(?P<file>\S+)[ \t]+{_ENCODING}[ \t]+{_GAIN}[ \t]+[0-9]{{1,5}}[ \t]+(?P<zero>{_INT})"
    rf"[ \t]+(?P<first>{_INT})[ \t]+(?P<checksum>{_INT})[ \t]+{_INT}[ \t]+(?P<lead>\S.*)"
)


class SignalLine(NamedTuple):
    """Description of one lead in a header.

    Args:
        file_name: Plain name of the file that holds the lead.
        storage_format: WFDB's number of the storage format, one of the six that `decode` reads.
        byte_offset: Number of bytes before the first sample.
        gain: ADC units per mV.
        baseline: ADC value of 0 mV.
        first: First ADC value.
        checksum: Sum of all ADC values, modulo 65,536.
    """

    file_name: str
    storage_format: int
    byte_offset: int
    gain: float
    baseline: int
    first: int
    checksum: int


@dataclass(frozen=True)
class Header:
    """A parsed header, each field of which has been checked on its own; `decode` checks them against the samples.

    Args:
        record_id: Name of the record, without the ".mat" that some headers of the 2020 Challenge append.
        sampling_rate: Sampling rate, in Hz.
        num_samples: Number of samples per lead; None if the header does not state it.
        leads: Names of the leads, as in `Record`, in stored order.
        signals: One line per lead.
        comments: Lines of free text, without comment characters.
    """

    record_id: str
    sampling_rate: float
    num_samples: int | None
    leads: tuple[str, ...]
    signals: tuple[SignalLine, ...]
    comments: tuple[str, ...]

    @cached_property
    def groups(self) -> tuple[tuple[SignalLine, ...], ...]:
        """Signal lines grouped by signal file, in the header's order."""
        return tuple(tuple(lines) for _, lines in groupby(self.signals, key=lambda line: line.file_name))

    @property
    def file_names(self) -> tuple[str, ...]:
        """Names of the signal files whose content `decode` needs, each once."""
        return tuple(group[0].file_name for group in self.groups)


def parse_header(data: bytes, record_name: str | None = None) -> Header:
    """Parses a header and refuses anything that it does not state explicitly; no signal file is opened.

    Args:
        data: Content of a .hea file.
        record_name: Record name that the header must contain, with or without ".mat"; None accepts any name.

    Returns:
        The header.

    Raises:
        EcgFormatError: If a line violates the standard, or uses a part of it that `decode` does not support.
        EcgAccessError: If the name of a signal file is a path.
        EcgUnitsError: If a gain is missing or not above zero, or its unit is not a voltage.
        EcgLeadError: If the name of a lead is missing, unknown or repeated.

    Source:
        WFDB Applications Guide, header(5); we refuse its defaults for sampling frequency and gain, which are guesses.
    """
    lines, comments = _split(data)
    match = _RECORD.fullmatch(lines[0]) if lines else None
    if match is None:
        raise EcgFormatError(
            f"expected a line 'name leads Hz samples', got {[line[:200] for line in lines[:1]]}; fetch the header again"
        )
    name, num_leads, rate = match["name"], int(match["num_leads"]), float(match["rate"] or 0)
    if record_name is not None and record_name.removesuffix(".mat") != name:
        raise EcgFormatError(f"expected the header of {record_name!r}, got that of {name!r}; restore the file's name")
    if match["segments"]:
        raise EcgFormatError(f"{name}: expected one segment, got {match['segments'][1:]}; {_RARE}")
    if not 0 < num_leads == len(lines) - 1:
        raise EcgFormatError(f"{name}: expected {num_leads} leads, got {len(lines) - 1} lines; fetch the header again")
    if not 1 <= rate <= 1e6:
        raise EcgFormatError(
            f"{name}: expected a sampling rate of 1 to 1e6 Hz, got {match['rate']}; write the right one"
        )
    parsed = [_parse_signal(name, line) for line in lines[1:]]
    leads = lead_names([lead for _, lead in parsed])
    num_samples = int(match["num_samples"] or 0) or None  # 0 means "unspecified" in the standard
    header = Header(name, rate, num_samples, leads, tuple(line for line, _ in parsed), comments)
    _check_groups(header)
    return header


def _split(data: bytes) -> tuple[list[str], tuple[str, ...]]:
    num_lines = data.count(b"\n")
    if len(data) > _MAX_BYTES or num_lines > _MAX_LINES:
        raise EcgFormatError(
            f"expected a header of at most {_MAX_BYTES} bytes and {_MAX_LINES} lines, got {len(data)} and {num_lines}; "
            "this is not a WFDB header"
        )
    lines = [line.strip(" \t\r") for line in data.decode("utf-8", "backslashreplace").split("\n")]
    comments = tuple(line[1:].strip() for line in lines if line.startswith("#"))
    return [line for line in lines if line and not line.startswith("#")], comments


def _parse_signal(name: str, line: str) -> tuple[SignalLine, str]:
    match = _SIGNAL.fullmatch(line)
    if match is None:
        _refuse_signal(name, line)
    file_name, fmt, frame, skew, offset, gain, baseline, unit, zero, first, checksum, lead = match.groups()
    if int(fmt) not in _FORMATS:
        raise EcgFormatError(f"{name}: expected a format of {_FORMATS}, got {fmt}; {_RARE}")
    if int(frame or 1) != 1 or int(skew or 0) != 0:
        raise EcgFormatError(f"{name}: expected 1 sample per frame and no skew, got {line.split()[1]!r}; {_RARE}")
    origin, total = int(baseline or zero), int(checksum)
    if not (-(1 << 31) <= origin < 1 << 31 and -(1 << 15) <= total < 1 << 16):
        raise EcgFormatError(
            f"{name}: expected a baseline of 32 bits and a checksum of 16, got {origin} and {total}; "
            "fetch the header again"
        )
    per_millivolt = gain_per_millivolt(gain, unit or "mV")  # header(5): the default unit is mV
    return SignalLine(file_name, int(fmt), int(offset or 0), per_millivolt, origin, int(first), total % 65_536), lead


def _refuse_signal(name: str, line: str) -> NoReturn:
    fields = line[:200].split()
    if len(fields) > 1 and re.fullmatch(_ENCODING, fields[1]):
        if len(fields) < 3 or not re.fullmatch(_GAIN, fields[2]):
            raise EcgUnitsError(
                f"{name}: expected a gain such as 1000(0)/mV, got {fields[2:3]}; find that of the device"
            )
        if len(fields) == 8:
            raise EcgLeadError(f"{name}: expected the name of a lead at the end of {line[:200]!r}, got none; add it")
    raise EcgFormatError(
        f"{name}: expected 'file format gain bits zero first checksum block lead', got {line[:200]!r}; "
        "fetch the header again"
    )


def _check_groups(header: Header) -> None:
    if len({name.lower() for name in header.file_names}) < len(header.file_names):
        raise EcgFormatError(
            f"{header.record_id}: expected the leads of a file next to each other and names that differ in more than "
            f"case, got {header.file_names}; fetch the header again"
        )
    for group in header.groups:
        check_file_name(group[0].file_name)
        encodings = {(line.storage_format, line.byte_offset) for line in group}
        matlab = group[0].file_name.lower().endswith(".mat")
        good = _MATLAB_ENCODINGS if matlab else list(encodings)
        if len(encodings) > 1 or not encodings <= set(good):
            raise EcgFormatError(
                f"{header.record_id}: expected one (format, byte offset) in {group[0].file_name}"
                f"{f', of {good}' * matlab}, got {sorted(encodings)}; fetch the header again"
            )
