"""The law of one cell on one evaluation, of the inputs that its runs vary, and of other choices in fitting it."""

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
    """Refuses a form that a study does not report, or that needs a column which no run of a table has.

    Raises:
        ValueError: If it is such a form, or delta is not positive.
    """
    if delta != "auto" and not delta > 0:
        raise ValueError(f"delta must be positive or 'auto', got {delta}; 1e-3 is what the literature uses")
    if form not in REPORTED:
        raise ValueError(f"the form of a study is one of {', '.join(REPORTED)}, got {form!r}; fit others with fit()")
    for letter, column in (("S", "examples_seen"), ("K", "n_labels")):
        if letter in get(form).inputs and not np.isfinite(table.done().column(column)).any():
            raise ValueError(f"{form} needs {column}, which no run of the table has; add it, or choose another form")


def fit_cell(table: RunTable, form: str, delta: Delta) -> tuple[Fit, RunTable, str]:
    """Fits the law of N and D, or where the runs do not allow it a law of one, at the largest value of the other.

    Args:
        table: Of one cell and one evaluation.
        form: One of `REPORTED`.
        delta: As in `fitting.fit`.

    Returns:
        The fit, the rows that it is of, and why it is of these inputs.

    Raises:
        ValueError: If no law can be fitted.
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
    """Gives what a form has to be told: the loss at chance."""
    if "L0" not in get(form).given:
        return {}
    chances = [row.chance for row in table.rows if row.chance is not None]
    if not chances:
        raise ValueError(f"{form} needs the loss at chance, which no row tells; give n_eval and n_pos, or fit ne")
    return {"L0": min(chances)}


def sensitivity(table: RunTable, fitted: Fit, delta: Delta) -> dict[str, dict[str, float]]:
    """Repeats the fit under choices that a reader may have made otherwise.

    Args:
        table: That was fitted.
        fitted: As it is reported.
        delta: That was asked for.

    Returns:
        Parameters by what was changed; none with the reason where the rest allows no law.
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
            found[f"{text}: there are no others"] = {}
            continue
        try:
            found[text] = fit(part, fitted.form, x=x, delta=delta, fix=fix).params
        except ValueError as error:
            found[f"{text}: {error}"] = {}
    return found
