"""The tasks on Chapman-Shaoxing: beats and rhythms, as in study A."""

from ecg_hf.tasks.base import Task, Vocabulary

_SOURCE = "arXiv:2605.12241"

ALL = Task("chapman", "chapman", "all", unlabelled="zero", vocabulary=Vocabulary(), num_outputs=42, source=_SOURCE)
RHYTHM = Task(
    "chapman_rhythm",
    "chapman",
    "rhythm",
    unlabelled="zero",
    vocabulary=Vocabulary(),
    num_outputs=9,
    source=f"{_SOURCE}, 9 by its rule; there, the model of all labels also predicts the rhythms",
)
