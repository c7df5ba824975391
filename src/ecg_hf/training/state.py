"""`TrainingState`, the progress of a pretraining run."""

from dataclasses import dataclass


@dataclass
class TrainingState:
    """The progress of a run, which each of its checkpoints saves.

    Args:
        step: Number of optimizer steps run, skipped steps included.
        nonfinite: Number of consecutive steps that were skipped because their gradient was not finite.
        skipped: Number of all skipped steps.
        collapsed: Number of consecutive steps with signs of collapse.
        best_loss: Best validation loss so far; None before the first validation.
        best_step: Step of the best validation loss.
        waited: Number of validations since the best one.
        seconds: Time spent on steps, in s.
    """

    step: int = 0
    nonfinite: int = 0
    skipped: int = 0
    collapsed: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    waited: int = 0
    seconds: float = 0.0
