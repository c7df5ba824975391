"""How much a run trains on: what a trained run says of it, or the data themselves."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from ecg_hf.data.opening import open_split
from ecg_hf.output.files import read_json
from ecg_hf.scaling.sweep.data_job import CONTRACT, CORPUS
from ecg_hf.scaling.sweep.training_job import TrainingJob
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.pretrain import choose_fraction, make_extractor, open_corpora

DATA = (*CORPUS, *CONTRACT, "fraction", "fraction_seed")


class Amount(NamedTuple):
    """Different records and patients of the training data.

    Args:
        num_records: Of all corpora together.
        num_patients: None if no patient is known.
    """

    num_records: int
    num_patients: int | None


class Amounts:
    """What runs train on, asked of the data once for each share of them.

    Args:
        jobs: Runs, of which those that are trained know it.
    """

    def __init__(self, jobs: Iterable[TrainingJob]):
        self._known = {_data(job.arguments): read_amount(job) for job in jobs if job.trained()}

    def of(self, arguments: PretrainingArguments) -> Amount:
        """Gives what a run trains on.

        Raises:
            EcgError: If it is not known and the data cannot be read.
        """
        data = _data(arguments)
        if data not in self._known:
            self._known[data] = _count(arguments)
        return self._known[data]


def read_amount(job: TrainingJob) -> Amount:
    """Reads what a trained run was trained on."""
    return _add(corpus["splits"]["train"] for corpus in read_json(job.folder / "run.json")["corpora"])


def _data(arguments: PretrainingArguments) -> str:
    return json.dumps({name: getattr(arguments, name) for name in DATA})


def _count(arguments: PretrainingArguments) -> Amount:
    extractor = make_extractor(arguments)
    splits = [open_split(corpus, "train", extractor) for corpus in open_corpora(arguments)]
    return _add(choose_fraction(split, arguments).counts() for split in splits)


def _add(counts: Iterable[dict[str, Any]]) -> Amount:
    listed = list(counts)
    patients = sum(one["num_patients"] for one in listed)
    return Amount(sum(one["num_records"] for one in listed), patients or None)
