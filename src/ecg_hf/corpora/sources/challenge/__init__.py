"""The corpora of the PhysioNet/CinC Challenges 2020 and 2021, and the other releases of the same recordings.

The Challenges gathered eight cohorts of ECGs as WFDB records, whose headers hold age, sex and SNOMED CT codes. Several
cohorts are also published elsewhere, in other formats and with other names for the codes. A recording's fold follows
from the codes of its whole cohort and from nothing else, so a recording is in the same split in every release, and its
canonical id is the same, too. Most cohorts do not tell the patients apart.

Modules, in the order in which to read them:

- `cohort`: the table of cohorts and `Challenge`, the base class of their corpora.
- `snomed`: the SNOMED CT codes, with the names that each source gives them.
- `record_tree`: search for records in a tree of folders, and writers of example records.
- `challenge2021`, `cpsc_extra`, `georgia`, `ningbo`: corpora in the Challenge's own form.
- `cpsc2018`: CPSC2018 in the Challenge's form and in that of its organisers.
- `ecg_arrhythmia`: the recordings of Shaoxing and Ningbo in another release of PhysioNet.
- `chapman`: the recordings of Shaoxing as published on figshare.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import ecg_hf
    >>> from ecg_hf.corpora.sources.challenge.georgia import Georgia
    >>> with TemporaryDirectory() as folder:
    ...     Georgia.write_example(Path(folder), num_records=2)
    ...     rows = list(ecg_hf.load_corpus("georgia", data_dir=folder, split="train", streaming=True))
    >>> [(row["record_id"], [label["name"] for label in row["labels"] if label["set"] == "diagnosis"]) for row in rows]
    [('E00001', ['pacing rhythm']), ('E00002', ['ventricular flutter', 'prolonged qt interval'])]
"""
