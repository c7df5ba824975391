"""Decoder of WFDB records, the format of PhysioNet: the samples that a header describes."""

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgAccessError, EcgFormatError, EcgIntegrityError
from ecg_hf.signals.formats.base import Layout
from ecg_hf.signals.formats.wfdb_header import Header, SignalLine, parse_header
from ecg_hf.signals.record import MISSING, Record

__all__ = ["Header", "SignalLine", "decode", "parse_header"]

_GAPS = (MISSING, -(1 << 31))  # the markers of a gap in `Record`, in 16 bits and in 32
_MATLAB_TYPES = {16: 30, 32: 20, 80: 50}  # little-endian int16, int32 and uint8 matrices of MATLAB 4


class _Codec(NamedTuple):
    """A storage format of samples.

    Args:
        bits: Number of bits per sample.
        missing: Value that marks a gap.
        read: Function that decodes bytes to samples.
    """

    bits: int
    missing: int
    read: Callable[[NDArray[np.uint8]], NDArray[Any]]

    def num_bytes(self, num_values: int) -> int:
        return -(-num_values * self.bits // 8)  # rounded up: a last odd sample of format 212 ends in its second byte


def _read_24(data: NDArray[np.uint8]) -> NDArray[Any]:
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, 1:] = data.reshape(-1, 3)
    return padded.view("<i4")[:, 0] >> 8  # the shift extends the sign


def _read_212(data: NDArray[np.uint8]) -> NDArray[Any]:
    num_values = len(data) * 2 // 3
    low, mixed, high = np.append(data, np.zeros(-len(data) % 3, np.uint8)).reshape(-1, 3).T.astype(np.int16)
    pairs = np.stack([low | (mixed & 0x0F) << 8, high | (mixed & 0xF0) << 4], axis=1)
    return (pairs.reshape(-1)[:num_values] ^ 0x800) - 0x800


_CODECS = {
    16: _Codec(16, MISSING, lambda data: data.view("<i2")),
    24: _Codec(24, -(1 << 23), _read_24),
    32: _Codec(32, -(1 << 31), lambda data: data.view("<i4")),
    61: _Codec(16, MISSING, lambda data: data.view(">i2")),
    80: _Codec(8, -128, lambda data: data.astype(np.int16) - 128),
    212: _Codec(12, -2048, _read_212),
}


def decode(
    header: Header, files: Mapping[str, bytes], *, layout: Layout | None = None, verify_checksums: bool = True
) -> Record:
    """Decodes the samples that a header describes, and checks them against the header.

    A header has no checksum of its own. With a `layout`, a wrong gain, rate or lead in the header is noticed; without
    one, only errors that contradict the samples are.

    Args:
        header: Header of the record, from `parse_header`.
        files: Content of each of `header.file_names`, by name.
        layout: Layout that the corpus promises for the record; None if it promises none.
        verify_checksums: Whether first values and checksums must agree; False only for headers known to lack them.

    Returns:
        The record.

    Raises:
        EcgAccessError: If `files` lacks one of the header's files.
        EcgFormatError: If the number of samples is neither stated nor verified by checksums, or the preamble of a
            MATLAB file is wrong.
        EcgIntegrityError: If the length, first values or checksums of a file differ from the header, or sampling rate
            or number of samples differ from `layout`.
        EcgUnitsError: If a gain is outside the range of electrocardiographs, or gain or baseline differ from `layout`.
        EcgLeadError: If the leads differ from `layout`.

    Source:
        WFDB Applications Guide, signal(5) and header(5); MAT-File Format, level 4, for the preamble of .mat files.
    """
    if header.num_samples is None and not verify_checksums:
        raise EcgFormatError(
            f"{header.record_id}: expected a number of samples, got none; verify the checksums instead"
        )
    parts = [_decode_group(header, group, files, verify_checksums) for group in header.groups]
    if len({part.shape[1] for part in parts}) > 1:
        raise EcgIntegrityError(
            f"{header.record_id}: expected files of one length, got {[part.shape[1] for part in parts]} samples; "
            "fetch them again"
        )
    record = Record(
        record_id=header.record_id,
        samples=_join(parts),
        gain=np.array([line.gain for line in header.signals]),
        baseline=np.array([line.baseline for line in header.signals], np.int32),
        leads=header.leads,
        sampling_rate=header.sampling_rate,
        comments=header.comments,
    )
    if layout is not None:
        layout.check(record)
    return record


def _decode_group(
    header: Header, group: tuple[SignalLine, ...], files: Mapping[str, bytes], verify_checksums: bool
) -> NDArray[Any]:
    name, offset, codec = group[0].file_name, group[0].byte_offset, _CODECS[group[0].storage_format]
    if name not in files:
        raise EcgAccessError(f"{header.record_id}: expected the file {name}, got {sorted(files)}; fetch it")
    data, num_leads = files[name], len(group)
    num_samples = header.num_samples or max(len(data) - offset, 0) * 8 // codec.bits // num_leads
    expected = offset + codec.num_bytes(num_samples * num_leads)
    if num_samples == 0 or len(data) != expected:
        raise EcgIntegrityError(
            f"{name}: expected {expected} bytes for {num_leads} leads of {num_samples} samples, got {len(data)}; "
            "fetch the file again"
        )
    if name.lower().endswith(".mat"):
        _check_matlab(name, data, group[0].storage_format, (num_leads, num_samples))
    values = codec.read(np.frombuffer(data, np.uint8, offset=offset)).reshape(num_samples, num_leads)
    samples = np.array(values.T, np.int32 if codec.bits > 16 else np.int16, order="C")
    if verify_checksums:
        _verify(name, samples, group)
    if codec.missing not in _GAPS and samples.min() == codec.missing:
        samples[samples == codec.missing] = _GAPS[codec.bits > 16]
    return samples


def _check_matlab(name: str, data: bytes, storage_format: int, shape: tuple[int, int]) -> None:
    expected = struct.pack("<5i", _MATLAB_TYPES[storage_format], *shape, 0, 4) + b"val\0"
    if data[: len(expected)] != expected:
        raise EcgFormatError(
            f"{name}: expected a MATLAB 4 matrix 'val' of {shape} in format {storage_format}, "
            f"got the preamble {data[: len(expected)].hex()}; fetch the file again"
        )


def _verify(name: str, samples: NDArray[Any], group: tuple[SignalLine, ...]) -> None:
    sums = np.add.reduce(samples.astype(np.uint16, copy=False), axis=1, dtype=np.uint16).tolist()
    for what, expected, got in (
        ("first values", [line.first for line in group], samples[:, 0].tolist()),
        ("checksums", [line.checksum for line in group], sums),
    ):
        if expected != got:
            raise EcgIntegrityError(f"{name}: expected the {what} {expected}, got {got}; fetch header and file again")


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    if len({part.dtype for part in parts}) == 1:
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    gaps = np.concatenate([part == _GAPS[part.dtype == np.int32] for part in parts])
    samples = np.concatenate([part.astype(np.int32) for part in parts])
    samples[gaps] = _GAPS[True]
    return samples
