"""The corpus HEEDB, the Harvard-Emory ECG Database, in the layouts of its releases 2 to 5.

HEEDB is the largest corpus here: 11.6 million ECGs of two hospitals, each with a table of records and tables of 12SL
codes. The names of tables and columns, and the spellings of paths and codes, differ between hospitals and releases, so
each layout is described once, as data. Tables are read row by row, and the split of a patient is a hash of the id, so
a part of the corpus can be read alone and has the same splits as the whole.

Modules, in the order in which to read them:

- `heedb`: `HEEDB`, the corpus with its facts, index and records, and `HeedbConfig`, its options.
- `tables`: the layouts of all releases, and readers of their tables.
- `example`: writers of tiny synthetic corpora in the layouts of releases 5 and 2.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import ecg_hf
    >>> from ecg_hf.corpora.sources.heedb.heedb import HEEDB
    >>> with TemporaryDirectory() as folder:
    ...     HEEDB.write_example(Path(folder), num_records=8)
    ...     rows = list(ecg_hf.load_corpus("heedb", "emory", folder, split="train", streaming=True))
    >>> [(row["patient_id"], row["sampling_rate"], row["labels"][0]["name"]) for row in rows]
    [('171188448', 500.0, '22')]
"""
