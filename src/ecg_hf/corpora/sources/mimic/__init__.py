"""The corpus MIMIC-IV-ECG and the hospital tables from which its labels come.

MIMIC-IV-ECG itself holds the signals, a list of records and the measurements of the machine. Diagnoses, later events,
age, sex and folds are in tables of other PhysioNet projects, matched by the number of the study. A user puts these
tables beside the list of records or in its subfolder `labels`; a missing table only leaves its label sets empty. The
tables are too large for memory, so they are read row by row.

Modules, in the order in which to read them:

- `mimic_iv_ecg`: `MimicIVECG`, the corpus: its facts, its label sets, its index and its records.
- `labels`: parsers of the rows of each table of labels.
- `tables`: readers of large tables, row by row, and parsers of single fields.
- `measurements`: writer of `measurements.csv`, computed once from the tables of MIMIC-IV and MIMIC-IV-ED.
- `example`: writer of a tiny synthetic corpus in the official layout.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import ecg_hf
    >>> from ecg_hf.corpora.sources.mimic.mimic_iv_ecg import MimicIVECG
    >>> with TemporaryDirectory() as folder:
    ...     MimicIVECG.write_example(Path(folder), num_records=4)
    ...     row = next(iter(ecg_hf.load_corpus("mimic_iv_ecg", split="train", data_dir=folder, streaming=True)))
    >>> row["report"], {label["name"]: label["value"] for label in row["labels"] if label["set"] == "icu"}
    ('Sinus rhythm', {'icu_24h': 1.0})
"""
