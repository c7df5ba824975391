from dataclasses import replace

import numpy as np
import pytest
from scaling_runs import LAW, rows

from ecg_hf.scaling.contrasts import Contrast, contrast
from ecg_hf.scaling.fitting import fit
from ecg_hf.scaling.intervals import bootstrap
from ecg_hf.scaling.report import as_dict, card_section
from ecg_hf.scaling.runs import RunTable
from ecg_hf.scaling.study import VARIED, CellLaw, Study
from ecg_hf.scaling.tables import contrasts_table

OWN = {"eval_id": "mi", "eval_group": "ood_unseen", "metric": "ne", "probe": "linear", "probe_n": 500}


def study_of(laws, num=40, noise=0.005, **changes):
    """A study of cells by family and paradigm, without what only a report of one law needs."""
    study = Study(RunTable.from_rows([]))
    for seed, ((family, paradigm), law) in enumerate(laws.items()):
        cell = (family, paradigm, paradigm)
        own = {"family": family, "paradigm": paradigm, "objective": paradigm} | OWN | changes
        table = RunTable.from_rows(rows(noise, seed, law, **own))
        boot = bootstrap(fit(table), num)
        made = CellLaw(cell, table.rows[0].evaluation, table, boot, [], [], [], [], {}, None, None, VARIED)
        study.laws.setdefault(made.evaluation, {})[cell] = made
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
