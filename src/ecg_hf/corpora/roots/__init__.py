"""The places of a corpus' files: a folder, a zip archive or a file server, all behind one interface.

The argument `data_dir` of `load_corpus` names such a place. `open_root` finds the corpus there, even some folders
further down, by a marker, a file that is only in the top folder of the corpus. From then on the corpus reads its files
by path relative to that root, whatever kind of place it is. No path may lead out of the root, no file may exceed 1 GiB
when read whole, and a web page saved under the name of a data file is refused. A root can also stamp a file without
reading it, so that a changed file is noticed before a cache serves old rows.

Modules, in the order in which to read them:

- `base`: `CorpusRoot`, the interface, and `MissingFileError`.
- `open`: `open_root`, which chooses the root for a place.
- `folder`, `archive`, `server`: `FolderRoot`, `ZipRoot` and `ServerRoot`.
- `empty`: `EmptyRoot`, for a corpus that is computed and has no files.

Example:
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ecg_hf.corpora.roots.open import open_root
    >>> with TemporaryDirectory() as folder:
    ...     below = Path(folder, "physionet.org", "1.0.3")
    ...     below.mkdir(parents=True)
    ...     _ = (below / "index.csv").write_text("record_id")
    ...     root = open_root(folder, marker="index.csv")
    ...     root.list(), root.read("index.csv"), root.exists("records.csv")
    (['index.csv'], b'record_id', False)
"""
