"""The report of a study, which consists of Markdown, JSON, figures and a section for a model card."""

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ecg_hf.output.files import write_json
from ecg_hf.scaling.comparison.bottleneck import Bottleneck
from ecg_hf.scaling.comparison.frontier import Frontier
from ecg_hf.scaling.comparison.transfer import DEFINITIONS
from ecg_hf.scaling.fitting.cell_fit import VARIED
from ecg_hf.scaling.fitting.intervals import CONFIDENCE, Boot
from ecg_hf.scaling.fitting.result import GRAVE
from ecg_hf.scaling.report.comparison_numbers import pair_numbers, transfer_numbers
from ecg_hf.scaling.report.contrasts import Contrasts
from ecg_hf.scaling.report.figures import draw_study
from ecg_hf.scaling.report.study import CellLaw, Evaluation, Study
from ecg_hf.scaling.report.tables import (
    bottleneck_table,
    choices_table,
    contrasts_table,
    frontier_table,
    holdouts_table,
    kappa_ratios_table,
    laws_table,
    paired_table,
    profiles_table,
    runs_table,
    sensitivity_table,
    transfers_table,
)

WORDING = (
    "`ecg_hf.scaling` implements standard neural and loss-to-loss scaling-law estimators for the kind of study "
    "reported in arXiv:2605.17276. We had no access to that study's code, data (CODE is restricted) or full protocol; "
    "grids, objectives and the efficiency definitions are ours. We do not reproduce its numbers."
)

TEST_TO_TEST = (
    "L_b = E_b + K (L_a - E_a)^kappa out of distribution, where the units agree, over pairs of runs of b and a with "
    "the same N and D. Identical cells have kappa = 1 and K = 1. Another kappa means that one cell gains faster, but "
    "only where a single curve exists."
)


def write_report(study: Study, contrasts: Contrasts, folder: Path) -> Path:
    """Writes report.md, report.json, card_section.md and, where Matplotlib is installed, plots/*.png.

    Args:
        study: Study with its laws.
        contrasts: Comparisons of its cells.
        folder: Folder of the report; it is created if needed.

    Returns:
        Path of report.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_study(study, contrasts, folder / "plots")
    path = folder / "report.md"
    path.write_text(_report(study, contrasts, figures), encoding="utf-8")
    write_json(folder / "report.json", as_dict(study, contrasts))
    (folder / "card_section.md").write_text(card_section(study, contrasts), encoding="utf-8")
    return path


def as_dict(study: Study, contrasts: Contrasts) -> dict[str, Any]:
    """Returns all numbers of the report as values for JSON.

    Args:
        study: Study with its laws.
        contrasts: Comparisons of its cells.
    """
    return {
        "ecg_hf": version("ecg_hf"),
        "wording": WORDING,
        "form": study.form,
        "delta": study.delta if study.delta == "auto" else _finite(study.delta),
        "num_replicates": study.num_replicates,
        "seed": study.seed,
        "size": study.table.size,
        "data": study.table.data,
        "unfinished": list(study.table.unfinished()),
        "missing": study.missing,
        "laws": [_law(each) for each in study.each()],
        "contrasts": [pair_numbers(pair) for pair in contrasts.pairs],
        "transfers": [transfer_numbers(each) for each in contrasts.transfers],
        "kappa_ratios": [[*names, ratio.as_dict()] for *names, ratio in contrasts.kappa_ratios],
    }


def _law(law: CellLaw) -> dict[str, Any]:
    return {
        "cell": list(law.cell),
        "evaluation": list(law.evaluation),
        "why": law.why,
        "fit": law.fit.as_dict(),
        "intervals": {name: law.boot.estimate(name).as_dict() for name in law.fit.params},
        "intervals_bca": {name: law.boot.estimate(name, "bca").as_dict() for name in law.fit.params},
        "replicates_failed": law.boot.num_failed,
        "replicates_at_bound": law.boot.at_bound,
        "profiles": {p.name: [p.low, p.high, p.open_low, p.open_high] for p in law.profiles},
        "choices": [
            {
                "form": c.form,
                "num_parameters": c.num_parameters,
                "aicc": _finite(c.aicc),
                "delta_aicc": _finite(c.delta_aicc),
                "bic": _finite(c.bic),
                "loo": _finite(c.loo),
            }
            for c in law.choices
        ],
        "holdouts": {held.by: held.errors.tolist() for held in law.holdouts},
        "not_held_out": law.refused,
        "sensitivity": {text: {n: _finite(v) for n, v in p.items()} for text, p in law.sensitivity.items()},
        "bottleneck": _bottleneck(law.bottleneck) if law.bottleneck else None,
        "frontier": _frontier(law.frontier, law.boot) if law.frontier else None,
        "no_frontier": law.no_frontier,
    }


def _bottleneck(found: Bottleneck) -> dict[str, Any]:
    estimates = {name: getattr(found, name).as_dict() for name in ("elasticity_n", "elasticity_d", "share_d")}
    return {"limit": found.limit, "at": dict(found.at)} | estimates


def _frontier(found: Frontier, boot: Boot) -> dict[str, list[Any]]:
    losses = np.exp(boot.log_predict(np.stack([found.size, found.data])))
    low, high = np.quantile(losses, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    columns = asdict(found) | {"loss_low": low, "loss_high": high}
    return {name: [_finite(each) for each in np.asarray(values).tolist()] for name, values in columns.items()}


def _finite(value: float) -> float | str:
    """Returns infinities and NaN as text, which JSON lacks and `float` reads back, and other numbers as they are."""
    return value if abs(value) < float("inf") else str(value)


def _report(study: Study, contrasts: Contrasts, figures: dict[str, list[str]]) -> str:
    unfinished = study.table.unfinished()
    parts = [
        "# Scaling study",
        f"> {WORDING}",
        f"Intervals are 95 % percentile intervals of {study.num_replicates} bootstrap replicates over runs, drawn "
        "with all seeds of a configuration together, unless a table says otherwise. `docs/scaling.md` explains every "
        "quantity.",
        "## Runs",
        runs_table(study),
        f"Not done and left out: {', '.join(unfinished)}." if unfinished else "",
        "## Read this first",
        _flags(study),
    ]
    for evaluation, laws in study.laws.items():
        parts += _evaluation(evaluation, list(laws.values()), figures.get(str(evaluation), []))
    parts += _comparisons(contrasts, figures)
    parts += _frontiers(study, figures.get("frontier", []))
    return "\n\n".join(part for part in parts if part) + "\n"


def _flags(study: Study) -> str:
    """Lists every flag once, grave ones first, with the laws that have it."""
    lines = [f"- **left out**: {text}" for text in study.missing]
    reasons = [f"- **{law.name}, {law.evaluation[0]}**: {law.why}" for law in study.each() if law.why != VARIED]
    lines += dict.fromkeys(reasons)  # several probes of one evaluation repeat a reason
    places: dict[str, dict[str, list[str]]] = {}
    for law in study.each():
        for flag in law.fit.flags:
            places.setdefault(flag, {}).setdefault(law.name, []).append(str(law.evaluation[0]))
    for flag in sorted(places, key=lambda flag: not flag.startswith(GRAVE)):
        where = "; ".join(f"{cell} ({', '.join(dict.fromkeys(names))})" for cell, names in places[flag].items())
        lines.append(f"- **{flag}**: {where}")
    head = "\n".join(lines) or "No fit is unstable, at a bound or unidentified."
    return f"{head}\n\n{_state(study)}"


def _state(study: Study) -> str:
    """Describes, as far as the table tells, whether the runs are done and whether they converged."""
    unfinished = study.table.unfinished()
    done = f"Not done: {', '.join(unfinished)}" if unfinished else "Every run is done"
    interior = {row.run_id: row.es_interior for row in study.table.done().rows}
    last = sum(each is False for each in interior.values())
    unknown = sum(each is None for each in interior.values())
    parts = [f"{last} of {len(interior)} were best at their last step, so perhaps not converged"] if last else []
    parts += [f"whether {unknown} of {len(interior)} converged is not recorded"] if unknown else []
    return f"{done}; {'; '.join(parts) or 'every run that is done converged'}."


def _evaluation(evaluation: Evaluation, laws: list[CellLaw], figures: list[str]) -> list[str]:
    title = f"## {evaluation[2]} of {evaluation[0]} ({evaluation[1]})"
    if evaluation[3] != "none":
        title += f", {evaluation[3]} probe" + (f" on {evaluation[4]:g} records" if evaluation[4] else "")
        title += f", {evaluation[5]:g} features" if evaluation[5] else ""
    tasks = laws[0].table.rows[0].task if str(evaluation[0]).startswith("macro ") else None
    return [
        title,
        f"Mean over {tasks}." if tasks else "",
        _formulas(laws),
        laws_table(laws),
        *figures,
        "### How far to trust it",
        "The largest runs, predicted from the others:",
        holdouts_table(laws),
        "Intervals of the parameters; an open profile means that the data refuse no value on that side:",
        profiles_table(laws),
        "Other forms, lowest AICc first:",
        choices_table(laws),
        "Other choices in fitting:",
        sensitivity_table(laws),
        "What limits the loss at the largest N and D:" if any(law.bottleneck for law in laws) else "",
        bottleneck_table(laws) if any(law.bottleneck for law in laws) else "",
    ]


def _formulas(laws: list[CellLaw]) -> str:
    return "; ".join(sorted({f"{law.fit.form}: `{law.fit.formula}`" for law in laws})) + "."


def _comparisons(contrasts: Contrasts, figures: dict[str, list[str]]) -> list[str]:
    parts = []
    if contrasts.pairs:
        parts += [
            "## Comparisons of cells",
            "A multiplier of 2 means that the cell named first needs twice as much as the second for the same loss. "
            "The exponent ratio divides the exponent of the second cell by that of the first, and is not a "
            "multiplier. Maxima over a curve are biased outwards and are not given.",
            contrasts_table(contrasts),
            *figures.get("iso-loss", []),
            "\n".join(
                f"- {p.a.evaluation[0]}, {p.a.name} (a) and {p.b.name} (b): {p.crossing}" for p in contrasts.pairs
            ),
            "\n".join(f"- {p.a.name} and {p.b.name}: {text}" for p in contrasts.pairs for text in p.refused),
        ]
        related = paired_table(contrasts)
        parts += ["### One loss, two cells", TEST_TO_TEST, related] if related else []
    if contrasts.transfers:
        parts += [
            "## Transfer",
            "\n".join(f"- `{name}`: {DEFINITIONS[name]}" for name in _readings(contrasts)),
            "Where no single curve exists, kappa depends on which runs were trained and must not be quoted.",
            transfers_table(contrasts),
            *figures.get("transfer", []),
            "\n".join(f"- {t.y.name}: {text}" for t in contrasts.transfers for text in t.refused),
        ]
    if contrasts.kappa_ratios:
        parts.append(kappa_ratios_table(contrasts))
    return parts


def _frontiers(study: Study, figures: list[str]) -> list[str]:
    laws = [law for law in study.each() if law.evaluation[1] == "id" and (law.frontier or law.no_frontier)]
    if not laws:
        return []
    return [
        "## Frontier of compute",
        "A run costs 3 F(N) times the records it sees. Where all runs of a cell had the same number of epochs, that is "
        "epochs times D, and each budget has a best N and D. Where all runs saw the same number of records whatever "
        "their D, a larger D costs nothing: all records are used, and N is the size that the budget pays for.",
        *figures,
        *(frontier_table(law.name, law.frontier) for law in laws if law.frontier),
        "\n".join(f"- {law.name}: {law.no_frontier}" for law in laws if law.no_frontier),
    ]


def _readings(contrasts: Contrasts) -> list[str]:
    """Lists the definitions of transfer for which this report has numbers."""
    return ["kappa", "elasticity", *(["kappa_ratio"] if contrasts.kappa_ratios else [])]


def card_section(study: Study, contrasts: Contrasts) -> str:
    """Builds the section of a model card: laws with intervals, held-out errors, flags, comparisons and disclaimer.

    Args:
        study: Study with its laws.
        contrasts: Comparisons of its cells.

    Returns:
        The section, as Markdown.
    """
    inside = [law for law in study.each() if law.evaluation[1] == "id"] or list(study.each())
    held = [
        f"{law.name}: {', '.join(f'{each.by} {100 * each.largest_error:+.1f} %' for each in law.holdouts) or 'none'}"
        for law in inside
    ]
    parts = [
        "## Scaling",
        _formulas(inside) if inside else "No law could be fitted.",
        laws_table(inside),
        "\n".join(f"- {law.name}: {law.why}" for law in inside if law.why != VARIED),
        f"Prediction of the largest runs from the others, largest error: {'; '.join(held)}.",
    ]
    flags = [f"{law.name}: {flag}" for law in inside for flag in law.fit.flags]
    parts += ["Caveats:", "\n".join(f"- {flag}" for flag in flags)] if flags else []
    heads = [f"- {pair}" for pair in contrasts.pairs if pair.headline is not None]
    parts += ["Comparisons of cells:", "\n".join(heads)] if heads else []
    return "\n\n".join(part for part in [*parts, WORDING] if part) + "\n"
