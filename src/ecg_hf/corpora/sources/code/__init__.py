"""The corpora CODE-15 and CODE-test, both parts of the CODE study of primary care in Minas Gerais, Brazil.

CODE-15 is for training: 345,779 exams with six findings and mortality. CODE-test is for testing: 827 exams, each
annotated by several raters. Both keep their signals in HDF5 files of many tracings, each padded with zeros to 4,096
samples at 400 Hz, but with the augmented limb leads in a different order, which is checked by the sums of the leads.
The unit of the numbers is uncertain and is labelled so.

Modules, in the order in which to read them:

- `tracings`: the files of tracings that both corpora share.
- `code15`: `Code15`, with its table of exams and the search for an exam in its HDF5 files.
- `code_test`: `CodeTest`, with the tables of its raters.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import ecg_hf
    >>> from ecg_hf.corpora.sources.code.code_test import CodeTest
    >>> with TemporaryDirectory() as folder:
    ...     CodeTest.write_example(Path(folder), num_records=2)
    ...     rows = list(ecg_hf.load_corpus("code_test", data_dir=folder, split="test", streaming=True))
    >>> [(row["record_id"], row["num_samples"], row["sampling_rate"]) for row in rows]  # without padding
    [('0', 4000, 400.0), ('1', 2800, 400.0)]
    >>> [label["set"] for label in rows[0]["labels"] if label["name"] == "1dAVb"]  # raters who found it
    ['gold_standard', 'medical_students']
"""
