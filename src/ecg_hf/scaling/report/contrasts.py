"""Contrasts, which compare pairs of cells, and transfers, which relate losses in and out of distribution."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from ecg_hf.errors import EcgFormatError
from ecg_hf.scaling.comparison.crossing import Crossover, crossover
from ecg_hf.scaling.comparison.flops import FlopsModel
from ecg_hf.scaling.comparison.joint import JointMultiplier, joint_multiplier
from ecg_hf.scaling.comparison.ladder import GridMultiplier, grid_multiplier
from ecg_hf.scaling.comparison.loss_to_loss import Collapse, LossToLoss, collapse_test, fit_losses, relate
from ecg_hf.scaling.comparison.multipliers import (
    IsoLoss,
    compute_multiplier,
    exponent_ratio,
    iso_loss,
)
from ecg_hf.scaling.comparison.paired import TOLERANCE, pair_up
from ecg_hf.scaling.comparison.transfer import elasticity, kappa_ratio
from ecg_hf.scaling.fitting.intervals import Boot, Estimate
from ecg_hf.scaling.report.study import Cell, CellLaw, Evaluation, Study

Result = TypeVar("Result")

SUPERVISED = ("sl", "supervised")
_LIKELY = 0.5  # fraction of replicates above which a crossing inside the data is believed


@dataclass(eq=False)
class Contrast:
    """The comparison of two cells on one evaluation.

    Args:
        a: Law of the first cell.
        b: Law of the second cell; a multiplier of 2 means that it needs twice as much as the first.
        axis: Input that is compared: "N" between families, "D" between paradigms.
        iso: Iso-loss multiplier, a curve over losses.
        joint: Joint multiplier, one factor for all losses.
        ratio: Exponent of the first cell over that of the second.
        compute: Compute multiplier, the iso-loss curve in FLOPs.
        grid: Grid multiplier, which is read off the runs without any law.
        crossing: Crossover, the value of the input at which the laws cross.
        paired: Loss-to-loss law of b as a function of a, over runs paired by N and D; only out of distribution.
        collapse: Test whether the paired losses lie on one curve.
        refused: Reasons why comparisons are missing, one sentence each.
    """

    a: CellLaw
    b: CellLaw
    axis: str
    iso: IsoLoss | None = None
    joint: JointMultiplier | None = None
    ratio: Estimate | None = None
    compute: IsoLoss | None = None
    grid: GridMultiplier | None = None
    crossing: Crossover | None = None
    paired: LossToLoss | None = None
    collapse: Collapse | None = None
    refused: list[str] = field(default_factory=list)

    @property
    def no_factor(self) -> str:
        """Reason why a single factor between the cells would mislead; empty if it would not."""
        if self.crossing is not None and self.crossing.inside and self.crossing.share_crossing > _LIKELY:
            return "the laws cross inside the data"
        return "one factor is refused" if self.joint is not None and self.joint.rejected else ""

    @property
    def headline(self) -> Estimate | None:
        """The joint multiplier, or the median of the iso-loss curve if a single factor would mislead."""
        if self.joint is not None and not self.no_factor:
            return self.joint.estimate
        return self.iso.median if self.iso is not None else None

    @property
    def doubt(self) -> str:
        """Reasons to doubt the headline; empty if there are none."""
        weak = [text for law in (self.a, self.b) for text in _weaknesses(law, _exponent(law, self.axis))]
        found = [self.no_factor, *weak, _not_finite(self.headline)]
        return "; ".join(text for text in found if text)

    def __str__(self) -> str:
        text = f"{self.a.evaluation[0]}: {self.a.name} and {self.b.name}: {self.headline or 'no factor'}"
        return text + (f"; DOUBTFUL: {self.doubt}" if self.doubt else "")


@dataclass(eq=False)
class Transfer:
    """The relation between a cell's loss in distribution and one of its losses out of distribution, over the same runs.

    Args:
        x: Law of the loss in distribution.
        y: Law of the loss out of distribution.
        law: Loss-to-loss law fitted in two stages, with the uncertainty of both constants.
        joint: Loss-to-loss law whose four parameters are fitted at once.
        collapse: Test whether the losses lie on one curve.
        elasticity: Elasticity d ln L_ood / d ln L_id, which needs no constants.
        refused: Reasons why results are missing, one sentence each.
    """

    x: CellLaw
    y: CellLaw
    law: LossToLoss | None = None
    joint: LossToLoss | None = None
    collapse: Collapse | None = None
    elasticity: Estimate | None = None
    refused: list[str] = field(default_factory=list)

    @property
    def flags(self) -> dict[str, tuple[str, ...]]:
        """Warnings about the two loss-to-loss fits, by method."""
        return {law.method: law.flags for law in (self.law, self.joint) if law is not None}


@dataclass(eq=False)
class Contrasts:
    """All comparisons of a study.

    Args:
        pairs: Comparisons of two cells on one evaluation.
        transfers: Relations between the losses of one cell on two evaluations.
        kappa_ratios: Ratios of kappa between paradigms of a family, with the evaluation and the names of both cells.
    """

    pairs: list[Contrast]
    transfers: list[Transfer]
    kappa_ratios: list[tuple[str, str, str, Estimate]]


def contrast(study: Study, say: Callable[[str], None] = lambda text: None) -> Contrasts:
    """Compares the cells of a study in pairs, and each cell's loss in distribution with its losses out of distribution.

    Two cells are compared if they differ in family only or, out of distribution, if they have the same family. In
    distribution, losses of different paradigms or objectives have different units and are never compared.

    Args:
        study: Study with its laws.
        say: Function that is called with a line of progress for each pair of cells.

    Returns:
        All comparisons of the study.
    """
    pairs = []
    for evaluation, laws in study.laws.items():
        for a, b in combinations(laws.values(), 2):
            axis = _axis(a.cell, b.cell, evaluation)
            if axis == "D" and a.cell[1] in SUPERVISED:
                a, b = b, a  # the usual question is how many more records supervised training needs
            if axis is not None and a.fit.points.letters == b.fit.points.letters and axis in a.fit.points.letters:
                pairs.append(_contrast(a, b, axis))
                say(str(pairs[-1]))
    transfers = _transfers(study)
    return Contrasts(pairs, transfers, _kappa_ratios(transfers))


def _axis(a: Cell, b: Cell, evaluation: Evaluation) -> str | None:
    if a[0] != b[0] and a[1:] == b[1:]:
        return "N"
    if a[0] == b[0] and a[1:] != b[1:] and evaluation[1] != "id":
        return "D"
    return None


def _try(refused: list[str], text: str, function: Callable[[], Result]) -> Result | None:
    try:
        return function()
    except (ValueError, EcgFormatError) as error:
        refused.append(f"{text}: {error}")
        return None


def _contrast(a: CellLaw, b: CellLaw, axis: str) -> Contrast:
    found = Contrast(a, b, axis)
    note, first, second = found.refused, _named(a), _named(b)
    found.iso = _try(note, "iso-loss multiplier", lambda: iso_loss(first, second, axis))
    found.joint = _try(note, "joint multiplier", lambda: joint_multiplier(first, second, axis))
    name = _exponent(a, axis)
    found.ratio = _try(note, "exponent ratio", lambda: exponent_ratio(first, second, name))
    found.crossing = _try(note, "crossover", lambda: crossover(first, second, axis))
    if axis == "N":
        found.compute = _try(
            note,
            "compute multiplier",
            lambda: compute_multiplier(first, second, FlopsModel.of(a.table), FlopsModel.of(b.table)),
        )
    else:
        found.grid = grid_multiplier(a.fit.points, b.fit.points, axis)
    if a.evaluation[1] != "id":
        _relate_cells(found, first, second)
    return found


def _named(law: CellLaw) -> Boot:
    """Returns a law's bootstrap with its objective in the name, as two objectives of one paradigm may be compared."""
    points = replace(law.fit.points, cell=law.name)
    return replace(law.boot, fit=replace(law.fit, points=points))


def _relate_cells(found: Contrast, a: Boot, b: Boot) -> None:
    """Relates the losses of two cells on one evaluation out of distribution, where their units agree."""
    note = found.refused
    boots = _try(note, "pairs of runs", lambda: pair_up(a, b))
    if boots is not None:
        found.paired = _try(note, "test-to-test fit", lambda: relate(*boots, TOLERANCE))
        found.collapse = _try(note, "test-to-test collapse", lambda: collapse_test(*boots, TOLERANCE))


def _weaknesses(law: CellLaw, exponent: str) -> list[str]:
    """Lists which of E and the exponent, on which every multiplier depends, the runs of a cell do not determine."""
    fit = law.fit
    kinds = (("at a bound", fit.at_bound), ("unidentified", fit.unidentified))
    return [f"{name} of {law.name} is {text}" for text, names in kinds for name in ("E", exponent) if name in names]


def _not_finite(estimate: Estimate | None) -> str:
    if estimate is None or np.isfinite([estimate.value, estimate.low, estimate.high]).all():
        return ""
    bounded = "has no finite interval" if np.isfinite(estimate.value) else "is not finite"
    return f"the {estimate.kind} {bounded}"


def _exponent(law: CellLaw, axis: str) -> str:
    """Returns the name of an axis' exponent, which is alpha in every law of one input or one exponent."""
    return "beta" if axis == "D" and "beta" in law.fit.law.exponents else "alpha"


def _transfers(study: Study) -> list[Transfer]:
    inside: dict[Cell, CellLaw] = {}
    for law in study.each():
        if law.evaluation[1] == "id":
            inside.setdefault(law.cell, law)
    return [
        _transfer(inside[law.cell], law) for law in study.each() if law.evaluation[1] != "id" and law.cell in inside
    ]


def _transfer(x: CellLaw, y: CellLaw) -> Transfer:
    found = Transfer(x, y)
    found.law = _try(found.refused, "two-stage fit", lambda: relate(x.boot, y.boot))
    found.collapse = _try(found.refused, "collapse test", lambda: collapse_test(x.boot, y.boot))
    if found.law is not None:
        first, second = x.fit.points.loss, y.fit.points.loss
        num, runs = len(x.boot.theta), x.fit.points.clusters
        found.joint = _try(
            found.refused, "joint fit", lambda: fit_losses(first, second, num_replicates=num, clusters=runs)
        )
        found.elasticity = _try(found.refused, "elasticity", lambda: elasticity(first, second, num, clusters=runs))
    return found


def _kappa_ratios(transfers: list[Transfer]) -> list[tuple[str, str, str, Estimate]]:
    """Divides the kappas of each two cells of one family on one evaluation."""
    found = []
    for first, second in combinations([each for each in transfers if each.law is not None], 2):
        same: Any = first.y.evaluation == second.y.evaluation and first.y.cell[0] == second.y.cell[0]
        if same and first.law is not None and second.law is not None:
            ratio = kappa_ratio(first.law, second.law)
            found.append((str(first.y.evaluation[0]), first.y.name, second.y.name, ratio))
    return found
