"""The task on CODE-15: six findings, which supervised pretraining on this corpus learns."""

from ecg_hf.corpora.sources.code.code15 import FINDINGS
from ecg_hf.tasks.base import Task

CODE15 = Task(
    "code15",
    "code15",
    "finding",
    FINDINGS,
    unlabelled="zero",
    source="Ribeiro et al. 2020 (doi:10.1038/s41467-020-15432-4), by the group of study B (arXiv:2605.17276)",
)
