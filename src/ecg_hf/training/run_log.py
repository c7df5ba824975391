"""The log of a run: metrics.jsonl, with one row per optimizer step, and loss.png, the plot of these rows."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.output.figures import COLOURS, FAINT, RED, bare_axes, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = NDArray[np.float64]

logger = logging.getLogger(__name__)
MAX_POINTS = 2000  # rows that a curve keeps


class RunLog:
    """The file `metrics.jsonl` of a run: rows with their "step", one line of JSON each.

    Args:
        folder: Folder of the run, which holds `metrics.jsonl`.
    """

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"
        self.curve: list[dict[str, Any]] = []  # evenly spaced rows, and all rows with a validation loss
        self._distance = 1

    def append(self, row: Mapping[str, float | int | None]) -> None:
        """Appends a row; JSON has no NaN, so a number that is not finite becomes null.

        Args:
            row: Metrics by name, with the "step".

        Raises:
            EcgCheckpointError: If the file cannot be written.
        """
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in row.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise EcgCheckpointError(
                f"{self.path} cannot be written ({error}); free some space and resume from the last checkpoint"
            ) from error
        self._extend_curve(finite)

    def _extend_curve(self, row: dict[str, Any]) -> None:
        self.curve += [row] if self._lies_on_curve(row) else []
        if len(self.curve) > MAX_POINTS:
            self._distance *= 2
            self.curve = [kept for kept in self.curve if self._lies_on_curve(kept)]

    def _lies_on_curve(self, row: dict[str, Any]) -> bool:
        return row["step"] % self._distance == 0 or "validation_loss" in row

    def rows(self) -> list[dict[str, Any]]:
        """Reads all rows; an incomplete last row, which a killed run can leave, is left out."""
        return list(self._read())

    def _read(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                yield from (json.loads(line) for line in file if line.endswith("}\n"))

    def truncate(self, step: int) -> None:
        """Deletes the rows after a step; a run that resumes from the step writes them again.

        Raises:
            EcgCheckpointError: If the file cannot be written.
        """
        self.curve, self._distance = [], 1
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                for row in self._read():
                    if row["step"] <= step:
                        file.write(json.dumps(row) + "\n")
                        self._extend_curve(row)
            partial.replace(self.path)
        except OSError as error:
            raise EcgCheckpointError(f"{self.path} cannot be written ({error}); free some space and resume") from error


# Panels below the loss of a run, each drawn if the run has one of its metrics.
_PANELS = {
    "shares": ("accuracy", "feature_std", "teacher_feature_std", "teacher_student_cosine"),
    "counts": ("effective_rank", "codebook_perplexity"),
    "learning\nrate": ("learning_rate",),
}


def plot_losses(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draws the training loss, raw and smoothed, and the validation loss; below them, health and learning rate.

    The loss is on a logarithmic scale if it falls by more than a factor of ten. Steps whose loss was not finite are
    marked.

    Args:
        rows: Rows of metrics.jsonl, each with "step" and "loss" (null if not finite) and, where measured,
            "validation_loss", "learning_rate" and the metrics of the objective.

    Returns:
        The figure.

    Raises:
        ValueError: If no row has a loss.
    """
    steps, losses = _series(rows, "loss")
    finite = np.isfinite(losses)
    if not finite.any():
        raise ValueError(f"expected rows with a finite 'loss', got {len(rows)} rows without one; did the run start?")
    panels = {
        name: drawn for name in _PANELS if (drawn := [key for key in _PANELS[name] if len(_series(rows, key)[0])])
    }
    figure = new_figure(8, 4 + 1.2 * len(panels), layout="constrained")
    ratios = [4] + [1.3] * len(panels)
    axes, *below = figure.subplots(len(ratios), sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    smooth = _smooth(losses[finite])
    axes.plot(steps[finite], losses[finite], color=COLOURS[5], alpha=0.45, linewidth=0.7, label="training")
    axes.plot(steps[finite], smooth, color=COLOURS[0], linewidth=1.6, label="training, smoothed")
    for step in steps[~finite]:
        axes.axvline(step, ymax=0.03, color=RED, linewidth=1, gid="not finite")
    validated, validation = _series(rows, "validation_loss")
    if len(validated):
        axes.plot(validated, validation, "o-", color=COLOURS[1], markersize=3.5, label="validation")
    if smooth.min() > 0 and smooth.max() > 10 * smooth.min():
        axes.set_yscale("log")
    axes.set(ylabel="loss")
    axes.legend(frameon=False, title=None if finite.all() else f"red ticks: loss not finite ({np.sum(~finite)})")
    for small, (name, keys) in zip(below, panels.items(), strict=True):
        _draw_panel(small, rows, name, keys)
    (below or [axes])[-1].set_xlabel("step")
    bare_axes(axes, *below)
    return figure


def _draw_panel(axes: "Axes", rows: Sequence[Mapping[str, Any]], name: str, keys: list[str]) -> None:
    for key, colour in zip(keys, COLOURS, strict=False):
        axes.plot(*_series(rows, key), color=colour if len(keys) > 1 else FAINT, linewidth=1, label=key)
    axes.set(ylabel=name if len(keys) > 1 else keys[0].replace("_", "\n"), ylim=(0, None))
    if len(keys) > 1:
        labels = [key.replace("_", " ") for key in keys]
        axes.legend(labels, frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.ticklabel_format(axis="y", scilimits=(-2, 4))


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[Values, Values]:
    found = [(row["step"], np.nan if row[name] is None else row[name]) for row in rows if name in row]
    steps, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _smooth(values: Values) -> Values:
    """Computes the mean over a window of 2 % of the steps; the window is cut off at both ends."""
    window = np.ones(2 * (len(values) // 100) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def plot_run(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Saves the plot of a run; if that fails, logs a warning, because a run must not end for a missing plot.

    Args:
        rows: Rows of the run's log; nothing is drawn if no row has a loss.
        path: Path of the image.
    """
    if not any(row.get("loss") is not None for row in rows):
        return
    try:
        save_figure(plot_losses(rows), path)
    except (ImportError, OSError) as error:
        logger.warning("no plot: %s", error)
