"""The table of tasks, as `python -m ecg_hf.tasks` and `ecg-hf tasks` print it; no data are read."""

import sys

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.output.text_table import make_table, show_number
from ecg_hf.registry import CORPORA, TASKS, load
from ecg_hf.tasks.base import Task

HEADER = ("task", "corpus", "outputs", "records", "patients", "access")
LEGEND = (
    "outputs: as reported; a vocabulary that is counted on the train split only can be smaller.\n"
    "records: train / validation / test, or all of the corpus; <= where the task leaves some out. ?: not known.\n"
)


def describe(task: Task, corpus: type[EcgCorpus]) -> tuple[str, ...]:
    """Returns the row of a task in the table."""
    outputs = task.num_outputs or len(task.labels) or None
    bound = "<= " if task.num_records or _leaves_out(task) else ""
    known = show_number(corpus.num_records, "<= " if _leaves_out(task) else "")
    records = " / ".join(map(show_number, task.num_records)) if task.num_records else known
    patients = show_number(corpus.num_patients, bound)
    return task.name, task.corpus, show_number(outputs), records, patients, corpus.access


def _leaves_out(task: Task) -> bool:
    return bool(task.min_duration_s or task.min_leads or task.required or task.unlabelled == "drop")


def main() -> None:
    """Writes the table to standard output."""
    tasks: list[Task] = [load(TASKS, name) for name in TASKS]
    rows = [describe(task, load(CORPORA, task.corpus)) for task in tasks]
    sys.stdout.write(make_table([HEADER, *rows]) + LEGEND)


if __name__ == "__main__":
    main()
