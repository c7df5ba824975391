"""The amount of training data of a run, which is read from the trained run or counted in the corpora."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from ecg_hf.data.opening import open_split
from ecg_hf.output.files import read_json
from ecg_hf.scaling.sweep.data_job import CONTRACT, CORPUS
from ecg_hf.scaling.sweep.training_job import TrainingJob
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.pretrain import choose_fraction, make_extractor, open_corpora

DATA = (*CORPUS, *CONTRACT, "fraction", "fraction_seed")  # arguments that decide the training data


class Amount(NamedTuple):
    """Numbers of different records and patients in the training data of a run.

    Args:
        num_records: Number of records of all corpora together.
        num_patients: Number of patients of all corpora together; None if no patient is known.
    """

    num_records: int
    num_patients: int | None


class Amounts:
    """The amounts of training data of a sweep's runs; runs on the same data are counted once.

    Args:
        jobs: Runs of the sweep; the amounts of trained ones are read from their folders.
    """

    def __init__(self, jobs: Iterable[TrainingJob]):
        self._known = {_data(job.arguments): read_amount(job) for job in jobs if job.trained()}

    def of(self, arguments: PretrainingArguments) -> Amount:
        """Returns the amount of data that a run trains on.

        Args:
            arguments: Arguments of the run.

        Raises:
            EcgError: If no trained run has the same data and they cannot be read.
        """
        data = _data(arguments)
        if data not in self._known:
            self._known[data] = _count(arguments)
        return self._known[data]


def read_amount(job: TrainingJob) -> Amount:
    """Reads the amount of data that a trained run was trained on."""
    return _add(corpus["splits"]["train"] for corpus in read_json(job.folder / "run.json")["corpora"])


def _data(arguments: PretrainingArguments) -> str:
    return json.dumps({name: getattr(arguments, name) for name in DATA})


def _count(arguments: PretrainingArguments) -> Amount:
    extractor = make_extractor(arguments)
    splits = [open_split(corpus, "train", extractor) for corpus in open_corpora(arguments)]
    return _add(choose_fraction(split, arguments).counts() for split in splits)


def _add(counts: Iterable[dict[str, Any]]) -> Amount:
    listed = list(counts)
    patients = sum(count["num_patients"] for count in listed)
    return Amount(sum(count["num_records"] for count in listed), patients or None)
