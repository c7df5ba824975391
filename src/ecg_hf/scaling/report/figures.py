"""The figures of a report, saved as files, and the Markdown that shows them."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_hf.scaling.comparison.frontier import Frontier
from ecg_hf.scaling.fitting.result import GRAVE
from ecg_hf.scaling.report.comparison_plots import plot_frontiers, plot_iso_loss, plot_loss_to_loss
from ecg_hf.scaling.report.contrasts import Contrasts
from ecg_hf.scaling.report.plots import MOST_PANELS, plot_contours, plot_laws, plot_profiles, plot_residuals
from ecg_hf.scaling.report.study import CellLaw, Evaluation, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


def draw_study(study: Study, contrasts: Contrasts, folder: Path) -> dict[str, list[str]]:
    """Saves the figures of a study; without Matplotlib it saves none and logs a warning.

    Args:
        study: Study with its laws.
        contrasts: Comparisons of its cells.
        folder: Folder of the figures; it is created if needed.

    Returns:
        Markdown of the figures by section, which is an evaluation, "iso-loss", "transfer" or "frontier".
    """
    gallery = _Gallery(folder)
    try:
        for evaluation, laws in study.laws.items():
            _draw_evaluation(gallery, evaluation, list(laws.values()))
            _draw_comparisons(gallery, evaluation, contrasts)
        _draw_frontiers(gallery, study)
    except ImportError as error:
        logger.warning("no plots: %s", error)
    return gallery.sections


class _Gallery:
    """A folder of figures, and the Markdown that shows them by section."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.sections: dict[str, list[str]] = {}

    def add(self, section: str, figure: "Figure", kind: str, *names: object) -> None:
        """Saves a figure, and adds it to a section.

        Args:
            section: Section of the report.
            figure: Figure to save.
            kind: Kind of the figure, the first word of its file name.
            names: Further words of the file name; empty ones, zeros and "none" are left out.
        """
        words = [kind, *(str(name) for name in names if name not in (None, "none", 0, ""))]
        path = self.folder / f"{re.sub(r'[^a-z0-9]+', '-', ' '.join(words).lower()).strip('-')}.png"
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        self.sections.setdefault(section, []).append(f"![{kind}](plots/{path.name})")


def _name(evaluation: Evaluation) -> tuple[object, ...]:
    return evaluation[0], evaluation[2], *evaluation[3:]


def _draw_evaluation(gallery: _Gallery, evaluation: Evaluation, laws: list[CellLaw]) -> None:
    kinds: dict[tuple[str, ...], list[CellLaw]] = {}
    for law in laws:
        kinds.setdefault((law.fit.points.loss_name, *law.fit.points.letters), []).append(law)
    for number, ((_, *letters), mine) in enumerate(kinds.items()):
        for start in range(0, len(mine), MOST_PANELS):
            part = mine[start : start + MOST_PANELS]
            boots, section = [law.boot for law in part], str(evaluation)
            names = (*_name(evaluation), "" if letters == ["N", "D"] else letters[0], number, start)
            gallery.add(section, plot_laws(boots), "law", *names)
            if len(letters) == 2:
                gallery.add(section, plot_contours(boots), "contour", *names)
            gallery.add(section, plot_residuals(boots), "residuals", *names)
            gallery.add(section, plot_profiles([law.profiles for law in part]), "profile", *names)


def _draw_comparisons(gallery: _Gallery, evaluation: Evaluation, contrasts: Contrasts) -> None:
    pairs = [pair for pair in contrasts.pairs if pair.a.evaluation == evaluation]
    drawn = [(pair.iso, None if pair.no_factor else pair.joint, pair.doubt) for pair in pairs if pair.iso is not None]
    for start in range(0, len(drawn), MOST_PANELS):
        curves, joints, doubts = zip(*drawn[start : start + MOST_PANELS], strict=True)
        gallery.add("iso-loss", plot_iso_loss(curves, joints, doubts), "iso-loss", *_name(evaluation), start)
    mine = [
        (each, each.law) for each in contrasts.transfers if each.y.evaluation == evaluation and each.law is not None
    ]
    for start in range(0, len(mine), MOST_PANELS):
        part = mine[start : start + MOST_PANELS]
        figure = plot_loss_to_loss(
            [each.y.name for each, _ in part],
            [law for _, law in part],
            [each.y.fit.points.inputs[0] for each, _ in part],
            [each.collapse for each, _ in part],
            ("loss in distribution", f"{evaluation[2]} of {evaluation[0]}"),
            [_grave("joint", each.flags) for each, _ in part],
        )
        gallery.add("transfer", figure, "loss-to-loss", *_name(evaluation), start)


def _grave(method: str, flags: dict[str, tuple[str, ...]]) -> list[str]:
    """Lists the grave flags of one fit, shortened to fit into a panel."""
    found = [flag.removesuffix(" is not determined by these points") for flag in flags.get(method, ())]
    return [f"{method} fit, {flag}" for flag in found if flag.startswith(GRAVE)]


def _draw_frontiers(gallery: _Gallery, study: Study) -> None:
    """Draws one figure per loss in distribution, as losses of different objectives have different units."""
    for evaluation, laws in study.laws.items():
        kinds: dict[str, list[tuple[str, Frontier]]] = {}
        for law in laws.values():
            if evaluation[1] == "id" and law.frontier is not None:
                kinds.setdefault(law.fit.points.loss_name, []).append((law.name, law.frontier))
        for number, (loss, found) in enumerate(kinds.items()):
            names, frontiers = zip(*found, strict=True)
            gallery.add("frontier", plot_frontiers(names, frontiers, loss), "frontier", *_name(evaluation), number)
