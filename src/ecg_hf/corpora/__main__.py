"""The table of corpora, as `python -m ecg_hf.corpora` and `ecg-hf corpora` print it; no data are read."""

import sys

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.output.text_table import make_table, show_number
from ecg_hf.registry import CORPORA, load

HEADER = ("corpus", "version", "records", "patients", "access", "licence", "unit", "patients kept apart")
LEGEND = "records and patients: as published. ?: not known, or it depends on whose records they are.\n"


def describe(name: str, corpus: type[EcgCorpus]) -> tuple[str, ...]:
    """Returns the row of a corpus in the table."""
    counts = (show_number(corpus.num_records), show_number(corpus.num_patients))
    apart = "yes" if corpus.patient_level else "not known"
    return name, corpus.data_version, *counts, corpus.access, corpus.licence, corpus.unit, apart


def main() -> None:
    """Writes the table to standard output."""
    sys.stdout.write(make_table([HEADER, *(describe(name, load(CORPORA, name)) for name in CORPORA)]) + LEGEND)


if __name__ == "__main__":
    main()
