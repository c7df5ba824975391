"""The corpus ZZU pECG: ECGs of children, with findings in two codings and diagnoses at discharge.

The corpus comes with one table of records and two tables of codes. A record's findings are written in the AHA coding
and in a Chinese one, its diagnoses as ICD-10 codes of the patient. The tables of codes are kept in this folder too and
compared with those of the corpus, so that a changed edition is noticed before a label gets another meaning. Some
records have nine leads; the other three leads are absent from the rows, not filled with zeros.

Modules, in the order in which to read them:

- `zzu_pecg`: `ZZUPECG`, the corpus: its facts, its label sets, its index and its records.
- `codes`: the tables of codes, and parsers of findings, diagnoses and quality indices.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import ecg_hf
    >>> from ecg_hf.corpora.sources.zzu.zzu_pecg import ZZUPECG
    >>> with TemporaryDirectory() as folder:
    ...     ZZUPECG.write_example(Path(folder), num_records=4)
    ...     rows = list(ecg_hf.load_corpus("zzu_pecg", split="train", data_dir=folder, streaming=True))
    >>> [len(row["leads"]) for row in rows]
    [12, 9, 12, 12]
    >>> [label["name"] for label in rows[1]["labels"] if label["set"] == "finding"]
    ['Sinus tachycardia', 'Left ventricular high voltage', 'Low voltage']
"""
