import numpy as np
import pytest

from ecg_hf.errors import EcgFormatError
from ecg_hf.scaling.comparison.bottleneck import bottleneck
from ecg_hf.scaling.comparison.crossing import crossover
from ecg_hf.scaling.comparison.design import CODE15_RECORDS, FAMILIES, plan
from ecg_hf.scaling.comparison.flops import FlopsModel
from ecg_hf.scaling.comparison.frontier import frontier
from ecg_hf.scaling.comparison.joint import joint_multiplier
from ecg_hf.scaling.comparison.ladder import grid_multiplier
from ecg_hf.scaling.comparison.multipliers import compute_multiplier, exponent_ratio, iso_loss
from ecg_hf.scaling.fitting import fit as fitting
from ecg_hf.scaling.fitting.intervals import bootstrap
from ecg_hf.scaling.fitting.points import gather
from ecg_hf.scaling.laws.names import get
from ecg_hf.scaling.table.run_table import RunTable
from scaling_runs import LAW, columns, design, loss, row, rows

# a cell that needs twice the parameters of LAW for the same loss
TWICE = LAW | {"A": LAW["A"] * 2 ** LAW["alpha"]}


def pair(noise, other=TWICE, form="chinchilla", num=200):
    return [
        bootstrap(fitting.fit(columns(noise, seed, law), form), num, seed=seed) for seed, law in ((0, LAW), (1, other))
    ]


@pytest.fixture(scope="module")
def cells():
    return pair(0.01)


def test_a_true_multiplier_of_two_is_found_by_both_ways_and_the_exponent_ratio_is_one(cells):
    curve = iso_loss(*cells)
    assert curve.median.low < 2 < curve.median.high and curve.median.value == pytest.approx(2, rel=0.25)
    joint = joint_multiplier(*cells)
    assert joint.estimate.low < 2 < joint.estimate.high and joint.estimate.value == pytest.approx(2, rel=0.15)
    assert not joint.rejected
    ratio = exponent_ratio(*cells)
    assert ratio.low < 1 < ratio.high
    assert {curve.median.kind, joint.estimate.kind, ratio.kind} == {
        "iso-loss multiplier of N", "joint multiplier of N", "exponent ratio of alpha",
    }  # fmt: skip


def test_without_noise_every_point_of_the_curve_is_the_multiplier():
    a, b = (fitting.fit(columns(0, law=law)) for law in (LAW, TWICE))
    curve = iso_loss(a, b)
    np.testing.assert_allclose(curve.ratio, 2, rtol=1e-4)
    np.testing.assert_allclose(loss(curve.inputs[0], curve.at["D"]), curve.levels, rtol=1e-6)
    assert np.isnan(curve.median.low) and "no interval" in str(curve)
    assert curve.at == {"D": 345_000}
    np.testing.assert_allclose(iso_loss(b, a).ratio, 0.5, rtol=1e-4)


def test_a_multiplier_of_data_is_found_on_the_axis_of_data():
    other = LAW | {"B": LAW["B"] * 4 ** LAW["beta"]}
    a, b = pair(0.003, other)
    assert iso_loss(a, b, "D").median.value == pytest.approx(4, rel=0.15)
    joint = joint_multiplier(a, b, "D")
    assert joint.estimate.value == pytest.approx(4, rel=0.1) and joint.estimate.kind == "joint multiplier of D"
    assert joint.shared["beta"] == pytest.approx(0.3, abs=0.03) and joint.shared["E"] == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("form", ["tied", "kaplan", "pow+E"])
def test_the_joint_multiplier_is_exact_for_every_form_of_terms(form):
    law = get(form)
    params = {"A": 12.0, "B": 20.0, "E": 0.1, "alpha": 0.3, "beta": 0.4}
    params |= {"A": 5e3, "B": 2e3} if form == "kaplan" else {}
    params = {name: params[name] for name in law.parameters}
    n, d = design()
    inputs = {"N": n, "D": d} if len(law.inputs) == 2 else {"N": n}
    boots = []
    for factor in (1.0, 1.7):
        values = law.predict(params, *({**inputs, "N": n / factor}).values())
        boots.append(bootstrap(fitting.fit(inputs | {"L": values}, form), 3))
    joint = joint_multiplier(*boots)
    assert joint.estimate.value == pytest.approx(1.7, rel=1e-4)
    assert joint.p_value == 1.0


def test_one_factor_is_refused_where_the_exponents_differ():
    other = {"A": 1.0, "B": LAW["B"], "E": 0.12, "alpha": 0.15, "beta": LAW["beta"]}
    a, b = pair(0.003, other)
    joint = joint_multiplier(a, b)
    assert joint.rejected and joint.delta_aicc > 0 and "one factor is refused" in str(joint)
    assert exponent_ratio(a, b).low > 1.2


def test_what_cannot_be_compared_is_refused():
    a, b = fitting.fit(columns()), fitting.fit(columns())
    supervised = fitting.fit(RunTable.from_rows(rows()))
    contrastive = fitting.fit(RunTable.from_rows(rows(objective="cpc", paradigm="ssl")))
    with pytest.raises(
        ValueError, match=r"cannot compare 'nll of id-test \(supervised\)' with 'nll of id-test \(cpc\)'"
    ):
        iso_loss(supervised, contrastive)
    made = [each | {"n_params_total": 1.1 * each["n_params"]} for each in rows()]
    with pytest.raises(ValueError, match="use one definition of N and of D"):
        iso_loss(supervised, fitting.fit(RunTable.from_rows(made, size="n_params_total")))
    with pytest.raises(ValueError, match="chinchilla was fitted to N, D, not to 'K'"):
        iso_loss(a, b, "K")
    with pytest.raises(ValueError, match="`at` names N, which is the axis"):
        iso_loss(a, b, at={"N": 1e6})
    with pytest.raises(ValueError, match="no loss is reached by both cells"):
        iso_loss(a, fitting.fit(columns(law=LAW | {"E": 3.0})))
    with pytest.raises(ValueError, match="has no exponent 'gamma'"):
        exponent_ratio(a, b, "gamma")
    with pytest.raises(ValueError, match="share must contain alpha, not A"):
        joint_multiplier(bootstrap(a, 2), bootstrap(b, 2), share=("E",))
    with pytest.raises(ValueError, match="got bootstraps by pairs and wild"):
        joint_multiplier(bootstrap(a, 2), bootstrap(b, 2, method="wild"))


def test_the_compute_multiplier_weighs_parameters_by_what_they_cost():
    a, b = (fitting.fit(columns(0, law=law)) for law in (LAW, TWICE))
    sizes = np.array([1e4, 1e9])
    dear, cheap = FlopsModel(sizes, 900 * sizes), FlopsModel(sizes, 300 * sizes)
    found = compute_multiplier(a, b, dear, cheap)
    np.testing.assert_allclose(found.ratio, 2 * 300 / 900, rtol=1e-4)
    assert found.median.kind == "compute multiplier"


def test_the_cost_model_goes_through_the_measured_sizes():
    table = RunTable.from_rows(
        [row(f"r{i}", n_params=n, flops_fwd=f) for i, (n, f) in enumerate([(1e4, 5e6), (1e6, 4e8), (1e8, 3e10)])]
    )
    model = FlopsModel.of(table)
    np.testing.assert_allclose(model([1e4, 1e6, 1e8]), [5e6, 4e8, 3e10])
    np.testing.assert_allclose(model(1e5), np.sqrt(5e6 * 4e8))
    np.testing.assert_allclose(model.training(1e6, 10), 3 * 4e8 * 10)
    with pytest.raises(EcgFormatError, match="needs one flops_fwd for each of at least 2 sizes, got 1"):
        FlopsModel.of(table.where("run_id", "r0"))


def test_the_grid_multiplier_is_read_off_the_runs():
    n, d = (each.ravel() for each in np.meshgrid([1e4, 1e6], [1e3, 2e3, 4e3, 8e3]))
    both = [
        gather({"N": n, "D": d, "L": 10 * (d / factor) ** -0.3}, get("chinchilla"), None, None) for factor in (1, 4)
    ]
    found = grid_multiplier(*both)
    # the two smallest runs of each size only say that their ratio is at least that to the smallest amount there is
    assert [step[2] for step in found.steps] == [4] * 4 and sorted(found.at_least) == [1, 1, 2, 2]
    assert found.median.value == 4
    assert str(found.median).endswith(
        "4 runs matched, resolution of the trained grid; 4 more runs give at least 1 to 2"
    )
    back = grid_multiplier(*both[::-1])
    assert [step[2] for step in back.steps] == [0.25] * 4 and sorted(back.at_most) == [0.5, 0.5, 1, 1]


def test_the_ends_of_the_ladder_do_not_pull_the_grid_multiplier():
    n, d = (each.ravel() for each in np.meshgrid([1e4, 1e6], 1e3 * 2.0 ** np.arange(7)))
    # between two rungs, so that no loss of one cell is equal to one of the other
    both = [gather({"N": n, "D": d, "L": 10 * (d / f) ** -0.3}, get("chinchilla"), None, None) for f in (1, 15)]
    found = grid_multiplier(*both)
    assert found.median.value == 8 and len(found.steps) == 6 and max(found.at_least) == 8
    none = grid_multiplier(gather({"N": n * 2, "D": d, "L": d**-0.3}, get("chinchilla"), None, None), both[1])
    assert none.num_unpaired == 14 and np.isnan(none.median.value) and "14 have no partner" in none.bounds


def test_a_crossing_is_where_the_laws_are_equal():
    other = LAW | {"A": 15.0, "alpha": 0.40}
    a, b = (fitting.fit(columns(0, law=law)) for law in (LAW, other))
    found = crossover(a, b)
    expected = (15 / 3) ** (1 / 0.15)
    assert found.value == pytest.approx(expected, rel=1e-3)
    assert found.inside and found.beyond == "b" and found.num_crossings == 1
    assert crossover(b, a).value == pytest.approx(expected, rel=1e-3) and crossover(b, a).beyond == "a"


def test_a_crossing_has_an_interval_that_may_be_open():
    other = LAW | {"A": 15.0, "alpha": 0.40}
    found = crossover(*pair(0.01, other))
    assert found.low < (15 / 3) ** (1 / 0.15) < found.high and found.share_crossing > 0.9
    shy = LAW | {"A": 3.15, "alpha": 0.2506}  # crosses far beyond the data, so only some replicates do
    uncertain = crossover(*pair(0.01, shy))
    assert uncertain.low == 0 or np.isinf(uncertain.high)


def test_replicates_that_cross_the_other_way_do_not_support_a_crossing():
    def alike(seed):
        return crossover(*(bootstrap(fitting.fit(columns(0.01, 2 * seed + k)), 100, seed=k) for k in (0, 1)))

    # two cells of one law: which of them overtakes is chance, so replicates go both ways
    found = [alike(seed) for seed in range(6)]
    assert max(each.share_opposite for each in found) > 0.1
    assert all(each.share_crossing + each.share_opposite <= 1 for each in found)
    assert "cross this way" in str(next(each for each in found if each.value > 0))
    back = crossover(*pair(0.01, LAW | {"A": 15.0, "alpha": 0.40})[::-1])
    assert back.share_opposite == 0 and back.share_crossing > 0.9


def test_a_share_and_an_interval_count_one_direction():
    from ecg_hf.scaling.comparison.crossing import _of_replicates

    places = np.log([10.0, 20.0, 30.0, 900.0, np.nan])
    crosses = np.array([True, True, True, True, False])
    low, high, share, opposite = _of_replicates(places, crosses, np.array([True, True, True, False, True]))
    assert (share, opposite) == (0.6, 0.2)
    assert low == 0 and high == pytest.approx(30)


def test_laws_that_do_not_cross_say_none():
    found = crossover(*pair(0.003, LAW | {"A": 6.0}))
    assert np.isnan(found.value) and found.beyond == "a"
    assert str(found).startswith("crossover on N: none within 10x of data; a has the lower loss")


def test_a_cell_limited_by_data_is_told_from_one_limited_by_size():
    n, d = design()

    def limit(a, b):
        law = LAW | {"A": a, "B": b}
        data = {"N": n, "D": d, "L": loss(n, d, law) * np.exp(0.003 * np.random.default_rng(0).normal(size=30))}
        return bottleneck(bootstrap(fitting.fit(data), 200)), law

    found, law = limit(2.0, 60.0)
    top, most = n.max(), d.max()
    terms = law["A"] * top**-0.25, law["B"] * most**-0.3
    assert found.share_d.value == pytest.approx(terms[1] / sum(terms), abs=0.02)
    assert found.elasticity_d.value == pytest.approx(0.3 * terms[1] / loss(top, most, law), rel=0.1)
    assert found.elasticity_n.value == pytest.approx(0.25 * terms[0] / loss(top, most, law), rel=0.2)
    assert found.limit == "data" and "bottleneck at N = 2e+08, D = 3.45e+05: data" in str(found)
    assert limit(60.0, 2.0)[0].limit == "model"
    assert limit(12.0, 8.0)[0].limit == "neither"


def test_the_frontier_in_closed_form_equals_the_search_and_costs_the_budget():
    fit = fitting.fit(columns())
    budgets = np.geomspace(1e12, 1e13, 3)
    closed = frontier(fit, 6.0, budgets, extrapolate=True)
    sizes = np.array([1e3, 1e10])
    searched = frontier(fit, FlopsModel(sizes, 2 * sizes), budgets, extrapolate=True)
    np.testing.assert_allclose(searched.size, closed.size, rtol=0.02)
    np.testing.assert_allclose(6 * closed.size * closed.data, budgets)
    for factor in (0.8, 1.25):
        assert (fit.predict({"N": closed.size * factor, "D": closed.data / factor}) > closed.loss).all()


def test_records_that_run_out_cap_the_frontier():
    fit = fitting.fit(columns())
    found = frontier(fit, 6.0, [1e15], max_data=345_000)
    assert found.capped[0] and found.data[0] == 345_000
    assert found.size[0] == pytest.approx(1e15 / 6 / 345_000, rel=0.02)


def test_a_frontier_far_beyond_the_data_is_refused_unless_asked():
    fit = fitting.fit(columns())
    with pytest.raises(ValueError, match=r"more than 10 times beyond the data; spend less, or pass extrapolate=True"):
        frontier(fit, 6.0, [1e22])
    assert frontier(fit, 6.0, [1e22], extrapolate=True).extrapolated[0]


def test_examples_that_are_the_same_for_every_run_buy_size_alone():
    fit = fitting.fit(columns())
    found = frontier(fit, 6.0, [6e13], examples=1e7, max_data=345_000)
    assert found.size[0] == pytest.approx(1e6) and found.loss[0] == pytest.approx(loss(1e6, 345_000), rel=1e-6)
    with pytest.raises(ValueError, match="say in max_data how many exist"):
        frontier(fit, 6.0, [6e13], examples=1e7)
    with pytest.raises(ValueError, match="must rise with N"):
        frontier(fit, FlopsModel(np.array([1e4, 1e5]), np.array([2.0, 1.0])), [1.0], examples=1.0, max_data=1e5)


def test_a_frontier_has_intervals_from_replicates(cells):
    found = frontier(cells[0], 6.0, [1e12], extrapolate=True)
    assert found.size_low[0] < found.size[0] < found.size_high[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_is_thirty_runs_of_nine_sizes_and_seven_amounts(family):
    found = plan(1e20, family)
    assert len(found.runs) == 30 and len({run.size for run in found.runs}) == 9
    assert sorted({run.n_unique for run in found.runs}, reverse=True) == [
        round(CODE15_RECORDS / 2**j) for j in range(7)
    ]
    assert sum(run.level == 0 for run in found.runs) == 9
    assert sum(run.flops for run in found.runs) == pytest.approx(found.flops)
    # the cost that the specification states, about 4e18 and 3e18
    assert found.flops == pytest.approx({"resnet": 5e18, "transformer": 3.6e18}[family], rel=0.3)
    data = {"N": [run.n_params for run in found.runs], "D": [run.n_unique for run in found.runs]}
    n, d = (np.array(each, dtype=float) for each in data.values())
    assert fitting.fit({"N": n, "D": d, "L": loss(n, d)}).params == pytest.approx(LAW, rel=1e-4)


def test_a_small_budget_drops_the_largest_sizes_and_says_so():
    found = plan(1e17, "resnet")
    assert found.flops <= 1e17 and found.dropped[-1] == "200m" and "not affordable" in str(found)
    assert len({run.size for run in found.runs}) + len(found.dropped) == 9
    with pytest.raises(ValueError, match="a law of N needs 4 sizes, which cost"):
        plan(1e10, "resnet")
    with pytest.raises(ValueError, match=r"a law of N needs 4 sizes, got 3 \(a, b, c\)"):
        plan(1e20, "s4", sizes=[("a", 1e4, 1e6), ("b", 1e5, 1e7), ("c", 1e6, 1e8)])
    with pytest.raises(ValueError, match="family must be one of resnet, transformer"):
        plan(1e20, "mamba")
    own = plan(1e20, "s4", sizes=[(str(n), n, 500 * n) for n in (1e4, 1e5, 1e6, 1e7)], num_records=1000, epochs=2)
    assert own.family == "s4" and min(run.n_unique for run in own.runs) == 16
