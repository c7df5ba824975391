"""Matplotlib figures: creation without pyplot, common style, and saving."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, RED = "#14141f", "#8a8a8a", "#d00000"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito 2008


def new_figure(width: float, height: float, **options: Any) -> "Figure":
    """Creates an empty figure outside pyplot's global state.

    Args:
        width: Width of the figure, in inches.
        height: Height of the figure, in inches.
        options: Further keyword arguments of `matplotlib.figure.Figure`; `dpi` is 150 by default.

    Returns:
        A figure without axes.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib; install it with pip install 'ecg_hf[viz]'") from error
    return Figure((width, height), **{"dpi": 150, **options})


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Writes a figure at its own size and resolution, in the format that the path's suffix names.

    Args:
        figure: The figure, such as one from `new_figure`.
        path: Path of the output file, whose folder must exist.
    """
    figure.savefig(path, dpi=figure.dpi)


def bare_axes(*every: "Axes") -> None:
    """Removes the top and right sides of each frame and draws a faint grid behind the data."""
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e8e8e8", linewidth=0.6)
        axes.set_axisbelow(True)
