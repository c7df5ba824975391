import numpy as np
import pytest

from ecg_hf.scaling.report.contrasts import contrast
from ecg_hf.scaling.report.report import as_dict, card_section
from ecg_hf.scaling.report.study import analyse
from ecg_hf.scaling.report.tables import profiles_table, sensitivity_table
from ecg_hf.scaling.table.run_table import RunTable
from scaling_runs import LAW, design, loss, row, rows


def labelled(**changes):
    """The design, each point with one, three, six and twelve labels."""
    n, d = design()
    factor = np.exp(0.005 * np.random.default_rng(0).normal(size=(len(n), 4)))
    return [
        row(
            f"{changes.get('family', '')}r{i}-{k}",
            n_params=float(a),
            n_unique=float(b),
            n_labels=k,
            flops_fwd=float(400 * a),
            examples_seen=float(30 * b),
            value=float((loss(a, b, LAW) + 0.4 * k**-0.7) * factor[i, j]),
        )
        | changes
        for i, (a, b) in enumerate(zip(n, d, strict=True))
        for j, k in enumerate((1, 3, 6, 12))
    ]


def test_cells_are_split_by_the_number_of_labels_unless_it_is_an_input():
    table = RunTable.from_rows([each for each in labelled() if each["n_labels"] in (1, 6)])
    study = analyse(table, num_replicates=10)
    assert {law.name: law.fit.num_points for law in study.each()} == {
        "resnet sl supervised with 1 label": 30,
        "resnet sl supervised with 6 labels": 30,
    }
    assert {law.fit.points.cell for law in study.each()} == {law.name for law in study.each()}
    plain = RunTable.from_rows([each | {"n_labels": 6} for each in rows()])
    assert [law.name for law in analyse(plain, num_replicates=10).each()] == ["resnet sl supervised"]


def test_a_study_reports_the_law_of_labels():
    made = labelled() + labelled(family="transformer")
    study = analyse(RunTable.from_rows(made), form="labels", num_replicates=10)
    assert len(list(study.each())) == 2 and not study.missing
    for law in study.each():
        assert law.fit.points.letters == ("N", "D", "K") and law.fit.num_points == 120
        assert law.fit.params["gamma"] == pytest.approx(0.7, abs=0.1)
    contrasts = contrast(study)
    assert "| choice | E | alpha | beta | gamma |" in sensitivity_table(list(study.each()))
    assert "| N, D, K | gamma |" in profiles_table(list(study.each()))
    card = card_section(study, contrasts)
    assert "| N, D, K | 120 |" in card and "| C_K | gamma |" in card
    assert as_dict(study, contrasts)["form"] == "labels"


def test_a_study_reports_the_law_of_repetition():
    made = rows(0.005)
    for number, each in enumerate(made):
        each |= {"examples_seen": each["n_unique"] * (1, 4, 20)[number % 3]}
    study = analyse(RunTable.from_rows(made), form="repeated", num_replicates=5)
    (law,) = study.each()
    assert law.fit.points.letters == ("N", "D", "S")
    assert {choice.form for choice in law.choices} == {"repeated", "chinchilla", "tied", "kaplan"}


def test_a_study_reports_the_saturating_law_of_size_at_the_largest_amount():
    sizes = np.geomspace(2e4, 2e8, 12)
    made = [
        row(f"r{i}", metric="ne", n_params=float(size), value=float(1 / (1 / 0.999 + size**0.25 / 60)))
        for i, size in enumerate(sizes)
    ]
    study = analyse(RunTable.from_rows(made), form="saturating", num_replicates=5)
    (law,) = study.each()
    assert law.fit.form == "saturating" and law.fit.params["L0"] == 1.0 and law.fit.fixed == ("L0",)
    assert law.why.startswith("of N alone, at n_unique = 5000, because saturating is a law of one input")
    study = analyse(RunTable.from_rows([each | {"metric": "nll"} for each in made]), form="saturating")
    assert not study.laws and "needs the loss at chance, which no row determines" in study.missing[0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"form": "labels"}, "labels needs n_labels, which no run of the table has"),
        ({"form": "repeated"}, "repeated needs examples_seen, which no run of the table has"),
        ({"form": "loss-to-loss"}, "the form of a study is one of chinchilla, .*got 'loss-to-loss'"),
        ({"delta": -1.0}, "delta must be positive or 'auto', got -1.0"),
    ],
)
def test_a_study_that_its_table_does_not_allow_is_refused(options, text):
    made = [{name: value for name, value in each.items() if name != "examples_seen"} for each in rows()]
    with pytest.raises(ValueError, match=text):
        analyse(RunTable.from_rows(made), **options)


def test_the_delta_that_is_asked_for_is_that_of_every_fit():
    study = analyse(RunTable.from_rows(rows()), num_replicates=10, delta=1e-3)
    (law,) = study.each()
    assert law.fit.delta == 1e-3
    assert list(law.sensitivity) == ["as reported", "delta of the residuals", "least squares"]


def test_a_choice_that_leaves_no_run_says_so():
    from ecg_hf.scaling.fitting.cell_fit import fit_cell, sensitivity

    table = RunTable.from_rows(
        {"run_id": f"{n}-{d}", "family": "f", "paradigm": "p", "n_params": n, "n_unique": d, "es_interior": False,
         "eval_id": "x", "eval_group": "id", "metric": "nll", "value": 0.1 + 5 * n**-0.3 + 3 * d**-0.4}
        for n in (1e4, 3e4, 1e5, 3e5, 1e6) for d in (1e3, 4e3, 2e4)
    )  # fmt: skip
    fitted, mine, _ = fit_cell(table, "chinchilla", "auto")
    found = sensitivity(mine, fitted, "auto")
    assert found["without runs that may not have converged: no run is left"] == {}
