"""Figures of comparisons, which show iso-loss curves, one loss against another, or frontiers of compute."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ecg_hf.scaling.comparison.frontier import Frontier
from ecg_hf.scaling.comparison.joint import JointMultiplier
from ecg_hf.scaling.comparison.loss_to_loss import Collapse, LossToLoss
from ecg_hf.scaling.comparison.multipliers import IsoLoss
from ecg_hf.scaling.fitting.result import GRAVE
from ecg_hf.scaling.laws.base import Values
from ecg_hf.scaling.report.plots import COLOURS, FAINT, INK, RED, bare, number_ticks, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST_RATIO = 1e3  # multipliers are drawn up to this value, and down to its inverse


def plot_iso_loss(
    curves: Sequence[IsoLoss],
    joints: Sequence[JointMultiplier | None] | None = None,
    remarks: Sequence[str] | None = None,
) -> "Figure":
    """Draws the iso-loss multiplier of each pair of cells over the losses that both cells reach.

    Args:
        curves: Iso-loss curves, one panel each.
        joints: Joint multiplier of each pair, drawn as a line; None where a single number would mislead.
        remarks: Text of each panel in red, such as reasons to doubt the multiplier.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no curves.
    """
    if not curves:
        raise ValueError("expected at least one iso-loss curve, got none")
    figure, axes = panels(1, len(curves), height=3.1)
    joints, remarks = joints or [None] * len(curves), remarks or [""] * len(curves)
    for panel, curve, joint, remark in zip(axes[0], curves, joints, remarks, strict=True):
        panel.axhline(1, color=FAINT, linewidth=0.8)
        low, high = (np.clip(each, 1 / _LARGEST_RATIO, _LARGEST_RATIO) for each in (curve.low, curve.high))
        if np.isfinite(low).any():
            panel.fill_between(curve.levels, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        panel.plot(curve.levels, curve.ratio, color=COLOURS[0], linewidth=1.5, label="iso-loss curve")
        if joint is not None:
            value = joint.estimate.value
            panel.axhline(value, color=COLOURS[1], linewidth=1.2, linestyle="--", label=f"joint {value:.3g}")
        panel.text(0.02, 0.02, remark.replace("; ", "\n"), transform=panel.transAxes, fontsize=6, color=RED)
        panel.set(yscale="log", xlabel="loss", xlim=(curve.levels.max(), curve.levels.min()))
        at = ", ".join(f"{letter} = {value:.3g}" for letter, value in curve.at.items())
        panel.set_title(f"{curve.names[1]} over {curve.names[0]}{', ' + at if at else ''}", fontsize=7.5, loc="left")
        panel.set_ylabel(curve.kind, fontsize=8)
        ratios = curve.ratio[np.isfinite(curve.ratio)]
        top, bottom = max(1.0, *ratios, np.nanmedian(high)), min(1.0, *ratios, np.nanmedian(low))
        panel.set_ylim(max(bottom / 1.6, 1 / _LARGEST_RATIO), min(top * 1.6, _LARGEST_RATIO))
        number_ticks(panel.yaxis)
        panel.legend(frameon=False, fontsize=6)
        bare(panel)
    figure.suptitle("lower losses to the right; bands: pointwise 95 % intervals", fontsize=9, color=FAINT)
    return figure


def plot_loss_to_loss(
    names: Sequence[str],
    laws: Sequence[LossToLoss],
    sizes: Sequence[Values],
    collapses: Sequence[Collapse | None] | None = None,
    labels: tuple[str, str] = ("loss in distribution", "loss out of distribution"),
    remarks: Sequence[Sequence[str]] | None = None,
) -> "Figure":
    """Draws one loss of each cell against another, with runs coloured by size, and the fitted curve.

    Runs of one size that leave the curve show that no single curve exists.

    Args:
        names: Names of the cells, one panel each.
        laws: Loss-to-loss law of each cell.
        sizes: N of the runs of each cell, shape (n,).
        collapses: Collapse test of each cell; a refused curve is dashed and marked in red.
        labels: Labels of the axes, loss x and loss y.
        remarks: Texts of each panel in red, besides the grave flags of its law, such as flags of another fit.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no laws.
    """
    if not laws:
        raise ValueError("expected at least one loss-to-loss law, got none")
    from matplotlib.colors import LogNorm

    every = np.concatenate(list(sizes))
    norm = LogNorm(every.min(), every.max())
    figure, axes = panels(1, len(laws), sharey=True)
    collapses, remarks = collapses or [None] * len(laws), remarks or [()] * len(laws)
    parts = zip(axes[0], names, laws, sizes, collapses, remarks, strict=True)
    for panel, name, law, size, collapse, more in parts:
        image = panel.scatter(law.x, law.y, c=size, norm=norm, cmap="viridis", s=14, edgecolors=INK, linewidths=0.3)
        grid = np.geomspace(law.x.min(), law.x.max(), 100)
        refused = collapse is not None and not collapse.collapses
        panel.plot(grid, law.predict(grid), "--" if refused else "-", color=COLOURS[1], linewidth=1.3)
        kappa = law.estimates["kappa"]
        title = f"{name}\nkappa {kappa.value:.3g} ({kappa.low:.3g} to {kappa.high:.3g}), R2 {law.r_squared:.3f}"
        panel.set_title(title, fontsize=7.5, loc="left")
        text = [f"no single curve, p = {collapse.p_value:.2g}"] if refused and collapse is not None else []
        text += [*(flag for flag in law.flags if flag.startswith(GRAVE)), *more]
        panel.text(0.98, 0.02, "\n".join(text), transform=panel.transAxes, fontsize=6, color=RED, ha="right")
        panel.set(xscale="log", yscale="log", xlabel=labels[0])
        number_ticks(panel.xaxis, panel.yaxis)
        bare(panel)
    axes[0][0].set_ylabel(labels[1])
    bar = figure.colorbar(image, ax=list(axes[0]), shrink=0.85, pad=0.01)
    bar.set_label("parameters N", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    return figure


def plot_frontiers(names: Sequence[str], frontiers: Sequence[Frontier], loss: str = "loss") -> "Figure":
    """Draws the best size for each budget and its predicted loss; curves are dashed beyond the runs.

    Args:
        names: Names of the cells.
        frontiers: Frontier of each cell, all of the same loss.
        loss: Name of the loss.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no frontiers.
    """
    if not frontiers:
        raise ValueError("expected at least one frontier, got none")
    figure, axes = panels(1, 2, height=3.2)
    for number, (name, each) in enumerate(zip(names, frontiers, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        for panel, values in zip(axes[0], (each.size, each.loss), strict=True):
            panel.plot(each.budgets, values, "--", color=colour, linewidth=1.0)
            inside = np.where(each.extrapolated, np.nan, values)
            panel.plot(each.budgets, inside, "-", color=colour, linewidth=1.8, label=name)
            panel.plot(each.budgets[each.capped], values[each.capped], "s", color=colour, markersize=3.5)
        if np.isfinite(each.size_low).all():
            axes[0][0].fill_between(each.budgets, each.size_low, each.size_high, color=colour, alpha=0.13, linewidth=0)
    for panel, label in zip(axes[0], ("best parameters N", f"predicted {loss}"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="training FLOP")
        panel.set_ylabel(label, fontsize=8)
        bare(panel)
    axes[0][0].legend(frameon=False, fontsize=6)
    number_ticks(axes[0][1].yaxis)
    text = "dashed: N or D beyond the runs; squares: all records used, so the rest buys parameters"
    figure.suptitle(text, fontsize=8, color=FAINT)
    return figure
