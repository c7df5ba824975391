"""The corpora: one file or folder for each source of ECGs, each with a subclass of `EcgCorpus`.

A source states its facts, such as licence, units, label sets and published counts, as class attributes; it parses the
tables of the official release into an index and decodes the signal files of a record. It also writes a tiny synthetic
corpus in the official layout, so that every test and example runs without the data. The registry maps the name of a
corpus to its class.

Modules, in the order in which to read them:

- `synthetic`: simulated ECGs without files; the shortest way to try the library.
- `ptbxl`: PTB-XL, a good model for a new source.
- `ptb`, `ludb`, `sph`, `echonext`: the other corpora of one file.
- `challenge`: the corpora of the PhysioNet Challenges 2020 and 2021.
- `code`: CODE-15 and CODE-test.
- `heedb`, `mimic`, `zzu`: HEEDB, MIMIC-IV-ECG and ZZU pECG.
- `own`: a user's own records as CSV, HDF5 or WFDB files.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import ecg_hf
    >>> from ecg_hf.corpora.sources.ptbxl import PTBXL
    >>> with TemporaryDirectory() as folder:
    ...     PTBXL.write_example(Path(folder), num_records=20)
    ...     rows = list(ecg_hf.load_corpus("ptbxl", data_dir=folder, split="test", streaming=True))
    >>> [(row["record_id"], row["sampling_rate"], row["leads"][:3]) for row in rows]
    [('19', 500.0, ['I', 'II', 'III']), ('20', 500.0, ['I', 'II', 'III'])]
"""
