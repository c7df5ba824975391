"""The job that prepares the data of a sweep once, before the processes of several runs would do so at the same time."""

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from ecg_hf.data.opening import open_split
from ecg_hf.errors import EcgError, EcgIntegrityError
from ecg_hf.scaling.sweep.evaluations.probes import check_probe
from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.training_job import TrainingJob
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.jobs.job import Job
from ecg_hf.training.pretrain import make_extractor, open_corpora

logger = logging.getLogger(__name__)
# Arguments that choose the records of a run, and those of the feature extractor, its input contract.
CORPUS = ("corpus", "corpus_config", "corpus_fields", "data_dir", "on_damage")
CONTRACT = ("sampling_rate", "crop_duration_s", "normalization")


@dataclass(frozen=True)
class DataJob(Job):
    """The preparation of the data that some runs will read.

    Args:
        jobs: Runs that will read the data.
    """

    jobs: tuple[TrainingJob, ...]

    def done(self) -> bool:
        """Returns False, because running the job again takes almost no time if the data are prepared."""
        return False

    def do(self) -> None:
        """Opens every corpus once for each feature extractor, and checks that every probe can be fitted.

        Raises:
            EcgError: If data cannot be read, or a probe asks for labels, splits or records that do not exist.
        """
        seen: set[str] = set()
        for job in self.jobs:
            contract = {name: getattr(job.arguments, name) for name in CONTRACT}
            corpora = {name: getattr(job.arguments, name) for name in CORPUS}
            splits = {"train", "validation", *(each.split for each in job.evaluations if each.group == "id")}
            if _is_new(seen, [contract, corpora, sorted(splits)]):
                _prepare(job.arguments, splits)
            for evaluation in job.evaluations:
                if evaluation.group != "id" and _is_new(seen, [contract, asdict(evaluation)]):
                    _prepare_probe(job.arguments, evaluation)


def _is_new(seen: set[str], key: Any) -> bool:
    text = json.dumps(key)
    new = text not in seen
    seen.add(text)
    return new


def _prepare(arguments: PretrainingArguments, splits: set[str]) -> None:
    extractor = make_extractor(arguments)
    for corpus in open_corpora(arguments):
        for split in sorted(splits):
            logger.info("%s %s: %d records", corpus.dataset_name, split, len(open_split(corpus, split, extractor)))


def _prepare_probe(arguments: PretrainingArguments, evaluation: Evaluation) -> None:
    try:
        counts = check_probe(evaluation, make_extractor(arguments))
    except (EcgError, ValueError) as error:
        raise EcgIntegrityError(f"{evaluation.name} cannot be evaluated for any run: {error}") from error
    logger.info("%s: %s", evaluation.name, counts)
