"""The picture of a run, drawn anew while it goes on."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_hf.plots import plot_losses, save_figure

logger = logging.getLogger(__name__)


def plot_run(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the course of a run, or says in a warning what is missing for it: no run ends for want of a picture.

    Args:
        rows: Of its log.
        path: Where the picture goes.
    """
    if not any(row.get("loss") is not None for row in rows):
        return
    try:
        save_figure(plot_losses(rows), path)
    except (ImportError, OSError) as error:
        logger.warning("no plot: %s", error)
