"""The tasks on four cohorts of the 2021 Challenge: diagnoses, as in study A."""

from ecg_hf.tasks.base import Task, Vocabulary

_SOURCE = "arXiv:2605.12241, with the label names of the Challenge's own sheet for each cohort"


def _task(name: str, num_outputs: int, min_duration_s: float) -> Task:
    return Task(
        name,
        corpus=name,
        label_set="diagnosis",
        unlabelled="zero",
        vocabulary=Vocabulary(),
        min_duration_s=min_duration_s,
        num_outputs=num_outputs,
        source=_SOURCE,
    )


CPSC2018 = _task("cpsc2018", 9, min_duration_s=10)
CPSC_EXTRA = _task("cpsc_extra", 33, min_duration_s=10)
GEORGIA = _task("georgia", 50, min_duration_s=10)
NINGBO = _task("ningbo", 68, min_duration_s=0)
