"""Figures of predictions: ROC curves and calibration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ecg_hf.evaluation.bootstrap import Values
from ecg_hf.evaluation.weighted_scores import NUM_BINS, bin_scores, check_arrays, label_scores
from ecg_hf.output.figures import COLOURS, FAINT, INK, RED, bare_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MAX_CURVES = 12
_FEW = 10  # records of a bin below which its fraction of positives is too uncertain to be joined by the curve


def plot_roc(labels: ArrayLike, scores: ArrayLike, label_names: Sequence[str]) -> "Figure":
    """Draws the ROC curve of every label that has both classes.

    With more than twelve labels the curves are thin, and only their mean and the three lowest are named.

    Args:
        labels: Labels 0, 1 or NaN (unknown), shape (num_records, C).
        scores: Predictions that grow with the probability, shape (num_records, C).
        label_names: Name of each label.

    Returns:
        The figure; `savefig` writes it to a file.

    Raises:
        ValueError: If the arguments do not fit each other, or no label has both classes.
        ImportError: If matplotlib is not installed.

    Example:
        >>> figure = plot_roc([[1], [0], [1], [0]], [[0.9], [0.2], [0.6], [0.7]], ["AF"])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # label, its AUROC and positives
        ['AF  0.750  (2 positive)']
    """
    labels, scores = _check_named(labels, scores, label_names, "auroc")
    auroc = label_scores(labels, scores)
    drawn = np.argsort(auroc)[: np.sum(~np.isnan(auroc))]
    if not len(drawn):
        raise ValueError(f"none of {len(auroc)} labels has both classes, so no ROC curve exists; use more records")
    many = len(drawn) > _MAX_CURVES
    figure = new_figure(6, 6, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color=FAINT, linewidth=1)
    curves = {column: roc_curve(labels[:, column], scores[:, column]) for column in drawn}
    if many:
        for column in drawn[3:]:
            axes.plot(*curves[column], color=FAINT, alpha=0.35, linewidth=0.6)
        grid = np.linspace(0, 1, 1001)
        mean = np.mean([np.interp(grid, *curve) for curve in curves.values()], axis=0)
        axes.plot(grid, mean, color=INK, linewidth=2.2, label=f"mean of {len(drawn)} labels  {auroc[drawn].mean():.3f}")
    for number, column in enumerate(drawn[:3] if many else sorted(drawn)):
        text = f"{label_names[column]}  {auroc[column]:.3f}  ({np.nansum(labels[:, column]):.0f} positive)"
        axes.plot(*curves[column], **_style(number), label=text)
    left_out = f"\nlabels without both classes: {len(auroc) - len(drawn)}" if len(drawn) < len(auroc) else ""
    axes.legend(frameon=False, fontsize=8, loc="lower right", title="AUROC" + left_out, alignment="left")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    bare_axes(axes)
    return figure


def roc_curve(label: Values, score: Values) -> tuple[Values, Values]:
    """Computes the false and true positive rates at every distinct score, from (0, 0) to (1, 1).

    Args:
        label: Values of one label, 0, 1 or NaN (unknown), shape (num_records,), with both classes.
        score: Predictions, shape (num_records,).

    Returns:
        The false positive rates and the true positive rates, of one length.

    Example:
        >>> false, true = roc_curve(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.2, 0.6, 0.7]))
        >>> false.tolist(), true.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    known = ~np.isnan(label)
    order = np.argsort(-score[known], kind="stable")
    positive, score = label[known][order], score[known][order]
    last_of_tie = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    counts = (np.cumsum(each)[last_of_tie] for each in (1 - positive, positive))
    false, true = (np.concatenate([[0.0], count / count[-1]]) for count in counts)
    return false, true


def plot_calibration(labels: ArrayLike, scores: ArrayLike, label_names: Sequence[str]) -> "Figure":
    """Draws the fraction of positives against the predicted probability, and a histogram of the predictions below.

    The bins are those of the ECE; bins of fewer than ten records are hollow and not joined by the curve. With more than
    twelve labels the curves are thin, and only the curve of all labels together is named.

    Args:
        labels: Labels 0, 1 or NaN (unknown), shape (num_records, C).
        scores: Predicted probabilities, shape (num_records, C).
        label_names: Name of each label.

    Returns:
        The figure; `savefig` writes it to a file.

    Raises:
        ValueError: If the arguments do not fit each other.
        ImportError: If matplotlib is not installed.

    Example:
        >>> figure = plot_calibration([[1], [0], [1], [0]], [[0.9], [0.2], [0.6], [0.7]], ["AF"])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # label and its ECE
        ['AF  0.350']
    """
    labels, scores = _check_named(labels, scores, label_names, "ece")
    many = len(label_names) > _MAX_CURVES
    ece = label_scores(labels, scores, "ece")
    figure = new_figure(6, 7, layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], ":", color=FAINT, linewidth=1)
    for column, name in enumerate(label_names):
        style = {"color": FAINT, "alpha": 0.35, "linewidth": 0.6} if many else _style(column)
        text = None if many else f"{name}  {ece[column]:.3f}"
        _draw_reliability(axes, labels[:, column], scores[:, column], text, style)
    if many:
        text = f"all {len(label_names)} labels  {np.nanmean(ece):.3f} on average"
        _draw_reliability(axes, labels.ravel(), scores.ravel(), text, {"color": INK, "linewidth": 2.2})
    for chosen, colour, text in ((~np.isnan(labels), FAINT, "all"), (labels == 1, RED, "present")):
        counts = np.bincount(bin_scores(scores[chosen]), minlength=NUM_BINS)
        below.stairs(counts, np.linspace(0, 1, NUM_BINS + 1), color=colour, label=text)
    title = f"ECE (hollow: fewer than {_FEW} records)"
    axes.legend(frameon=False, fontsize=8, loc="upper left", title=title, alignment="left")
    below.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    axes.set(ylabel="fraction present", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    below.set(xlabel="predicted probability", ylabel="predictions", yscale="log", ylim=(0.8, None))
    bare_axes(axes, below)
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
    again = number >= len(COLOURS)
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": "--" if again else "-", "linewidth": 1.4}
