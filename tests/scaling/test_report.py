import importlib.util
import json

import numpy as np
import pytest

from ecg_hf.commands import fit_scaling
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.report.contrasts import Contrasts, contrast
from ecg_hf.scaling.report.report import WORDING, write_report
from ecg_hf.scaling.report.study import Study, analyse
from ecg_hf.scaling.table.run_table import RunTable
from scaling_runs import LAW, loss, row, rows

TWICE = LAW | {"A": LAW["A"] * 2 ** LAW["alpha"]}
OUTSIDE = {"A": 1.5, "B": 3.0, "E": 0.3, "alpha": 0.25, "beta": 0.30}
EASIER = OUTSIDE | {"B": OUTSIDE["B"] * 4**-0.30}  # needs a quarter of the records


def study_rows() -> list[dict]:
    """Three cells: two families under supervision, and self-supervision for one of them."""
    made = []
    cells = [("resnet", "sl", LAW, OUTSIDE), ("transformer", "sl", TWICE, OUTSIDE), ("resnet", "ssl", LAW, EASIER)]
    for seed, (family, paradigm, inside, outside) in enumerate(cells):
        objective = {"sl": "supervised", "ssl": "cpc"}[paradigm]
        own = {"family": family, "paradigm": paradigm, "objective": objective}
        made += rows(0.005, seed, inside, **own)
        probe = {"eval_id": "mi", "eval_group": "ood_unseen", "metric": "ne", "probe": "linear", "probe_n": 500}
        made += rows(0.005, seed + 10, outside, **own, **probe)
    made += [
        row("never", status="failed", value=None, n_params=1.0),
        row("auc", metric="auroc", eval_id="auc", value=0.9),
    ]
    return [each | {"es_interior": False} if each["run_id"] == "resnet-sl3" else each for each in made]


@pytest.fixture(scope="module")
def study():
    return analyse(RunTable.from_rows(study_rows()), num_replicates=40)


@pytest.fixture(scope="module")
def contrasts(study):
    return contrast(study)


@pytest.fixture(scope="module")
def folder(study, contrasts, tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        # the figures are made, and not rendered, which takes most of the time; the script's test renders some
        if importlib.util.find_spec("matplotlib"):
            patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, dpi: path.touch())
        write_report(study, contrasts, path)
    return path


def test_every_cell_has_a_law_on_every_loss(study):
    assert sorted((law.cell[0], law.cell[1], str(law.evaluation[0])) for law in study.each()) == [
        ("resnet", "sl", "id-test"), ("resnet", "sl", "mi"), ("resnet", "ssl", "id-test"),
        ("resnet", "ssl", "mi"), ("transformer", "sl", "id-test"), ("transformer", "sl", "mi"),
    ]  # fmt: skip
    for law in study.each():
        truth = {"id-test": TWICE if law.cell[0] == "transformer" else LAW}.get(
            law.evaluation[0], EASIER if law.cell[1] == "ssl" else OUTSIDE
        )
        assert law.fit.params["alpha"] == pytest.approx(truth["alpha"], abs=0.08)
        assert {each.by for each in law.holdouts} == {"largest N", "largest D"}
        assert {each.name for each in law.profiles} == {"E", "alpha", "beta"}
        assert law.frontier is not None and law.bottleneck is not None


def test_losses_of_paradigms_in_distribution_are_never_compared(contrasts):
    found = {(pair.a.evaluation[0], pair.a.cell[:2], pair.b.cell[:2], pair.axis) for pair in contrasts.pairs}
    assert found == {
        ("id-test", ("resnet", "sl"), ("transformer", "sl"), "N"),
        ("mi", ("resnet", "sl"), ("transformer", "sl"), "N"),
        ("mi", ("resnet", "ssl"), ("resnet", "sl"), "D"),
    }


def test_the_headlines_are_the_true_multipliers(contrasts):
    headline = {(pair.a.evaluation[0], pair.axis): pair.headline for pair in contrasts.pairs}
    assert headline["id-test", "N"].value == pytest.approx(2, rel=0.2)
    assert headline["mi", "N"].value == pytest.approx(1, rel=0.3)
    assert headline["mi", "D"].value == pytest.approx(4, rel=0.2)
    for pair in contrasts.pairs:
        assert not pair.refused and pair.iso is not None and pair.joint is not None and pair.ratio is not None
        assert (pair.compute is None) == (pair.axis == "D") and (pair.grid is None) == (pair.axis == "N")


def test_transfer_pairs_the_losses_of_the_same_runs(contrasts):
    assert len(contrasts.transfers) == 3 and len(contrasts.kappa_ratios) == 1
    for each in contrasts.transfers:
        order = np.lexsort(each.x.fit.points.inputs)
        other = np.lexsort(each.y.fit.points.inputs)
        np.testing.assert_array_equal(order, other)
        assert each.law is not None and each.collapse is not None and each.elasticity is not None


def test_the_report_names_flags_failures_and_whose_numbers_these_are(folder):
    text = (folder / "report.md").read_text()
    assert WORDING in text
    assert "never (failed)" in text
    assert "perhaps not converged: 1 of 30 points**: resnet sl supervised (id-test" in text
    assert "one factor not refused" in text or "one factor is refused" in text
    assert "efficien" not in text.replace("efficiency definitions", "")
    card = (folder / "card_section.md").read_text()
    assert card.startswith("## Scaling") and WORDING in card and "Prediction of the largest runs" in card


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "Every run is done; whether 9 of 9 converged is not recorded."),
        ({"es_interior": True}, "Every run is done; every run that is done converged."),
        ({"es_interior": False}, "Every run is done; 1 of 9 were best at their last step, so perhaps not converged."),
        ({"status": "running"}, "Not done: r8 (running); whether 8 of 8 converged is not recorded."),
    ],
)
def test_the_report_calls_runs_done_and_converged_only_where_the_table_does(changes, text, tmp_path):
    made = [row(f"r{i}", n_params=float(size)) for i, size in enumerate(np.geomspace(2e4, 2e8, 9))]
    known = changes.get("es_interior") is not None
    made = [each | {"es_interior": True} if known else each for each in made]
    made[-1] |= changes
    path = write_report(Study(RunTable.from_rows(made)), Contrasts([], [], []), tmp_path)
    assert text in path.read_text()


def test_the_report_tells_probes_apart_and_says_what_a_mean_is_over(tmp_path):
    made = []
    for i, size in enumerate(np.geomspace(2e4, 2e8, 9)):
        own = {"n_params": float(size), "eval_group": "ood_unseen", "metric": "ne", "probe": "linear", "probe_n": 500}
        value = float((0.3 + 3 * size**-0.25) * np.exp(0.003 * np.cos(7 * i)))
        made += [
            row(f"r{i}", eval_id=task, value=value, probe_dim=dim, **own)
            for task in ("mi", "age")
            for dim in (None, 128)
        ]
    study = analyse(RunTable.from_rows(made), num_replicates=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecg_hf.scaling.report.report.draw_study", lambda study, contrasts, folder: {})
        text = write_report(study, Contrasts([], [], []), tmp_path).read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ne of")]
    assert len(titles) == len(set(titles)) == 6
    assert "linear probe on 500 records, 128 features\n\nMean over age + mi.\n" in text
    assert text.count("**resnet sl supervised, mi**: of N alone") == 1


def test_every_figure_in_the_report_is_there_and_the_other_way_round(folder):
    pytest.importorskip("matplotlib")
    text = (folder / "report.md").read_text()
    names = {path.name for path in (folder / "plots").iterdir()}
    assert {line.split("plots/")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")} == names
    assert {name.split("-")[0] for name in names} == {
        "law", "contour", "residuals", "profile", "iso", "loss", "frontier",
    }  # fmt: skip


def test_the_numbers_in_json_give_the_fits_back(folder, study):
    saved = json.loads((folder / "report.json").read_text())
    for each, law in zip(saved["laws"], study.each(), strict=True):
        assert Fit.from_dict(each["fit"]).params == law.fit.params
        assert each["intervals"]["alpha"]["low"] < law.fit.params["alpha"] < each["intervals"]["alpha"]["high"]
        found = {name: each["bottleneck"][name]["value"] for name in ("elasticity_n", "elasticity_d", "share_d")}
        assert found == {name: getattr(law.bottleneck, name).value for name in found}
        assert each["bottleneck"]["elasticity_n"]["low"] == law.bottleneck.elasticity_n.low
        for name in ("budgets", "size", "size_low", "size_high", "data", "loss", "extrapolated"):
            assert each["frontier"][name] == getattr(law.frontier, name).tolist()
        ends = [np.array(each["frontier"][name]) for name in ("loss_low", "loss", "loss_high")]
        assert (ends[0] < ends[1]).all() and (ends[1] < ends[2]).all() and (ends[2] < 1.2 * ends[0]).all()
        assert [choice["aicc"] for choice in each["choices"]] == [choice.aicc for choice in law.choices]
    assert saved["unfinished"] == ["never (failed)"] and saved["form"] == "chinchilla" and saved["delta"] == "auto"


def test_a_cell_that_varies_in_size_alone_gets_a_law_of_size_and_the_report_says_so(tmp_path):
    n = np.geomspace(2e4, 2e8, 9)
    noise = np.exp(0.005 * np.random.default_rng(0).normal(size=9))
    made = [
        row(f"r{i}", n_params=float(a), value=float(loss(a, 5000, LAW) * e))
        for i, (a, e) in enumerate(zip(n, noise, strict=True))
    ]
    made += [row(f"few{i}", family="cnn", n_params=1e5 * (i + 1)) for i in range(3)]
    study = analyse(RunTable.from_rows(made), num_replicates=20)
    (law,) = study.each()
    assert law.fit.points.letters == ("N",) and "different values of D, got 1" in law.why
    assert len(study.missing) == 1 and study.missing[0].startswith("cnn sl supervised")
    text = write_report(study, contrast(study), tmp_path).read_text()
    assert "**left out**: cnn" in text and "of N alone" in text


def test_a_law_of_records_alone_is_never_written_as_one_of_size(tmp_path):
    amounts = np.geomspace(2e3, 2e6, 9)
    noise = np.exp(0.003 * np.random.default_rng(0).normal(size=9))
    made = [
        row(f"r{i}", n_unique=float(d), value=float((0.1 + 4 * d**-0.3) * e))
        for i, (d, e) in enumerate(zip(amounts, noise, strict=True))
    ]
    study = analyse(RunTable.from_rows(made), num_replicates=20)
    (law,) = study.each()
    assert "L = E + A D^-alpha" in str(law.fit) and law.fit.as_dict()["formula"] == "L = E + A D^-alpha"
    text = write_report(study, contrast(study), tmp_path).read_text()
    card = (tmp_path / "card_section.md").read_text()
    for written in (text, card):
        assert "pow+E: `L = E + A D^-alpha`." in written and "N^-alpha" not in written
        assert "of D alone, at n_params = 2e+04" in written
        assert "| cell | form | of |" in written and "| resnet sl supervised | pow+E | D | 9 |" in written
    assert "| resnet sl supervised | D | alpha |" in text and "| resnet sl supervised | D | as reported |" in text


def test_a_fit_at_a_bound_says_so_in_its_plot():
    pytest.importorskip("matplotlib")
    from ecg_hf.scaling.fitting import fit as fitting
    from ecg_hf.scaling.report.plots import plot_laws, plot_residuals

    n = np.geomspace(1e4, 1e8, 12)
    values = 3 * n**-0.2 * np.exp(0.002 * np.random.default_rng(1).normal(size=12))
    values[-3:] *= 0.97
    found = fitting.fit({"N": n, "L": values}, "pow+E")
    for figure in (plot_laws([found]), plot_residuals([found])):
        assert any("at bound: E = 0" in text.get_text() for axes in figure.axes for text in axes.texts)
    with pytest.raises(ValueError, match="a figure shows 1 to 6 laws, got 0"):
        plot_laws([])


def test_the_command_writes_the_report(tmp_path, capsys):
    table = [each for each in study_rows() if each["eval_id"] == "id-test" and each["family"] == "resnet"]
    RunTable.from_rows([each for each in table if each["paradigm"] == "sl"]).write(tmp_path / "runs.jsonl")
    out = tmp_path / "out"
    options = ["--num_replicates", "10", "--form", "kaplan", "--delta", "0.001"]
    assert fit_scaling.main([str(tmp_path / "runs.jsonl"), str(out), *options], "ecg-hf fit-scaling") == 0
    assert (out / "report.md").exists() and (out / "report.json").exists() and (out / "card_section.md").exists()
    assert "1 laws" in capsys.readouterr().out
    (law,) = json.loads((out / "report.json").read_text())["laws"]
    assert (law["fit"]["form"], law["fit"]["delta"]) == ("kaplan", 0.001)
