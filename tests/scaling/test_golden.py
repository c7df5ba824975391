"""Published fits, reproduced from the tables beside the repository where those are."""

import csv

import numpy as np
import pytest

from ecg_hf.scaling.comparison.loss_to_loss import fit_losses
from ecg_hf.scaling.fitting import fit as fitting
from ecg_hf.scaling.fitting.descent import huber
from ecg_hf.scaling.fitting.intervals import bootstrap
from ecg_hf.scaling.laws.names import get
from places import SHARED

SAMPLES = SHARED / "scaling-laws"
pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason="the published tables are not beside the repository")


def table(name):
    with (SAMPLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return np.array([float(each[name]) for each in rows])


def chinchilla():
    """Besiroglu et al. 2024: 240 points of Hoffmann's figure 4, the five highest losses left out, C = 6 N D."""
    rows = table("chinchilla_epoch_svg_extracted.csv")
    n, c, values = (column(rows, name) for name in ("Model Size", "Training FLOP", "loss"))
    kept = values < np.sort(values)[-5]
    return {"N": n[kept], "D": c[kept] / 6 / n[kept], "L": values[kept]}


@pytest.fixture(scope="module")
def fitted():
    return fitting.fit(chinchilla(), "chinchilla", delta=1e-3)


def test_row_1_the_chinchilla_fit(fitted):
    assert fitted.num_points == 240
    assert fitted.objective == pytest.approx(1.018274e-3, abs=1e-8)
    for name, published in (("alpha", 0.347313), ("beta", 0.367183), ("E", 1.81724)):
        assert fitted.params[name] == pytest.approx(published, abs=1e-3)
    for name, published in (("A", 477.84), ("B", 2143.86)):
        assert fitted.params[name] == pytest.approx(published, rel=0.02)
    assert not fitted.unstable and not fitted.at_bound and not fitted.unidentified


def test_row_2_the_intervals_of_the_chinchilla_fit(fitted):
    boot = bootstrap(fitted, 1000)
    published = {"alpha": (0.317, 0.373), "beta": (0.331, 0.415), "E": (1.769, 1.871)}
    for name, ends in published.items():
        estimate = boot.estimate(name)
        assert (estimate.low, estimate.high) == pytest.approx(ends, abs=0.015)
    params = boot.params
    assert np.std(params["beta"] / (params["alpha"] + params["beta"])) == pytest.approx(0.020, rel=0.15)


def test_row_3_two_runs_beyond_the_tied_fit_of_gadre():
    rows = [each for each in table("gadre2024_overtraining_testbed.csv") if each["train_data"] == "rpj"]
    n, d, multiplier, values = (column(rows, name) for name in ("N", "D", "chinchilla_multiplier", "loss_c4_val"))
    order = np.unique(n)
    used = (np.isin(n, order[:4]) & (multiplier == 1)) | ((n == order[0]) & (multiplier == 16))
    assert used.sum() == 5
    data, weights = {"N": n[used], "D": d[used], "L": values[used]}, values[used] ** 2
    for _ in range(8):
        # the published fit is least squares of the losses themselves: weights that make our gradient that of theirs
        found = fitting.fit(data, "tied", delta=np.inf, weights=weights)
        ratio = np.exp(-found.residuals)
        weights = values[used] ** 2 * ratio * (ratio - 1) / np.log(ratio)
    for size, factor, published in ((order[4], 32, 0.7103), (order[5], 1, 0.7320)):
        held = (n == size) & (multiplier == factor)
        assert held.sum() == 1
        predicted = found.predict({"N": n[held], "D": d[held]})
        assert abs(predicted / values[held] - 1)[0] * 100 == pytest.approx(published, abs=1e-3)


def test_row_7_the_fit_of_repeated_data_and_a_better_one():
    rows = table("datablations_repeated_data_182.csv")
    n, seen, unique, values = (column(rows, name) for name in ("N", "D", "U", "loss"))
    fix = {"A": np.exp(6.255414), "B": np.exp(7.3049974), "E": np.exp(0.6254804), "alpha": 0.3526596, "beta": 0.3526596}
    residuals = get("repeated").log_predict(fix | {"R_D*": 15.388, "R_N*": 5.310}, n, unique, seen) - np.log(values)
    assert huber(residuals, 1e-3).sum() == pytest.approx(0.01582594, abs=1e-7)
    found = fitting.fit({"N": n, "D": unique, "S": seen, "L": values}, "repeated", delta=1e-3, fix=fix)
    assert found.objective == pytest.approx(0.01580466, abs=1e-7)
    assert found.params["R_D*"] == pytest.approx(95, abs=3) and found.params["R_N*"] == pytest.approx(1.7, abs=0.05)


def test_row_8_three_architectures_on_one_line():
    rows = table("llm_line_latest_pm_hf.csv")[1:]
    chosen = [each for each in rows if "pile" in each["Pretraining Data"].lower()]
    assert chosen
    used = [
        each
        for each in chosen
        if each["Architecture"] in ("GPT", "Mamba", "Mamba2", "Mamba-2")
        and each["FineWeb-Edu Validation Loss"]
        and each["HellaSwag Loss"]
    ]
    found = fit_losses(column(used, "FineWeb-Edu Validation Loss"), column(used, "HellaSwag Loss"), num_replicates=50)
    assert len(used) == 22
    assert found.r_squared > 0.99
