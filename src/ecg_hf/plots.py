"""Figures: losses of a run, ROC curves, calibration, and from `paper` an ECG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ecg_hf.bootstrap import Values
from ecg_hf.label_scores import NUM_BINS, bin_scores, check_arrays, label_scores
from ecg_hf.paper import new_figure, plot_ecg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_calibration", "plot_ecg", "plot_losses", "plot_roc", "roc_curve", "save_figure"]

_INK, _FAINT, _RED = "#14141f", "#8a8a8a", "#d00000"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito 2008
_MAX_CURVES = 12
# What is drawn below the loss of a run, where it was measured.
_PANELS = {
    "shares": ("accuracy", "feature_std", "teacher_feature_std", "teacher_student_cosine"),
    "counts": ("effective_rank", "codebook_perplexity"),
    "learning\nrate": ("learning_rate",),
}
_FEW = 10  # records, below which the share of a bin says little


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Writes a figure in the format of the path's suffix, at its own size and resolution.

    Args:
        figure: From a function of this module.
        path: Where to write; its folder must exist.
    """
    figure.savefig(path, dpi=figure.dpi)


def plot_losses(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draws the training loss, raw and smoothed, the validation loss, and below them health and learning rate.

    The loss is on a logarithmic scale if it falls by more than a factor of ten. Steps whose loss was not finite are
    marked.

    Args:
        rows: Of metrics.jsonl: each with "step" and "loss" (null if not finite), and where they apply
            "validation_loss", "learning_rate" and what an objective measures.

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
    axes.plot(steps[finite], losses[finite], color=_COLOURS[5], alpha=0.45, linewidth=0.7, label="training")
    axes.plot(steps[finite], smooth, color=_COLOURS[0], linewidth=1.6, label="training, smoothed")
    for step in steps[~finite]:
        axes.axvline(step, ymax=0.03, color=_RED, linewidth=1, gid="not finite")
    validated, validation = _series(rows, "validation_loss")
    if len(validated):
        axes.plot(validated, validation, "o-", color=_COLOURS[1], markersize=3.5, label="validation")
    if smooth.min() > 0 and smooth.max() > 10 * smooth.min():
        axes.set_yscale("log")
    axes.set(ylabel="loss")
    axes.legend(frameon=False, title=None if finite.all() else f"red ticks: loss not finite ({np.sum(~finite)})")
    for small, (name, keys) in zip(below, panels.items(), strict=True):
        _draw_panel(small, rows, name, keys)
    (below or [axes])[-1].set_xlabel("step")
    _bare(axes, *below)
    return figure


def _draw_panel(axes: "Axes", rows: Sequence[Mapping[str, Any]], name: str, keys: list[str]) -> None:
    for key, colour in zip(keys, _COLOURS, strict=False):
        axes.plot(*_series(rows, key), color=colour if len(keys) > 1 else _FAINT, linewidth=1, label=key)
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
    """Mean over a window of 2 % of the steps, cut off at both ends."""
    window = np.ones(2 * (len(values) // 100) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def plot_roc(labels: ArrayLike, scores: ArrayLike, label_names: Sequence[str]) -> "Figure":
    """Draws the ROC curve of every label that has both classes.

    Beyond twelve labels the curves are thin, and only the mean and the three lowest are named.

    Args:
        labels: 0, 1 or NaN (unknown), shape (num_records, C).
        scores: Any number that grows with the probability, shape (num_records, C).
        label_names: One per label.

    Raises:
        ValueError: If the arguments do not fit each other, or no label has both classes.
    """
    labels, scores = _check_named(labels, scores, label_names, "auroc")
    auroc = label_scores(labels, scores)
    drawn = np.argsort(auroc)[: np.sum(~np.isnan(auroc))]
    if not len(drawn):
        raise ValueError(f"none of {len(auroc)} labels has both classes, so no ROC curve exists; use more records")
    many = len(drawn) > _MAX_CURVES
    figure = new_figure(6, 6, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color=_FAINT, linewidth=1)
    curves = {column: roc_curve(labels[:, column], scores[:, column]) for column in drawn}
    if many:
        for column in drawn[3:]:
            axes.plot(*curves[column], color=_FAINT, alpha=0.35, linewidth=0.6)
        grid = np.linspace(0, 1, 1001)
        mean = np.mean([np.interp(grid, *curve) for curve in curves.values()], axis=0)
        axes.plot(
            grid, mean, color=_INK, linewidth=2.2, label=f"mean of {len(drawn)} labels  {auroc[drawn].mean():.3f}"
        )
    for number, column in enumerate(drawn[:3] if many else sorted(drawn)):
        text = f"{label_names[column]}  {auroc[column]:.3f}  ({np.nansum(labels[:, column]):.0f} positive)"
        axes.plot(*curves[column], **_style(number), label=text)
    left_out = f"\nlabels without both classes: {len(auroc) - len(drawn)}" if len(drawn) < len(auroc) else ""
    axes.legend(frameon=False, fontsize=8, loc="lower right", title="AUROC" + left_out, alignment="left")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    _bare(axes)
    return figure


def roc_curve(label: Values, score: Values) -> tuple[Values, Values]:
    """Gives the false and true positive rates at every distinct score, from (0, 0) to (1, 1).

    Args:
        label: 0, 1 or NaN (unknown), shape (num_records,), with both classes.
        score: Shape (num_records,).
    """
    known = ~np.isnan(label)
    order = np.argsort(-score[known], kind="stable")
    positive, score = label[known][order], score[known][order]
    last_of_tie = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    counts = (np.cumsum(each)[last_of_tie] for each in (1 - positive, positive))
    false, true = (np.concatenate([[0.0], count / count[-1]]) for count in counts)
    return false, true


def plot_calibration(labels: ArrayLike, scores: ArrayLike, label_names: Sequence[str]) -> "Figure":
    """Draws how often labels are present against their predicted probability, and below how many predictions there are.

    Bins are those of the ECE; those of fewer than ten records are hollow and stand apart. Beyond twelve labels the
    curves are thin, and only that of all labels together is named.

    Args:
        labels: 0, 1 or NaN (unknown), shape (num_records, C).
        scores: Probabilities, shape (num_records, C).
        label_names: One per label.

    Raises:
        ValueError: If the arguments do not fit each other.
    """
    labels, scores = _check_named(labels, scores, label_names, "ece")
    many = len(label_names) > _MAX_CURVES
    ece = label_scores(labels, scores, "ece")
    figure = new_figure(6, 7, layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], ":", color=_FAINT, linewidth=1)
    for column, name in enumerate(label_names):
        style = {"color": _FAINT, "alpha": 0.35, "linewidth": 0.6} if many else _style(column)
        text = None if many else f"{name}  {ece[column]:.3f}"
        _draw_reliability(axes, labels[:, column], scores[:, column], text, style)
    if many:
        text = f"all {len(label_names)} labels  {np.nanmean(ece):.3f} on average"
        _draw_reliability(axes, labels.ravel(), scores.ravel(), text, {"color": _INK, "linewidth": 2.2})
    for chosen, colour, text in ((~np.isnan(labels), _FAINT, "all"), (labels == 1, _RED, "present")):
        counts = np.bincount(bin_scores(scores[chosen]), minlength=NUM_BINS)
        below.stairs(counts, np.linspace(0, 1, NUM_BINS + 1), color=colour, label=text)
    title = f"ECE (hollow: fewer than {_FEW} records)"
    axes.legend(frameon=False, fontsize=8, loc="upper left", title=title, alignment="left")
    below.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    axes.set(ylabel="share present", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    below.set(xlabel="predicted probability", ylabel="predictions", yscale="log", ylim=(0.8, None))
    _bare(axes, below)
    return figure


def _draw_reliability(axes: "Axes", label: Values, score: Values, text: str | None, style: dict[str, Any]) -> None:
    label, score = label[~np.isnan(label)], score[~np.isnan(label)]
    bins = bin_scores(score)
    counts, present, total = (np.bincount(bins, each, NUM_BINS) for each in (None, label, score))
    used = counts > 0
    x, y, large = total[used] / counts[used], present[used] / counts[used], counts[used] >= _FEW
    axes.plot(x[large], y[large], **style, label=text)
    if text:
        for shown, fill in ((large, style["color"]), (~large, "white")):
            axes.plot(x[shown], y[shown], "o", color=style["color"], markerfacecolor=fill, markersize=4)


def _check_named(labels: ArrayLike, scores: ArrayLike, label_names: Sequence[str], score: str) -> tuple[Values, Values]:
    labels, scores = check_arrays(labels, scores, (score,))
    if len(label_names) != labels.shape[1]:
        raise ValueError(
            f"expected a name for each of {labels.shape[1]} labels, got {len(label_names)}; name each once"
        )
    return labels, scores


def _style(number: int) -> dict[str, Any]:
    again = number >= len(_COLOURS)
    return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": "--" if again else "-", "linewidth": 1.4}


def _bare(*every: "Axes") -> None:
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e8e8e8", linewidth=0.6)
        axes.set_axisbelow(True)
