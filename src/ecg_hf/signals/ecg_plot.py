"""Plots of an ECG on millimetre paper, true to scale."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecg_hf.output.figures import new_figure
from ecg_hf.signals.record import LEADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MM_PER_S = 25
MM_PER_MV = 10
PAPER_DPI = 254  # ten pixels per millimetre, so every line of the grid falls on a pixel
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "3x4+1": (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"), ("II",)),
    "6x2": (("I", "V1"), ("II", "V2"), ("III", "V3"), ("aVR", "V4"), ("aVL", "V5"), ("aVF", "V6")),
    "12x1": (),  # one row for each given lead
}

_MARGIN, _HEADER, _PULSE = 5, 10, 10  # mm
_MAX_S = 250  # a longer signal exceeds the 2^16 pixels of a figure
_MAX_MV = 50
_PAPER, _FINE, _COARSE, _INK, _FAINT = "#fffdfa", "#f9e0dd", "#eeb6b1", "#14141f", "#8a8a8a"


def plot_ecg(
    signal: NDArray[np.floating],
    sampling_rate: float,
    leads: Sequence[str] = LEADS,
    *,
    title: str | None = None,
    layout: str = "3x4+1",
) -> "Figure":
    """Draws an ECG on millimetre paper at 25 mm/s and 10 mm/mV, true to scale at the figure's resolution.

    The columns of a layout show consecutive parts of the record, so each beat of the rhythm strip lies below the same
    beat in the rows above. The page grows with the signal, and nothing is cut off. Missing samples are left blank.

    Args:
        signal: Signal in mV, shape (L, T); NaN marks a missing sample.
        sampling_rate: Sampling rate, in Hz.
        leads: Lead name of each row of `signal`.
        title: Text at the top left of the page; None for no title.
        layout: "3x4+1" (with lead II as rhythm strip), "6x2", or "12x1" (one row for each of `leads`).

    Returns:
        The figure, for `ecg_hf.output.figures.save_figure` or its own `savefig`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the arguments do not fit each other, if a lead has no place in the layout, or if the signal does
            not fit a page: more than 50 mV or 250 s.

    Example:
        >>> import ecg_hf
        >>> from ecg_hf.signals.ecg_plot import plot_ecg
        >>> row = next(iter(ecg_hf.load_corpus("synthetic", split="test", streaming=True, num_records=20)))
        >>> figure = plot_ecg(ecg_hf.row_to_signal(row), row["sampling_rate"], row["leads"], title=row["record_id"])
        >>> print(figure.get_size_inches() * 25.4)  # width and height of the page, in mm
        [270. 135.]

    Source:
        Kligfield et al. 2007, recommendations for the standardization of the electrocardiogram.
    """
    _check_ecg(signal, sampling_rate, leads, layout)
    rows = LAYOUTS[layout] or tuple((lead,) for lead in leads)
    millimetres = dict(zip(leads, signal * MM_PER_MV, strict=True))
    traces = [_row_traces(row, millimetres, signal.shape[1]) for row in rows]
    heights = [_row_height(pieces) for pieces in traces]
    length = signal.shape[1] / sampling_rate * MM_PER_S
    width = 5 * np.ceil((_MARGIN + _PULSE + length + _MARGIN) / 5)
    height = 2 * _HEADER + sum(up + down for up, down in heights)
    figure = new_figure(width / 25.4, height / 25.4, dpi=PAPER_DPI)
    axes = _paper(figure, width, height)
    top = height - _HEADER
    for pieces, (up, down) in zip(traces, heights, strict=True):
        _draw_row(axes, pieces, top - up, MM_PER_S / sampling_rate)
        top -= up + down
    if title:
        axes.text(_MARGIN, height - 4, title, va="top", fontsize=10, color=_INK)
    scale = f"{MM_PER_S} mm/s    {MM_PER_MV} mm/mV    {sampling_rate:g} Hz    {length / MM_PER_S:g} s"
    axes.text(_MARGIN, 3, scale, fontsize=8, color=_INK)
    return figure


def _check_ecg(signal: NDArray[np.floating], sampling_rate: float, leads: Sequence[str], layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is unknown; choose one of {list(LAYOUTS)}")
    if signal.ndim != 2 or len(signal) != len(leads) or signal.shape[1] < 2:
        raise ValueError(
            f"expected a signal of shape ({len(leads)}, T), one row per lead, got {signal.shape}; "
            "transpose it or name its leads"
        )
    if len(set(leads)) != len(leads):
        raise ValueError(f"expected every lead once, got {list(leads)}; drop the repeated ones")
    places = {lead for row in LAYOUTS[layout] for lead in row}
    unplaced = [lead for lead in leads if places and lead not in places]
    if unplaced:
        raise ValueError(f"layout {layout!r} has no place for lead {unplaced[0]!r}; draw it with layout='12x1'")
    if not 0 < sampling_rate < np.inf:
        raise ValueError(f"sampling_rate must be above 0 Hz, got {sampling_rate}; read it from the record's header")
    largest = np.max(np.abs(signal), initial=0, where=~np.isnan(signal))
    if largest > _MAX_MV:
        raise ValueError(f"expected a signal in mV, at most {_MAX_MV} on paper, got {largest:g}; convert its unit")
    duration_s = signal.shape[1] / sampling_rate
    if duration_s > _MAX_S:
        raise ValueError(f"expected at most {_MAX_S} s, got {duration_s:g} s; draw a crop of it")


class _Trace(NamedTuple):
    lead: str
    first: int  # index in the record of the first sample
    y: NDArray[np.floating] | None  # in mm; None if the lead was not recorded


def _row_traces(row: Sequence[str], millimetres: Mapping[str, NDArray[np.floating]], num_samples: int) -> list[_Trace]:
    """Cuts the record into consecutive pieces, one for each lead of a row."""
    cuts = [round(num_samples * column / len(row)) for column in range(len(row) + 1)]
    return [
        _Trace(lead, first, millimetres[lead][first:last] if lead in millimetres else None)
        for lead, first, last in zip(row, cuts, cuts[1:], strict=False)
    ]


def _row_height(traces: list[_Trace]) -> tuple[float, float]:
    """Computes the space above and below 0 mV of a row, in mm, as whole 5 mm squares with room for the lead names."""
    values = np.concatenate([np.zeros(1), *(trace.y for trace in traces if trace.y is not None)])
    return 5 * np.ceil((max(MM_PER_MV, np.nanmax(values)) + 5) / 5), 5 * np.ceil((2 - np.nanmin(values)) / 5)


def _paper(figure: "Figure", width: float, height: float) -> "Axes":
    """Adds axes that fill the page, in units of 1 mm, and draws the grid."""
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), facecolor=_PAPER)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for step, colour, line_width in ((1, _FINE, 0.25), (5, _COARSE, 0.5)):
        axes.vlines(np.arange(0, width + 1, step), 0, height, colour, linewidth=line_width, zorder=0.5 + step / 10)
        axes.hlines(np.arange(0, height + 1, step), 0, width, colour, linewidth=line_width, zorder=0.5 + step / 10)
    return axes


def _draw_row(axes: "Axes", traces: list[_Trace], zero: float, step: float) -> None:
    """Draws the calibration pulse and the leads of a row from left to right; a sample takes `step` mm."""
    pulse = np.array([[0, 0], [2, 0], [2, MM_PER_MV], [7, MM_PER_MV], [7, 0], [9, 0]]).T
    axes.plot(_MARGIN + pulse[0], zero + pulse[1], color=_INK, linewidth=0.8, gid="pulse")
    for lead, first, y in traces:
        start = _MARGIN + _PULSE + first * step
        if first:
            axes.plot([start, start], [zero - 2, zero + 2], color=_FAINT, linewidth=0.8, gid="separator")
        if y is None:
            axes.text(start + 1, zero + 3, f"{lead}: not recorded", fontsize=8, color=_FAINT)
            continue
        x = start + np.arange(len(y)) * step
        axes.plot(x, zero + y, color=_INK, linewidth=0.8, solid_joinstyle="round", gid=lead)
        _name_lead(axes, lead + ": missing" * bool(np.isnan(y).all()), start, zero, y[x < start + 11])


def _name_lead(axes: "Axes", name: str, start: float, zero: float, beginning: NDArray[np.floating]) -> None:
    """Writes the name of a lead just above the part of the trace that lies below the name."""
    from matplotlib.patheffects import withStroke

    above = max(np.max(beginning, initial=0, where=~np.isnan(beginning)) + 1, 3)
    halo = [withStroke(linewidth=2, foreground=_PAPER)]
    axes.text(start + 1, zero + above, name, fontsize=9, fontweight="bold", color=_INK, path_effects=halo)
