import numpy as np
import pytest

from ecg_hf.scaling.fitting import fit as fitting
from ecg_hf.scaling.fitting.choice import compare, holdout
from ecg_hf.scaling.fitting.intervals import bootstrap
from ecg_hf.scaling.laws.names import get
from ecg_hf.scaling.report.study import CellLaw
from ecg_hf.scaling.report.tables import choices_table
from ecg_hf.scaling.table.run_table import RunTable
from scaling_runs import LAW, columns, design, loss, rows


def test_the_form_that_made_the_losses_predicts_the_largest_runs_and_another_does_not():
    n, d = design()
    params = {"A": 5e3, "B": 2e3, "E": 0.1, "alpha": 0.3, "beta": 0.45}
    data = {"N": n, "D": d, "L": get("kaplan").predict(params, n, d)}
    found = {row.form: row for row in compare([fitting.fit(data, form) for form in ("chinchilla", "tied", "kaplan")])}
    for by in ("largest N", "largest D"):
        assert found["kaplan"].held_out[by] < 1e-5 < found["chinchilla"].held_out[by] < found["tied"].held_out[by] * 1.5


def test_the_error_of_a_form_is_that_of_its_own_holdout():
    fits = [fitting.fit(columns(0.01), form) for form in ("chinchilla", "tied")]
    for row in compare(fits):
        held = holdout(next(each for each in fits if each.form == row.form), "largest N")
        assert row.held_out["largest N"] == pytest.approx(np.sqrt(np.mean(held.errors**2)))


def test_the_largest_runs_are_held_out_with_the_delta_of_the_fit():
    data = columns(0.02)
    for delta in (1e-3, np.inf):
        fitted = fitting.fit(data, delta=delta)
        held = holdout(fitted, "largest N")
        assert held.fit.delta == delta
        kept = data["n_params"] < data["n_params"].max()
        alone = fitting.fit({name: values[kept] for name, values in data.items()}, delta=delta)
        assert held.fit.params["alpha"] == pytest.approx(alone.params["alpha"], rel=1e-6)
    auto = fitting.fit(data)
    assert holdout(auto).fit.delta == auto.delta


def test_the_table_of_forms_shows_the_held_out_errors_and_a_dash_where_too_few_runs_are_left():
    table = RunTable.from_rows(rows(0.01))
    fits = [fitting.fit(table, form) for form in ("chinchilla", "tied")]
    choices = compare(fits)
    choices[1].held_out.pop("largest D")
    boot = bootstrap(fits[0], 2)
    cell = ("resnet", "sl", "supervised")
    law = CellLaw(cell, table.rows[0].evaluation, table, boot, choices, [], [], [], {}, None, None, "")
    head, _, first, second = choices_table([law]).splitlines()
    assert head.endswith("| largest N held out, rms, % | largest D held out, rms, % |")
    assert first.endswith(f"{100 * choices[0].held_out['largest D']:.2f} |") and second.endswith("| - |")
    n, d = np.array([1e4, 1e5, 1e6, 1e7] * 2), np.repeat([1e3, 1e4], 4)
    few = fitting.fit({"N": n, "L": loss(n, d, LAW)}, "pow")
    assert set(compare([few])[0].held_out) == set()
