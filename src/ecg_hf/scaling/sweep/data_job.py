"""What runs of a sweep have in common: their data, prepared once before several processes would do it at once."""

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from ecg_hf.data.opening import open_split
from ecg_hf.errors import EcgError, EcgIntegrityError
from ecg_hf.scaling.sweep.evaluations.probes import check_probe
from ecg_hf.scaling.sweep.evaluations.question import Evaluation
from ecg_hf.scaling.sweep.job import Job
from ecg_hf.scaling.sweep.training_job import TrainingJob
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.pretrain import make_extractor, open_corpora

logger = logging.getLogger(__name__)
CORPUS = ("corpus", "corpus_config", "corpus_fields", "data_dir", "on_damage")
CONTRACT = ("sampling_rate", "crop_duration_s", "normalization")


@dataclass(frozen=True)
class DataJob(Job):
    """Prepares what jobs will read.

    Args:
        jobs: The runs.
    """

    jobs: tuple[TrainingJob, ...]

    def done(self) -> bool:
        """Says no: what is prepared already is found in no time."""
        return False

    def do(self) -> None:
        """Opens every corpus under every input contract once, and checks that every probe can be made.

        Raises:
            EcgError: If data cannot be read, or a probe asks for what there is not.
        """
        seen: set[str] = set()
        for job in self.jobs:
            contract = {name: getattr(job.arguments, name) for name in CONTRACT}
            corpora = {name: getattr(job.arguments, name) for name in CORPUS}
            splits = {"train", "validation", *(one.split for one in job.evaluations if one.group == "id")}
            if _is_new(seen, [contract, corpora, sorted(splits)]):
                _prepare(job.arguments, splits)
            for one in job.evaluations:
                if one.group != "id" and _is_new(seen, [contract, asdict(one)]):
                    _prepare_probe(job.arguments, one)


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
        said = check_probe(evaluation, make_extractor(arguments))
    except (EcgError, ValueError) as error:
        raise EcgIntegrityError(f"{evaluation.name} cannot be made of any run: {error}") from error
    logger.info("%s: %s", evaluation.name, said)
