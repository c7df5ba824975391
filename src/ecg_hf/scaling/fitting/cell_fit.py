"""The fit of one cell on one evaluation, with the inputs that its runs vary, and its sensitivity to other choices."""

from typing import Literal

import numpy as np

from ecg_hf.scaling.fitting.fit import fit
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.names import get
from ecg_hf.scaling.table.run_table import RunTable

Delta = float | Literal["auto"]

FORMS = ("chinchilla", "tied", "kaplan")
LINES = ("pow+E", "pow")
REPORTED = (*FORMS, "labels", "repeated", "saturating")
VARIED = "varied in every input of the law"


def check_form(form: str, delta: Delta, table: RunTable) -> None:
    """Checks that a study can report a form, and that the table has the columns that the form needs.

    Args:
        form: Name of the form.
        delta: Delta of Huber's loss, or "auto".
        table: Run table of the study.

    Raises:
        ValueError: If the form is not one of `REPORTED`, no run has a column it needs, or delta is not positive.
    """
    if delta != "auto" and not delta > 0:
        raise ValueError(f"delta must be positive or 'auto', got {delta}; 1e-3 is what the literature uses")
    if form not in REPORTED:
        raise ValueError(f"the form of a study is one of {', '.join(REPORTED)}, got {form!r}; fit others with fit()")
    for letter, column in (("S", "examples_seen"), ("K", "n_labels")):
        if letter in get(form).inputs and not np.isfinite(table.done().column(column)).any():
            raise ValueError(f"{form} needs {column}, which no run of the table has; add it, or choose another form")


def fit_cell(table: RunTable, form: str, delta: Delta) -> tuple[Fit, RunTable, str]:
    """Fits a law of N and D, or a law of one of them if the runs do not vary both enough.

    A law of one input uses the runs with the largest value of the other.

    Args:
        table: Run table of one cell and one evaluation.
        form: Name of the form, one of `REPORTED`.
        delta: Delta of Huber's loss, or "auto"; see `fit`.

    Returns:
        The fit, the rows it was fitted to, and the reason for its inputs.

    Raises:
        ValueError: If no law can be fitted to the runs.
    """
    reason, line, fix = f"{form} is a law of one input", form, _known(table, form)
    if len(get(form).inputs) > 1:
        try:
            return fit(table, form, delta=delta), table, VARIED
        except ValueError as error:
            if form not in FORMS:
                raise
            reason, line = str(error), LINES[0]
    refused = reason
    for letter, kept in (("N", table.data), ("D", table.size)):
        largest = float(table.column(kept).max())
        part = table.where(kept, largest)
        try:
            fitted = fit(part, line, x=(letter,), delta=delta, fix=fix)
        except ValueError as error:
            refused = reason if form in FORMS else str(error)
            continue
        return fitted, part, f"of {letter} alone, at {kept} = {largest:.4g}, because {reason}"
    raise ValueError(refused)


def _known(table: RunTable, form: str) -> dict[str, float]:
    """Returns the parameters that a form cannot fit, by letter: L0, the loss at chance, or none."""
    if "L0" not in get(form).given:
        return {}
    chances = [row.chance for row in table.rows if row.chance is not None]
    if not chances:
        raise ValueError(f"{form} needs the loss at chance, which no row determines; give n_eval and n_pos, or fit ne")
    return {"L0": min(chances)}


def sensitivity(table: RunTable, fitted: Fit, delta: Delta) -> dict[str, dict[str, float]]:
    """Repeats a fit with other choices of delta and without doubtful runs.

    Args:
        table: Rows that were fitted.
        fitted: Fit as reported.
        delta: Delta that was requested for it.

    Returns:
        Parameters by a description of the change. If no law can be fitted after a change, its parameters are empty and
        its description contains the reason.
    """
    x, fix = fitted.points.letters, {name: fitted.params[name] for name in fitted.fixed}
    found = {"as reported": fitted.params}
    deltas: dict[str, Delta] = {
        "delta of the residuals": "auto",
        "delta 0.001, as in the literature": 1e-3,
        "least squares": np.inf,
    }
    for text, other in deltas.items():
        if other != delta:
            found[text] = fit(table, fitted.form, x=x, delta=other, fix=fix).params
    kept = {
        "without runs that may not have converged": table.filter(lambda row: row.es_interior is not False),
        "without learning rates at the edge": table.filter(lambda row: not row.lr_on_boundary),
    }
    for text, part in kept.items():
        if len(part) == len(table):
            continue
        if not len(part):
            found[f"{text}: no run is left"] = {}
            continue
        try:
            found[text] = fit(part, fitted.form, x=x, delta=delta, fix=fix).params
        except ValueError as error:
            found[f"{text}: {error}"] = {}
    return found
