"""The task on SPH: diagnostic statements, as in study A."""

from ecg_hf.tasks.base import Task, Vocabulary

SPH = Task(
    "sph",
    "sph",
    "statement",
    unlabelled="zero",
    vocabulary=Vocabulary(),
    num_outputs=35,
    source="arXiv:2605.12241: primary statements, without their modifiers",
)
