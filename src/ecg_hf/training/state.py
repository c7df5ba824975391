"""Where a pretraining run is."""

from dataclasses import dataclass


@dataclass
class TrainingState:
    """Where a run is.

    Args:
        step: Optimizer steps taken.
        nonfinite: Steps in a row that were skipped because their gradient was not finite.
        skipped: All steps that were skipped.
        collapsed: Steps in a row whose representations had collapsed.
        best_loss: The best validation loss so far.
        best_step: The step at which it was seen.
        waited: Validations since then.
        seconds: Time spent so far.
    """

    step: int = 0
    nonfinite: int = 0
    skipped: int = 0
    collapsed: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    waited: int = 0
    seconds: float = 0.0
