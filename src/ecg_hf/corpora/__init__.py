"""Sources of ECGs: public corpora, records of a user's own, and synthetic ECGs, all behind one interface.

A corpus is read in two steps. Its index lists the records with split, patient, age, sex and labels, without reading a
signal; then each record is decoded on demand. Every record becomes a row of the same schema, with the signal at its
own sampling rate, so the later folders of the library need not know where an ECG comes from. Files are read where they
are, in a folder, in a zip archive or on a file server; nothing is downloaded for the user. Where the patients are
known, splits are disjoint by patient. `python -m ecg_hf.corpora` lists all corpora.

Modules, in the order in which to read them:

- `loading`: `load_corpus` and `open_corpus`, the two functions that users call.
- `base`: `EcgCorpus`, the base class of all corpora.
- `index`: `Entry`, one entry of an index, and the check of a whole index.
- `roots`: the places of files: folder, zip archive, file server.
- `sources`: the corpora themselves, one file or folder for each source.
- `folds`: stratified folds for corpora that come without splits.
- `verification`: checks that a corpus is complete, intact and free of leaks between splits.
- `demographics`, `wfdb_files`, `file_cache`, `code_hash`, `examples`: helpers of several sources.

Example:
    >>> from ecg_hf.corpora.loading import open_corpus
    >>> corpus = open_corpus("synthetic", num_records=20)
    >>> entry = corpus.entries()["test"][0]
    >>> entry.patient_id, entry.age, entry.sex, entry.labels
    ('0-00000006', 50.0, 'male', (('finding', 'NORM', 1.0),))
    >>> record = corpus.read(entry)
    >>> record.leads[:3], record.sampling_rate, record.signal.shape
    (('I', 'II', 'III'), 500.0, (12, 5000))
"""
