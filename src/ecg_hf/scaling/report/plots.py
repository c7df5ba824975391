"""Figures of laws, which show curves with bands, contours, residuals or profiles, and the flags of each fit in red."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_hf.output.figures import new_figure
from ecg_hf.scaling.comparison.multipliers import Source
from ecg_hf.scaling.fitting.intervals import CONFIDENCE, Boot
from ecg_hf.scaling.fitting.profiles import Profile
from ecg_hf.scaling.fitting.result import GRAVE, Fit
from ecg_hf.scaling.laws.base import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, FAINT, RED = "#14141f", "#8a8a8a", "#c00000"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito 2008
MEANING = {"N": "parameters N", "D": "unique records D", "S": "records seen S", "K": "labels K", "C": "training FLOP C"}
_WIDTH, _HEIGHT = 3.9, 3.3
_NUM_CURVE = 120
_MOST_LEVELS = 7
_FEW = 3
MOST_PANELS = 6


def plot_laws(sources: Sequence[Source]) -> "Figure":
    """Draws the loss against each input, with one column per law and one curve per level of the other input.

    Bands are pointwise 95 % intervals of the law, not of a run. Curves end at the data.

    Args:
        sources: Fits of one evaluation, or bootstraps, which add bands.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no laws, or more than six, or their inputs differ.
    """
    fits = _fits(sources)
    letters = fits[0].points.letters
    figure, axes = panels(len(letters), len(fits), sharey=True)
    for column, (source, fit) in enumerate(zip(sources, fits, strict=True)):
        for row, letter in enumerate(letters):
            _draw_law(axes[row][column], source, fit, letter)
        _title(axes[0][column], fit)
    # room for the legends
    low, high = axes[0][0].get_ylim()
    axes[0][0].set_ylim(low, high * (high / low) ** (0.3 if len(letters) > 1 else 0.05))
    for row, letter in enumerate(letters):
        axes[row][0].set_ylabel(f"{fits[0].points.loss_name}\nby {MEANING.get(letter, letter)}", fontsize=8)
    figure.suptitle("points: runs; lines and bands: law with pointwise 95 % interval", fontsize=9, color=FAINT)
    return figure


def _draw_law(axes: "Axes", source: Source, fit: Fit, letter: str) -> None:
    points, place = fit.points, fit.points.letters.index(letter)
    x = points.inputs[place]
    other = next((number for number in range(len(points.letters)) if number != place), None)
    grid = np.geomspace(x.min(), x.max(), _NUM_CURVE)
    if other is None:
        _draw_curve(axes, source, fit, {letter: grid}, COLOURS[0], None)
        axes.plot(x, points.loss, "o", color=INK, markersize=3.5)
    else:
        values = points.inputs[other]
        levels, shade = _levels(values, x), _shades(values)
        axes.scatter(x, points.loss, c=[shade(value) for value in values], s=13, zorder=3)
        # in a law of three inputs, the third is held at its largest value
        held = {name: np.full(_NUM_CURVE, points.inputs[k].max()) for k, name in enumerate(points.letters)}
        for level in levels:
            at = held | {letter: grid, points.letters[other]: np.full(_NUM_CURVE, level)}
            band = level in (levels[0], levels[-1])
            text = f"{points.letters[other]} = {level:.3g}"
            _draw_curve(axes, source if band else fit, fit, at, shade(level), text)
        axes.legend(frameon=False, fontsize=6, loc="upper right", handlelength=1.2, labelspacing=0.25, ncols=2)
    axes.set(xscale="log", yscale="log", xlabel=MEANING.get(letter, letter))
    number_ticks(axes.yaxis, *short(axes.xaxis))
    bare(axes)


def _levels(other: Values, x: Values) -> Values:
    """Chooses levels of the other input that were trained at several x, or else levels spread over its range."""
    found = np.unique(other)
    varied = found[[len(np.unique(x[other == level])) >= _FEW for level in found]]
    if len(varied) < 2:
        return np.geomspace(found[0], found[-1], 5)
    return np.asarray(varied[np.unique(np.linspace(0, len(varied) - 1, _MOST_LEVELS).round().astype(int))])


def _shades(values: Values) -> Callable[[float], Any]:
    """Returns the function from a value of the other input to its colour, darker for larger values."""
    from matplotlib import colormaps

    low, high = np.log(values.min()), np.log(values.max())
    return lambda value: colormaps["viridis"](0.9 - 0.85 * float((np.log(value) - low) / max(high - low, 1e-9)))


def _draw_curve(
    axes: "Axes", source: Source, fit: Fit, inputs: dict[str, Values], colour: Any, label: str | None
) -> None:
    letter = next(name for name in fit.points.letters if np.ptp(inputs[name]) > 0)
    axes.plot(inputs[letter], fit.predict(inputs), color=colour, linewidth=1.2, label=label)
    if isinstance(source, Boot):
        logs = source.log_predict(np.stack([inputs[name] for name in fit.points.letters]))
        low, high = np.exp(np.quantile(logs, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0))
        axes.fill_between(inputs[letter], low, high, color=colour, alpha=0.18, linewidth=0)


def plot_contours(sources: Sequence[Source]) -> "Figure":
    """Draws the predicted loss over N and D, with each run in the colour of its own loss.

    The law misses a run that stands out from its background. No run lies outside the dotted box.

    Args:
        sources: Fits or bootstraps of laws of two inputs.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no laws, or more than six, or one does not have two inputs.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    fits = _fits(sources)
    if any(len(fit.points.letters) != 2 for fit in fits):
        raise ValueError("contours need laws of two inputs; draw a law of one with plot_laws")
    losses = np.concatenate([fit.points.loss for fit in fits])
    norm = LogNorm(losses.min(), losses.max())
    figure, axes = panels(1, len(fits))
    for fit, panel in zip(fits, axes[0], strict=True):
        n, d = fit.points.inputs
        grid = np.meshgrid(*(np.geomspace(each.min() / 2, each.max() * 2, 60) for each in (n, d)))
        surface = fit.predict(dict(zip(fit.points.letters, grid, strict=True)))
        levels = np.geomspace(losses.min() * 0.9, losses.max() * 1.1, 18)
        panel.contourf(*grid, surface, levels=levels, norm=norm, cmap="viridis", alpha=0.85, extend="both")
        lines = panel.contour(*grid, surface, levels=levels[::2], colors="white", linewidths=0.4)
        panel.clabel(lines, fontsize=5, fmt="%.3g")
        panel.scatter(n, d, c=fit.points.loss, norm=norm, cmap="viridis", edgecolors="black", linewidths=0.6, s=18)
        corner = (float(n.min()), float(d.min()))
        panel.add_patch(Rectangle(corner, np.ptp(n), np.ptp(d), fill=False, linestyle=":", color=INK, linewidth=0.8))
        panel.set(xscale="log", yscale="log", xlabel=MEANING["N"], ylabel=MEANING["D"])
        number_ticks(*short(panel.xaxis, panel.yaxis))
        _title(panel, fit)
    image = axes[0][-1].collections[-1]
    bar = figure.colorbar(image, ax=list(axes[0]), shrink=0.85, pad=0.01)
    bar.set_label(fits[0].points.loss_name, fontsize=7)
    bar.ax.tick_params(labelsize=6, which="both")
    number_ticks(bar.ax.yaxis)
    return figure


def plot_residuals(sources: Sequence[Source]) -> "Figure":
    """Draws the residuals of each law against each input; a trend means that the form is wrong there.

    Args:
        sources: Fits or bootstraps of one evaluation.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no laws, or more than six, or their inputs differ.
    """
    fits = _fits(sources)
    letters = fits[0].points.letters
    figure, axes = panels(len(letters), len(fits), sharey=True, height=2.3)
    for column, fit in enumerate(fits):
        spread = 100 * fit.rmse_log
        for row, letter in enumerate(letters):
            panel = axes[row][column]
            panel.axhspan(-2 * spread, 2 * spread, color="#f0f0f0", linewidth=0)
            panel.axhline(0, color=FAINT, linewidth=0.8)
            outside = np.abs(fit.residuals) > 2.5 * fit.rmse_log
            for mine, colour in ((~outside, COLOURS[0]), (outside, RED)):
                panel.plot(fit.points.inputs[row][mine], 100 * fit.residuals[mine], "o", color=colour, markersize=3.5)
            panel.set(xscale="log", xlabel=MEANING.get(letter, letter))
            number_ticks(*short(panel.xaxis))
            bare(panel)
        _title(axes[0][column], fit)
    for row in range(len(letters)):
        axes[row][0].set_ylabel("loss above law, %", fontsize=8)
    figure.suptitle("residuals; grey: two standard deviations", fontsize=9, color=FAINT)
    return figure


def plot_profiles(profiles: Sequence[Sequence[Profile]]) -> "Figure":
    """Draws the deviance of each value of a parameter; a curve that stays below the line means an open interval.

    Args:
        profiles: Profiles of each law, all of the same parameters in the same order.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no profiles.
    """
    from scipy.stats import chi2

    names = [each.name for each in profiles[0]] if profiles else []
    if not names:
        raise ValueError("expected at least one law with profiles, got none")
    figure, axes = panels(1, len(names), height=3.0)
    for column, name in enumerate(names):
        panel = axes[0][column]
        limit = float(chi2.ppf(profiles[0][column].confidence, 1))
        panel.axhline(limit, color=FAINT, linewidth=0.8, linestyle="--")
        ends = []
        for number, mine in enumerate(profiles):
            each = mine[column]
            points = each.fit.points
            colour = COLOURS[number % len(COLOURS)]
            panel.plot(each.grid, each.deviance, color=colour, linewidth=1.3, label=points.cell or each.fit.form)
            panel.plot(each.fit.params[name], 0, "o", color=colour, markersize=4, clip_on=False)
            near = each.grid[each.deviance < 3 * limit]
            ends += [near.min(), near.max()]
            if each.open_low or each.open_high:
                ends += [each.low, each.high]
        margin = 0.05 * (max(ends) - min(ends)) or 1e-3
        panel.set(xlim=(min(ends) - margin, max(ends) + margin), ylim=(0, 3 * limit), xlabel=name)
        bare(panel)
    axes[0][0].set_ylabel("deviance")
    axes[0][0].legend(frameon=False, fontsize=6)
    figure.suptitle(
        f"profile likelihoods; below the dashed line: {100 * CONFIDENCE:.0f} % interval", fontsize=9, color=FAINT
    )
    return figure


def _fits(sources: Sequence[Source]) -> list[Fit]:
    fits = [source.fit if isinstance(source, Boot) else source for source in sources]
    if not 1 <= len(fits) <= MOST_PANELS:
        raise ValueError(f"a figure shows 1 to {MOST_PANELS} laws, got {len(fits)}; draw several")
    if len({fit.points.letters for fit in fits}) > 1:
        raise ValueError("the laws of a figure must have the same inputs; draw laws of N apart from laws of N and D")
    return fits


def panels(rows: int, columns: int, sharey: bool = False, height: float = _HEIGHT) -> tuple["Figure", Any]:
    """Creates a figure with rows and columns of axes.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        sharey: Whether all axes have the same scale of y.
        height: Height of a row, in inches.

    Returns:
        The figure, and the axes as an array of shape (rows, columns).
    """
    figure = new_figure(max(_WIDTH * columns, 5.0), height * rows + 0.4, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for panel in axes.ravel():
        panel.tick_params(labelsize=7, which="both")
        panel.xaxis.label.set_size(8)
        panel.yaxis.label.set_size(8)
    return figure, axes


def _title(axes: "Axes", fit: Fit) -> None:
    """Writes the cell and its law above the axes, and the grave flags of the fit into them in red."""
    values = ", ".join(f"{name} {value:.3g}" for name, value in fit.params.items())
    axes.set_title(f"{fit.points.cell or fit.form}\n{values}", fontsize=7.5, loc="left", color=INK)
    severe = [flag for flag in fit.flags if flag.startswith(GRAVE)]
    rest = len(fit.flags) - len(severe)
    text = [flag.split(" = ")[0] if flag.startswith("unid") else flag for flag in severe]
    text += [f"{rest} more remark{'s' if rest > 1 else ''}, see report"] if rest else []
    if text:
        axes.text(0.02, 0.02, "\n".join(text), transform=axes.transAxes, fontsize=6, color=RED, va="bottom", zorder=9)


def number_ticks(*every: "Axis") -> None:
    """Labels axes with plain numbers, as a range of less than two decades contains hardly any power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    for axis in every:
        low, high = axis.get_view_interval()
        axis.set_major_locator(MaxNLocator(6) if high < 8 * low else LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def short(*every: "Axis") -> list["Axis"]:
    """Returns the axes of less than two decades; on longer ones, labels between powers of ten would overlap."""
    return [axis for axis in every if axis.get_view_interval()[1] < 100 * axis.get_view_interval()[0]]


def bare(*every: "Axes") -> None:
    """Removes the upper and right spines of axes, and adds a faint grid."""
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e8e8e8", linewidth=0.6)
        axes.set_axisbelow(True)
