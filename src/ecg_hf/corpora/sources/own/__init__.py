"""Corpora of a user's own records: a folder with a table of labels and files in CSV, HDF5 or WFDB.

The table lists the records, one per row, with patient, age, sex, split and labels; only the name of the record is
required. WFDB headers state unit, leads and sampling rate. CSV and HDF5 files do not, so a note, `ecg_hf.yaml`, or the
arguments of `load_corpus` must: nothing is guessed, because a wrong unit or lead would go unnoticed. Records without a
split are assigned to stratified folds, all records of a patient to the same one. Every amplitude is checked.

Modules, in the order in which to read them:

- `own_records`: `OwnRecords`, the base class, with the meaning of all columns and of the note.
- `label_table`: parsers of the table of labels.
- `csv`, `hdf5`, `wfdb_folder`: the three file formats, each with an example of a folder.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import ecg_hf
    >>> from ecg_hf.corpora.sources.own.csv import Csv
    >>> with TemporaryDirectory() as folder:
    ...     Csv.write_example(Path(folder), num_records=8)
    ...     note = Path(folder, "ecg_hf.yaml").read_text().splitlines()
    ...     rows = list(ecg_hf.load_corpus("csv", data_dir=folder, split="train", streaming=True))
    >>> note
    ['unit: uV', 'sampling_rate: 500', 'leads: header']
    >>> [(row["record_id"], [label["name"] for label in row["labels"] if label["set"] == "label"]) for row in rows[:3]]
    [('r0000', []), ('r0001', ['LBBB', 'AF']), ('r0002', ['LBBB', '1AVB'])]
"""
