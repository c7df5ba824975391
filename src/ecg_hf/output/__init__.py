"""Output of the library: files that are never half written, figures, text tables, and the terminal.

The other folders share these modules, which stand beside the road of an ECG rather than on it. A run may be killed at
any moment, so JSON files and folders of checkpoints or features are written under a temporary name and moved to their
place when they are complete.

In reading order:

- `files`: JSON files and folders that replace their predecessors atomically, and SHA-256 hashes.
- `text_table`: rows of text as a table with aligned columns.
- `console`: the terminal: stages, one progress bar, quiet libraries.
- `figures`: matplotlib figures without pyplot, their common style, and saving (extra `viz`).

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from ecg_hf.output.files import read_json, write_json
    >>> from ecg_hf.output.text_table import make_table, show_number
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "counts.json", {"train": 17111, "validation": None})
    ...     counts = read_json(Path(folder) / "counts.json")
    >>> rows = [(split, show_number(count)) for split, count in counts.items()]
    >>> print(make_table([("split", "records"), *rows]), end="")
    split       records
    train       17,111
    validation  ?
"""
