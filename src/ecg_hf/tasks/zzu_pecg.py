"""The task on ZZU pECG: diagnostic statements, as in study A."""

from ecg_hf.tasks.base import Task, Vocabulary

ZZU_PECG = Task(
    "zzu_pecg",
    "zzu_pecg",
    "statement",
    unlabelled="zero",
    vocabulary=Vocabulary(),
    min_duration_s=10,
    min_leads=12,
    num_outputs=58,
    source="arXiv:2605.12241: descriptions of AHA codes without modifiers, of the recordings with 12 leads",
)
