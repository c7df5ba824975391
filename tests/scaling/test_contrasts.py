import json
from dataclasses import replace

import numpy as np
import pytest

from ecg_hf.scaling.fitting.fit import fit
from ecg_hf.scaling.fitting.intervals import bootstrap
from ecg_hf.scaling.report import report
from ecg_hf.scaling.report.contrasts import Contrast, contrast
from ecg_hf.scaling.report.report import as_dict, card_section
from ecg_hf.scaling.report.study import CellLaw, Study, _frontier
from ecg_hf.scaling.report.tables import contrasts_table, frontier_table, paired_table, transfers_table
from ecg_hf.scaling.table.run_table import RunTable
from scaling_runs import LAW, rows

OWN = {"eval_id": "mi", "eval_group": "ood_unseen", "metric": "ne", "probe": "linear", "probe_n": 500}


def add(study, cell, law, seed=0, num=40, noise=0.005, **changes):
    """Adds a law without what only a report of one law needs."""
    own = dict(zip(("family", "paradigm", "objective"), cell, strict=True)) | changes
    table = RunTable.from_rows(rows(noise, seed, law, **own))
    boot = bootstrap(fit(table), num)
    made = CellLaw(cell, table.rows[0].evaluation, table, boot, [], [], [], [], {}, None, None, "")
    study.laws.setdefault(made.evaluation, {})[cell] = made


def study_of(laws, **changes):
    """A study of cells by family and paradigm, out of distribution."""
    study = Study(RunTable.from_rows([]))
    for seed, ((family, paradigm), law) in enumerate(laws.items()):
        add(study, (family, paradigm, paradigm), law, seed, **(OWN | changes))
    return study


def pair_of(first, second) -> Contrast:
    (found,) = contrast(study_of({("resnet", "sl"): first, ("transformer", "sl"): second})).pairs
    return found


def test_a_multiplier_of_a_law_without_a_constant_is_doubted_wherever_it_is_printed():
    flat = LAW | {"E": 0.0, "A": 6.0}
    study = study_of({("resnet", "sl"): LAW, ("transformer", "sl"): flat}, noise=0.02)
    found = contrast(study)
    (pair,) = found.pairs
    assert pair.b.fit.at_bound == ("E",)
    assert "E of transformer sl is at a bound" in pair.doubt
    for text in (card_section(study, found), contrasts_table(found), as_dict(study, found)["contrasts"][0]["doubt"]):
        assert "E of transformer sl is at a bound" in text


def test_a_multiplier_that_is_not_finite_is_doubted():
    few = contrast(study_of({("resnet", "sl"): LAW, ("transformer", "sl"): LAW | {"A": 6.0}}, num=1)).pairs[0]
    assert np.isnan(few.headline.low) and "has no finite interval" in few.doubt


def test_a_good_multiplier_is_not_doubted():
    pair = pair_of(LAW, LAW | {"A": 6.0})
    assert pair.doubt == "" and pair.headline.value == pytest.approx(16, rel=0.5)


def test_the_exponent_ratio_is_printed_as_the_ratio_of_the_cells_that_it_names():
    study = study_of({("resnet", "sl"): LAW, ("transformer", "sl"): LAW | {"A": 6.0}}, noise=0.0)
    first, second = (law.fit.params["alpha"] for law in study.each())
    list(study.each())[1].fit.params["alpha"] = second * 2
    line = contrasts_table(contrast(study)).splitlines()[-1]
    assert "transformer sl over resnet sl" in line
    assert f"alpha of resnet sl / alpha of transformer sl = {first / second / 2:.3g} (" in line


def test_a_crossing_inside_the_data_takes_the_headline_from_the_one_factor_if_most_replicates_have_it():
    pair = pair_of(LAW, LAW | {"A": 6.0})
    inside = replace(pair.crossing, value=1e6, inside=True, low=0.0, high=np.inf, share_crossing=0.6)
    for crossing, doubted in (
        (inside, True), (replace(inside, share_crossing=0.4, share_opposite=0.4), False),
        (replace(inside, inside=False), False),
    ):  # fmt: skip
        pair.crossing = crossing
        assert (pair.doubt == "the laws cross inside the data") == doubted
        assert (pair.headline is pair.iso.median) == doubted


def test_a_frontier_promises_no_more_than_the_runs_that_cost_as_much_had():
    # every run saw ten million records, so its epochs are 1e7 / D: 29 to 1855
    table = RunTable.from_rows([each | {"examples_seen": 1e7} for each in rows(0.0)])
    boot = bootstrap(fit(table), 20)
    found, why = _frontier(table, boot)
    cost = 3 * table.column("flops_fwd") * 1e7
    assert found is not None and why == ""
    for spent, loss in zip(cost, table.column("value"), strict=True):
        at = np.interp(np.log(spent), np.log(found.budgets), np.log(found.loss))
        assert np.exp(at) <= loss * 1.005
    np.testing.assert_allclose(found.size, found.budgets / (3 * 400 * 1e7))
    assert (found.data == 345_000).all() and not found.extrapolated.any()
    np.testing.assert_allclose(found.epochs, 1e7 / 345_000)
    lines = frontier_table("resnet", found).splitlines()
    assert lines[-1].startswith(f"| resnet | {cost.max():.3g} |") and "| 29 |" in lines[-1]


def test_runs_that_have_neither_epochs_nor_records_seen_in_common_get_no_frontier():
    made = [each | {"examples_seen": 1e6 * (1 + k % 7)} for k, each in enumerate(rows(0.0))]
    table = RunTable.from_rows(made)
    found, why = _frontier(table, bootstrap(fit(table), 2))
    assert found is None and why.startswith("no frontier, because neither the epochs (5.8 to")
    alike, _ = _frontier(RunTable.from_rows(rows(0.0)), bootstrap(fit(RunTable.from_rows(rows(0.0))), 2))
    assert (alike.epochs == 30).all()


def test_a_constant_at_a_bound_is_a_flag_of_the_loss_to_loss_law_in_table_json_and_figure():
    study, cell = Study(RunTable.from_rows([])), ("resnet", "sl", "sl")
    add(study, cell, LAW | {"A": 6.0, "E": 0.0}, seed=1, noise=0.02)
    add(study, cell, LAW | {"A": 2.0, "E": 0.3}, seed=2, **OWN)
    found = contrast(study)
    (each,) = found.transfers
    assert each.x.fit.at_bound == ("E",)
    assert each.law.flags == ("at bound: E_x = 0 in its own law",)
    each.joint = replace(each.joint, flags=("unidentified: kappa = 2",))
    line = transfers_table(found).splitlines()[-1]
    assert "two-stage: at bound: E_x = 0 in its own law; joint: unidentified: kappa = 2" in line
    saved = as_dict(study, found)["transfers"][0]
    assert saved["flags"] == {"two-stage": list(each.law.flags), "joint": ["unidentified: kappa = 2"]}
    curve = each.joint.profile
    assert saved["joint_profile"] == {"kappa": [curve.low, curve.high, curve.open_low, curve.open_high]}
    assert f"{curve.high:.3g}" in line
    assert saved["kappa_n"]["value"] == each.collapse.kappa_n.value
    assert saved["kappa_d"]["low"] < saved["kappa_d"]["high"]


def test_the_figure_of_a_loss_to_loss_law_says_in_red_what_is_wrong_with_both_fits(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    from ecg_hf.scaling.report import figures

    study, cell = Study(RunTable.from_rows([])), ("resnet", "sl", "sl")
    add(study, cell, LAW | {"A": 6.0, "E": 0.0}, seed=1, noise=0.02)
    add(study, cell, LAW | {"A": 2.0, "E": 0.3}, seed=2, **OWN)
    found = contrast(study)
    found.transfers[0].joint = replace(found.transfers[0].joint, flags=("unidentified: kappa = 2", "a remark"))
    shown = []
    monkeypatch.setattr(figures._Gallery, "add", lambda gallery, section, figure, *names: shown.append(figure))
    figures._draw_comparisons(figures._Gallery(tmp_path), found.transfers[0].y.evaluation, found)
    texts = [text.get_text() for figure in shown for axes in figure.axes for text in axes.texts]
    assert any(
        "at bound: E_x = 0 in its own law" in text and "joint fit, unidentified: kappa = 2" in text for text in texts
    )
    assert not any("a remark" in text for text in texts)


def test_frontiers_of_unlike_objectives_never_meet_in_one_figure(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    from ecg_hf.scaling.report import figures

    study = Study(RunTable.from_rows([]))
    for number, cell in enumerate((("resnet", "ssl", "cpc"), ("resnet", "ssl", "jepa"), ("s4", "ssl", "cpc"))):
        add(study, cell, LAW, seed=number, num=2, metric="loss")
    laws = next(iter(study.laws.values()))
    for cell, law in laws.items():
        laws[cell] = replace(law, frontier=_frontier(law.table, law.boot)[0])
    shown = []
    monkeypatch.setattr(figures._Gallery, "add", lambda gallery, section, figure, *names: shown.append((figure, names)))
    figures._draw_frontiers(figures._Gallery(tmp_path), study)
    cells = [[line.get_label() for line in figure.axes[0].get_legend().get_lines()] for figure, _ in shown]
    assert cells == [["resnet ssl cpc", "s4 ssl cpc"], ["resnet ssl jepa"]]
    assert len({names for _, names in shown}) == 2
    assert shown[0][0].axes[1].get_ylabel() == "predicted loss of id-test (cpc)"


def test_a_comparison_in_json_is_made_of_numbers():
    study = study_of({("resnet", "sl"): LAW, ("transformer", "sl"): LAW | {"A": 15.0, "alpha": 0.40}})
    found = contrast(study)
    (pair,) = found.pairs
    saved = json.loads(json.dumps(as_dict(study, found), allow_nan=False))["contrasts"][0]
    crossing = saved["crossover_numbers"]
    assert crossing["value"] == pytest.approx((15 / 3) ** (1 / 0.15), rel=2)
    assert [crossing[name] for name in ("value", "low", "share_crossing", "share_opposite", "inside")] == [
        pair.crossing.value, pair.crossing.low, pair.crossing.share_crossing, pair.crossing.share_opposite, True,
    ]  # fmt: skip
    curve = saved["iso_loss_curve"]
    for name, values in (("loss", pair.iso.levels), ("ratio", pair.iso.ratio), ("low", pair.iso.low)):
        np.testing.assert_array_equal([float(value) for value in curve[name]], values)
    np.testing.assert_array_equal(curve["input_b"], pair.iso.inputs[1])
    assert curve["at"] == {"D": 345_000}
    assert saved["joint_delta_aicc"] == pair.joint.delta_aicc and saved["joint_shared"] == pair.joint.shared
    open_ended = replace(pair.crossing, high=np.inf, low=np.nan)
    pair.crossing = open_ended
    numbers = as_dict(study, found)["contrasts"][0]["crossover_numbers"]
    assert numbers["high"] == "inf" and numbers["low"] is None


def test_one_loss_out_of_distribution_is_related_between_cells_and_losses_in_distribution_are_not():
    study = study_of({("resnet", "sl"): LAW, ("resnet", "ssl"): LAW | {"B": 2.0}}, noise=0.002)
    for seed, family in enumerate(("resnet", "s4")):
        add(study, (family, "sl", "sl"), LAW, seed=seed)
    found = contrast(study)
    by_group = {pair.a.evaluation[1]: pair for pair in found.pairs}
    assert by_group["id"].paired is None and by_group["id"].collapse is None
    pair = by_group["ood_unseen"]
    assert not any("test-to-test" in text for text in pair.refused) and len(pair.paired.x) == 30
    np.testing.assert_array_equal(pair.paired.y, pair.b.fit.points.loss)
    _, _, line = paired_table(found).splitlines()
    assert "resnet sl of resnet ssl | 30 |" in line and f"{pair.paired.params['kappa']:.3g} (" in line
    saved = [each["test_to_test"] for each in as_dict(study, found)["contrasts"]]
    assert saved.count(None) == 1 and any(each and each["kappa"]["value"] for each in saved)


def test_the_report_lists_only_the_readings_of_transfer_that_it_has_numbers_of():
    study = study_of({("resnet", "sl"): LAW}, num=5)
    add(study, ("resnet", "sl", "sl"), LAW, num=5)
    found = contrast(study)
    text = "\n".join(report._comparisons(found, {}))
    assert "- `kappa`:" in text and "- `elasticity`:" in text
    for name in ("kappa_ratio", "iso_ood_data_multiplier", "effective_data_transferred"):
        assert f"`{name}`" not in text


def test_two_objectives_of_one_paradigm_have_names_of_their_own_in_every_sentence():
    study = Study(RunTable.from_rows([]))
    for seed, objective in enumerate(("cpc", "jepa")):
        add(study, ("resnet", "ssl", objective), LAW, seed=seed, **OWN)
    (pair,) = contrast(study).pairs
    assert pair.iso.names == ("resnet ssl cpc", "resnet ssl jepa")
    assert pair.crossing.beyond in pair.iso.names
    for text in (str(pair.joint), str(pair.ratio), str(pair.headline)):
        assert "resnet ssl cpc" in text and "resnet ssl jepa" in text
