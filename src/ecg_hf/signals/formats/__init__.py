"""Decoders of ECG files, one module per file format.

On the road of an ECG, these modules stand between the files of a corpus and a `Record`. A decoder is handed bytes or an
open file, never a path, so it works the same for folders, archives and servers. Files are not trusted: a decoder checks
sizes, and checksums where the format has them, before it returns samples, refuses references to other places on the
machine, and raises an `EcgError` for anything ambiguous. If a corpus promises a `Layout` (leads, sampling rate, length,
gains), the decoded record is checked against it.

In reading order:

- `base`: the `Layout` of a corpus' records, and the check of file names.
- `wfdb_header`, `wfdb`: WFDB, the format of PhysioNet: the header, then the samples.
- `rare_wfdb`: the rarer WFDB formats, with wfdb-python (extra `io`).
- `hdf5`: HDF5 files and the records in their arrays, with h5py (extra `io`).
- `csv`: comma-separated tables.
- `matlab`, `npy`: fields of a MATLAB 5 structure, and rows of a .npy file.

Example:
    >>> import struct
    >>> from ecg_hf.signals.formats.wfdb import decode, parse_header
    >>> header = parse_header(b'''r 2 500 3
    ... r.dat 16 1000(0)/mV 16 0 0 300 0 I
    ... r.dat 16 1000(0)/mV 16 0 100 600 0 II
    ... ''')
    >>> header.file_names, header.leads
    (('r.dat',), ('I', 'II'))
    >>> record = decode(header, {"r.dat": struct.pack("<6h", 0, 100, 100, 200, 200, 300)})  # the leads take turns
    >>> record.samples.tolist(), record.gain.tolist()
    ([[0, 100, 200], [100, 200, 300]], [1000.0, 1000.0])
"""
