"""A watch on representations that no longer differ: the quiet failure of learning without labels."""

import logging
from collections.abc import Mapping

from ecg_hf.errors import EcgCollapseError
from ecg_hf.training.arguments import PretrainingArguments

logger = logging.getLogger(__name__)

# Below these an objective's health says collapse. All pairs of benchmarks/objectives.py stay well above them.
LIMITS = {
    "feature_std": 0.05,
    "teacher_feature_std": 0.05,
    "effective_rank": 1.1,
    "codebook_perplexity": 1.5,
}


def signs_of_collapse(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Picks the metrics that lie below their limit."""
    known = {name: metrics[name] for name in LIMITS if metrics.get(name) is not None}
    return {name: value for name, value in known.items() if value is not None and value < LIMITS[name]}


def watch_for_collapse(metrics: Mapping[str, float | None], num_before: int, arguments: PretrainingArguments) -> int:
    """Counts steps in a row with signs of collapse and speaks up when they are too many.

    Args:
        metrics: Of this step.
        num_before: Steps in a row with such signs before it.
        arguments: `on_collapse` says what happens after `collapse_patience` steps in a row.

    Returns:
        Steps in a row with such signs, this one included.

    Raises:
        EcgCollapseError: If `on_collapse` is "stop".
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
