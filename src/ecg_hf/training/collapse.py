"""A watch for collapse, the silent failure of self-supervised learning: representations that no longer differ."""

import logging
from collections.abc import Mapping

from ecg_hf.errors import EcgCollapseError
from ecg_hf.training.arguments import PretrainingArguments

logger = logging.getLogger(__name__)

# A metric below its limit is a sign of collapse. All pairs of benchmarks/objectives.py stay well above the limits.
LIMITS = {
    "feature_std": 0.05,
    "teacher_feature_std": 0.05,
    "effective_rank": 1.1,
    "codebook_perplexity": 1.5,
}


def signs_of_collapse(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the metrics that lie below their limit in `LIMITS`."""
    known = {name: metrics[name] for name in LIMITS if metrics.get(name) is not None}
    return {name: value for name, value in known.items() if value is not None and value < LIMITS[name]}


def watch_for_collapse(metrics: Mapping[str, float | None], num_before: int, arguments: PretrainingArguments) -> int:
    """Counts consecutive steps with signs of collapse, and warns or stops when the count reaches the patience.

    Args:
        metrics: Metrics of this step.
        num_before: Number of consecutive steps with signs of collapse before this step.
        arguments: Arguments of the run: `on_collapse` is the action after `collapse_patience` consecutive steps.

    Returns:
        Number of consecutive steps with signs of collapse, this step included; 0 if `on_collapse` is "ignore".

    Raises:
        EcgCollapseError: If the count reaches `collapse_patience` and `on_collapse` is "stop".
    """
    signs = signs_of_collapse(metrics)
    if not signs or arguments.on_collapse == "ignore":
        return 0
    if num_before + 1 == arguments.collapse_patience:
        values = ", ".join(f"{name} {value:.3g} (limit {LIMITS[name]})" for name, value in signs.items())
        message = (
            f"representations have collapsed for {arguments.collapse_patience} steps in a row: {values}; lower the "
            "learning rate, slow the teacher (ema_start_decay, ema_decay), or choose another objective"
        )
        if arguments.on_collapse == "stop":
            raise EcgCollapseError(message)
        logger.warning(message)
    return num_before + 1
