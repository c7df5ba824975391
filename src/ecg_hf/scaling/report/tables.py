"""Markdown tables of a study, which the report and the model card contain."""

from collections.abc import Iterable, Sequence

import numpy as np

from ecg_hf.scaling.comparison.frontier import Frontier
from ecg_hf.scaling.comparison.loss_to_loss import Collapse
from ecg_hf.scaling.fitting.intervals import Estimate
from ecg_hf.scaling.fitting.profiles import Profile
from ecg_hf.scaling.report.contrasts import Contrast, Contrasts
from ecg_hf.scaling.report.study import CellLaw, Study

_USUAL = ("A", "B", "E", "alpha", "beta")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a Markdown table.

    Args:
        head: Cells of the header.
        rows: Cells of each row.

    Example:
        >>> from ecg_hf.scaling.report.tables import markdown
        >>> print(markdown(["cell", "alpha"], [["resnet sl", "0.34"]]))
        | cell | alpha |
        |---|---|
        | resnet sl | 0.34 |
    """
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def number(value: float, digits: int = 3) -> str:
    """Formats a number; NaN becomes a dash, infinity "none" and minus infinity 0, as for a multiplier.

    Args:
        value: Number to format.
        digits: Number of significant digits.
    """
    if np.isnan(value):
        return "-"
    return f"{value:.{digits}g}" if np.isfinite(value) else "none" if value > 0 else "0"


def interval(estimate: Estimate | None) -> str:
    """Formats an estimate with its interval; a missing estimate becomes a dash."""
    if estimate is None:
        return "-"
    if np.isnan(estimate.low):
        return number(estimate.value) if np.isnan(estimate.value) else f"{number(estimate.value)} (no interval)"
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def runs_table(study: Study) -> str:
    """Lists the number of runs of each family and paradigm, with the numbers and ranges of N and D."""
    rows = []
    table = study.table.done()
    for (family, paradigm), part in table.cells().items():
        n, d = part.column(table.size), part.column(table.data)
        seeds = {row.seed for row in part.rows}
        rows.append(
            [
                f"{family} {paradigm}",
                str(len({row.run_id for row in part.rows})),
                f"{len(np.unique(n))}: {number(n.min())} to {number(n.max())}",
                f"{len(np.unique(d))}: {number(d.min())} to {number(d.max())}",
                str(len(seeds)),
            ]
        )
    return markdown(["cell", "runs", f"N = {table.size}", f"D = {table.data}", "seeds"], rows)


def laws_table(laws: Sequence[CellLaw]) -> str:
    """Lists the parameters of laws, with percentile intervals."""
    names = list(dict.fromkeys([*_USUAL, *(name for law in laws for name in law.fit.params)]))
    rows = []
    for law in laws:
        fit = law.fit
        values = [interval(law.boot.estimate(name)) if name in fit.params else "-" for name in names]
        known = [law.name, fit.form, inputs(law), str(fit.num_points)]
        rows.append([*known, *values, f"{100 * fit.rmse_log:.2f}", f"{fit.r_squared:.4f}"])
    return markdown(["cell", "form", "of", "points", *names, "rms, %", "R2"], rows)


def inputs(law: CellLaw) -> str:
    """Returns the inputs of a law as text; without it, the alpha of a law of D alone would look like one of N."""
    return ", ".join(law.fit.points.letters)


def profiles_table(laws: Sequence[CellLaw]) -> str:
    """Lists profile and BCa intervals, which show when an end of a percentile interval cannot be trusted."""
    rows = []
    for law in laws:
        for each in law.profiles:
            bca = law.boot.estimate(each.name, "bca")
            low = f"open below {number(each.low)}" if each.open_low else number(each.low)
            high = f"open above {number(each.high)}" if each.open_high else number(each.high)
            percent = 100 * law.boot.at_bound.get(each.name, 0.0)
            ends = f"{number(bca.low)} to {number(bca.high)}"
            rows.append([law.name, inputs(law), each.name, f"{low} to {high}", ends, f"{percent:.0f} %"])
    return markdown(["cell", "of", "parameter", "profile", "BCa", "replicates at a bound"], rows)


def choices_table(laws: Sequence[CellLaw]) -> str:
    """Compares the forms by likelihood, by points left out one by one, and by the prediction of the largest runs."""
    kinds = list(dict.fromkeys(by for law in laws for choice in law.choices for by in choice.held_out))
    rows = [
        [
            law.name,
            choice.form + (" (reported)" if choice.form == law.fit.form else ""),
            str(choice.num_parameters),
            f"{choice.delta_aicc:.1f}",
            f"{choice.bic:.1f}",
            f"{100 * choice.loo:.2f}",
            *(f"{100 * choice.held_out[by]:.2f}" if by in choice.held_out else "-" for by in kinds),
        ]
        for law in laws
        for choice in law.choices
    ]
    head = ["cell", "form", "parameters", "delta AICc", "BIC", "leave-one-out rms, %"]
    return markdown([*head, *(f"{by} held out, rms, %" for by in kinds)], rows)


def holdouts_table(laws: Sequence[CellLaw]) -> str:
    """Lists the errors of predicting the largest runs from the smaller ones."""
    rows = []
    for law in laws:
        for each in law.holdouts:
            errors = ", ".join(f"{100 * error:+.1f}" for error in each.errors)
            rows.append([law.name, each.by, str(len(each.errors)), errors])
        rows += [[law.name, text, "-", "-"] for text in law.refused]
    return markdown(["cell", "held out", "runs", "prediction over loss, %"], rows)


def sensitivity_table(laws: Sequence[CellLaw]) -> str:
    """Lists the parameters of laws under other choices in fitting."""
    names = list(dict.fromkeys(["E", "alpha", "beta", *(name for law in laws for name in law.fit.law.exponents)]))
    rows = []
    for law in laws:
        for text, params in law.sensitivity.items():
            values = [number(params[name]) if name in params else "-" for name in names]
            rows.append([law.name, inputs(law), text, *values])
    return markdown(["cell", "of", "choice", *names], rows)


def bottleneck_table(laws: Sequence[CellLaw]) -> str:
    """Lists the bottleneck of each cell at its largest N and D."""
    rows = []
    for law in laws:
        if law.bottleneck is not None:
            found = law.bottleneck
            values = [interval(each) for each in (found.elasticity_n, found.elasticity_d, found.share_d)]
            rows.append([law.name, *values, found.limit])
    return markdown(["cell", "elasticity of N", "elasticity of D", "share of D", "limited by"], rows)


def contrasts_table(contrasts: Contrasts) -> str:
    """Lists the multipliers between cells, each kind in a column of its own, and the exponent ratio by its names."""
    rows = []
    for pair in contrasts.pairs:
        joint = "-"
        if pair.joint is not None:
            verdict = pair.no_factor or "one factor not refused"
            joint = f"{interval(pair.joint.estimate)}; {verdict}, p {pair.joint.p_value:.2g}"
        rows.append(
            [
                f"{pair.a.evaluation[2]} of {pair.a.evaluation[0]}",
                f"{pair.b.name} over {pair.a.name}",
                pair.axis,
                joint,
                interval(pair.iso.median if pair.iso else None),
                interval(pair.compute.median if pair.compute else None),
                f"{number(pair.grid.median.value)}{pair.grid.bounds}" if pair.grid else "-",
                _ratio(pair),
                pair.doubt or "-",
            ]
        )
    head = [
        "evaluation",
        "cells",
        "axis",
        "joint multiplier",
        "iso-loss multiplier, median",
        "compute multiplier, median",
    ]
    return markdown([*head, "grid multiplier, median", "exponent ratio", "doubt"], rows)


def _ratio(pair: Contrast) -> str:
    """Formats an exponent ratio with both exponents, as it divides the other way round than the multipliers."""
    name = pair.ratio.kind.split()[-1] if pair.ratio else ""
    return f"{name} of {pair.a.name} / {name} of {pair.b.name} = {interval(pair.ratio)}" if pair.ratio else "-"


def paired_table(contrasts: Contrasts) -> str:
    """Lists the laws of one cell's loss as a function of another's on one evaluation; empty without such pairs."""
    rows = []
    for pair in contrasts.pairs:
        if pair.paired is None:
            continue
        values = [interval(pair.paired.estimates[name]) for name in ("kappa", "K")]
        row = [f"{pair.a.evaluation[2]} of {pair.a.evaluation[0]}", f"{pair.b.name} of {pair.a.name}"]
        flags = "; ".join(pair.paired.flags) or "-"
        rows.append([*row, str(len(pair.paired.x)), *values, _one_curve(pair.collapse), flags])
    head = ["evaluation", "loss of the first as a function of that of the second", "pairs of runs", "kappa", "K"]
    return markdown([*head, "one curve", "flags"], rows) if rows else ""


def _one_curve(collapse: Collapse | None) -> str:
    return "-" if collapse is None else f"{'yes' if collapse.collapses else 'NO'} (p {collapse.p_value:.2g})"


def _ends(each: Profile) -> str:
    low = f"open below {number(each.low)}" if each.open_low else number(each.low)
    return f"{low} to {f'open above {number(each.high)}' if each.open_high else number(each.high)}"


def transfers_table(contrasts: Contrasts) -> str:
    """Lists the loss-to-loss laws of each cell, with the test whether a single curve exists."""
    rows = []
    for each in contrasts.transfers:
        rows.append(
            [
                each.y.name,
                f"{each.x.evaluation[0]} to {each.y.evaluation[0]}",
                interval(each.law.estimates["kappa"] if each.law else None),
                interval(each.joint.estimates["kappa"] if each.joint else None),
                _ends(each.joint.profile) if each.joint and each.joint.profile else "-",
                _one_curve(each.collapse),
                interval(each.collapse.kappa_n if each.collapse else None),
                interval(each.collapse.kappa_d if each.collapse else None),
                interval(each.elasticity),
                "; ".join(f"{method}: {flag}" for method, flags in each.flags.items() for flag in flags) or "-",
            ]
        )
    head = ["cell", "losses", "kappa, two stages", "kappa, joint", "kappa, profile of joint", "one curve"]
    return markdown([*head, "kappa along N", "kappa along D", "elasticity", "flags"], rows)


def kappa_ratios_table(contrasts: Contrasts) -> str:
    """Lists the ratios of kappa, with a doubt where a cell has no single curve."""
    doubtful = {
        (str(each.y.evaluation[0]), each.y.name)
        for each in contrasts.transfers
        if each.collapse is None or not each.collapse.collapses
    }
    rows = []
    for evaluation, first, second, ratio in contrasts.kappa_ratios:
        bad = [name for name in (first, second) if (evaluation, name) in doubtful]
        text = f"no single curve: {', '.join(bad)}" if bad else ""
        rows.append([evaluation, f"{first} over {second}", interval(ratio), text])
    return markdown(["evaluation", "cells", "kappa ratio", "doubt"], rows)


def frontier_table(name: str, frontier: Frontier) -> str:
    """Lists every third budget of a frontier, and its largest."""
    rows = []
    for k in sorted({*range(0, len(frontier.budgets), 3), len(frontier.budgets) - 1}):
        size = Estimate("", float(frontier.size[k]), float(frontier.size_low[k]), float(frontier.size_high[k]))
        notes = ["outside the runs"] if frontier.extrapolated[k] else []
        notes += ["all records used"] if frontier.capped[k] else []
        row = [name, number(frontier.budgets[k]), interval(size), number(frontier.data[k])]
        rows.append([*row, number(frontier.epochs[k]), number(frontier.loss[k], 4), ", ".join(notes)])
    return markdown(["cell", "FLOP", "best N", "D", "epochs", "predicted loss", ""], rows)
