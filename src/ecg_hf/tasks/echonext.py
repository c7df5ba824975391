"""The task on EchoNext: structural heart disease, as in study A."""

from ecg_hf.corpora.sources.echonext import EchoNext
from ecg_hf.tasks.base import Task

ECHONEXT = Task(
    "echonext",
    "echonext",
    "finding",
    EchoNext.label_sets["finding"],
    unlabelled="zero",
    num_outputs=11,
    source="arXiv:2605.12241: the eleven flags of the echocardiogram, in the corpus' own splits",
)
