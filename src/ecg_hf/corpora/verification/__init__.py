"""Checks that a corpus on disk is complete, intact and free of leaks between its splits.

A download can be incomplete or damaged, a corpus can be read in a wrong unit, and one recording can be published in
several corpora, so that a model is tested on an ECG of its training set. `dataset_scripts/verify.py` compares the files
with their published SHA-256, reads every record, and writes a report and, on request, a ledger. The ledger holds a
fingerprint of each recording's waveform; the ledgers of several corpora together show which recordings they share.

Modules, in the order in which to read them:

- `verify`: the steps of a verification, and `Report`, which collects their results.
- `checksums`: comparison of files with their published SHA-256.
- `ledger`: `LedgerEntry` and `Duplicate`, and reading and writing of ledgers.
- `duplicates`: search for equal or overlapping recordings among millions of fingerprints.
- `report`: the report in Markdown.

Example:
    >>> from ecg_hf.corpora.verification.report import render_report
    >>> from ecg_hf.corpora.verification.verify import Source, judge, read_record, start_report
    >>> corpus = Source("synthetic", options=(("num_records", 3),)).open()
    >>> report, entries = start_report(corpus)
    >>> for entry in entries:
    ...     report.add(read_record(corpus, entry))
    >>> judge(report, duplicates=[], allow_missing=False)
    >>> render_report(report).splitlines()[0]
    '# synthetic (default) 1.0.0: **passed**'
    >>> dict(report.shapes), report.splits["train"]
    ({'12 leads, 500 Hz, 10 s': 3}, {'num_records': 3, 'num_patients': 2})
"""
