import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import f as f_distribution

from ecg_hf.scaling.fitting import fit as fitting
from ecg_hf.scaling.fitting.choice import compare, holdout, left_out_residuals
from ecg_hf.scaling.fitting.intervals import bootstrap, summarise
from ecg_hf.scaling.fitting.profiles import profile
from scaling_runs import LAW, columns, design, loss


@pytest.fixture(scope="module")
def fitted():
    return fitting.fit(columns(0.01))


@pytest.fixture(scope="module")
def boot(fitted):
    return bootstrap(fitted, 400)


def test_a_bootstrap_is_a_function_of_its_seed(fitted, boot):
    again = bootstrap(fitted, 400)
    np.testing.assert_array_equal(again.theta, boot.theta)
    assert not np.array_equal(bootstrap(fitted, 400, seed=1).theta, boot.theta)


def test_a_replicate_is_a_fit_to_the_runs_that_were_drawn(fitted):
    boot = bootstrap(fitted, 5, seed=3)
    counts = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), size=5)
    for row in range(5):
        data = {name: np.repeat(values, counts[row]) for name, values in columns(0.01).items()}
        alone = fitting.fit(data, delta=fitted.delta, weights="equal")
        for name, values in boot.params.items():
            assert values[row] == pytest.approx(alone.params[name], rel=1e-3)


@pytest.mark.parametrize("method", ["pairs", "residual", "wild"])
def test_every_method_covers_the_truth_of_this_study(method):
    boot = bootstrap(fitting.fit(columns(0.01, seed=1)), 300, method=method)
    for name in ("alpha", "beta", "E"):
        estimate = boot.estimate(name)
        assert estimate.low < LAW[name] < estimate.high
        assert estimate.low < estimate.value < estimate.high


def test_intervals_shrink_with_the_root_of_the_noise_and_vanish_without():
    quiet, loud = (bootstrap(fitting.fit(columns(noise)), 200).estimate("alpha") for noise in (0.002, 0.01))
    assert (loud.high - loud.low) / (quiet.high - quiet.low) == pytest.approx(5, rel=0.15)
    exact = bootstrap(fitting.fit(columns(0)), 50).estimate("alpha")
    assert exact.high - exact.low < 1e-5


def test_a_derived_quantity_is_computed_inside_every_replicate(boot):
    def data_share(params):
        return params["beta"] / (params["alpha"] + params["beta"])

    estimate = boot.estimate(data_share)
    inside = boot.params["beta"] / (boot.params["alpha"] + boot.params["beta"])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(inside, [0.025, 0.975])))
    assert estimate.kind == "data_share"


def test_the_bca_interval_equals_that_of_scipy():
    rng = np.random.default_rng(0)
    data = rng.exponential(size=40)
    replicates = np.array([data[rng.integers(40, size=40)].mean() for _ in range(20000)])
    jackknife = np.array([np.delete(data, i).mean() for i in range(40)])
    ours = summarise("mean", data.mean(), replicates, jackknife=jackknife)
    theirs = scipy_bootstrap((data,), np.mean, n_resamples=20000, method="BCa", random_state=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_seeds_of_a_configuration_are_drawn_together():
    data = columns(0.0)
    rng = np.random.default_rng(0)
    own = 0.02 * rng.normal(size=30)  # of the configuration, so that its seeds say nothing new
    twice = {name: np.repeat(values, 4) for name, values in data.items()}
    twice["value"] = twice["value"] * np.exp(np.repeat(own, 4))
    alone = fitting.fit(data | {"value": data["value"] * np.exp(own)})
    together = bootstrap(fitting.fit(twice | {"run_id": np.repeat(np.arange(30), 4)}), 300).estimate("beta")
    apart = bootstrap(fitting.fit(twice), 300).estimate("beta")
    once = bootstrap(alone, 300).estimate("beta")
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.2)
    assert apart.high - apart.low < 0.65 * (once.high - once.low)


def test_replicates_without_enough_different_points_are_counted(fitted):
    n, d = np.geomspace(1e4, 1e7, 5), np.full(5, 1e4)
    small = fitting.fit({"N": n, "L": loss(n, d) * np.exp(0.005 * np.array([1, -1, 1, -1, 1]))}, "pow")
    boot = bootstrap(small, 500)
    assert boot.num_failed > 0 and len(boot.theta) == 500 - boot.num_failed


def test_the_share_of_replicates_at_a_bound_is_told():
    n = np.geomspace(1e4, 1e8, 12)
    noise = np.exp(0.02 * np.random.default_rng(1).normal(size=12))
    boot = bootstrap(fitting.fit({"N": n, "L": 3 * n**-0.2 * noise}, "pow+E"), 200)
    assert 0.2 < boot.at_bound["E"] <= 1


def test_many_undefined_replicates_void_the_interval():
    values = np.where(np.arange(100) < 20, np.nan, 1.0)
    estimate = summarise("ratio", 1.0, values)
    assert np.isnan(estimate.low) and "no interval, undefined in 20 % of replicates" in str(estimate)


def test_arguments_of_the_bootstrap_are_checked(fitted):
    with pytest.raises(ValueError, match="method must be 'pairs', 'residual' or 'wild', got 'jackknife'"):
        bootstrap(fitted, 10, method="jackknife")
    with pytest.raises(ValueError, match="num_replicates must be at least 1, got 0"):
        bootstrap(fitted, 0)


def test_the_profile_of_least_squares_is_the_rise_of_the_sum_of_squares():
    data = columns(0.01)
    fitted = fitting.fit(data, delta=np.inf)
    found = profile(fitted, "alpha")
    for place in (20, 35):
        held = fitting.fit(data, delta=np.inf, fix={"alpha": float(found.grid[place])})
        expected = (30 - 5) * (held.objective - fitted.objective) / fitted.objective
        assert found.deviance[place] == pytest.approx(expected, rel=1e-4)
    assert found.low < LAW["alpha"] < found.high and not (found.open_low or found.open_high)
    # an F test of one restriction refuses what lies beyond, up to the difference of F and chi squared
    limit = f_distribution.ppf(0.95, 1, 25)
    assert np.interp(found.low, found.grid, found.deviance) == pytest.approx(3.84, abs=0.3) and limit > 3.84


def test_a_profile_is_open_where_the_data_refuse_nothing():
    n = np.geomspace(1e4, 1e6, 9)
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=9))
    found = profile(fitting.fit({"N": n, "L": (0.05 + 12 * n**-0.25) * noise}, "pow+E"), "E")
    assert found.open_low and not found.open_high
    assert "open" in str(found)


def test_a_profile_of_what_was_not_sought_is_refused(fitted):
    with pytest.raises(ValueError, match="cannot profile 'gamma'; the parameters sought were A, B, E, alpha, beta"):
        profile(fitted, "gamma")
    with pytest.raises(ValueError, match="cannot profile the amplitude A"):
        profile(fitted, "A")


def test_the_form_that_made_the_losses_wins():
    n, d = design()
    data = columns(0.005)
    rows = compare([fitting.fit(data, form) for form in ("tied", "kaplan", "chinchilla")])
    assert rows[0].form in ("chinchilla", "tied") and rows[0].delta_aicc == 0
    unequal = loss(n, d, LAW | {"alpha": 0.15, "beta": 0.5, "A": 3.0, "B": 250.0})
    noisy = {"N": n, "D": d, "L": unequal * np.exp(0.005 * np.random.default_rng(0).normal(size=30))}
    rows = compare([fitting.fit(noisy, form) for form in ("tied", "chinchilla")])
    assert rows[0].form == "chinchilla" and rows[1].delta_aicc > 10 and rows[0].loo < rows[1].loo


def test_aicc_equals_the_formula(fitted):
    row = compare([fitting.fit(columns(0.01), delta=np.inf)])[0]
    squares = np.sum(fitting.fit(columns(0.01), delta=np.inf).residuals ** 2)
    assert row.aicc == pytest.approx(30 * np.log(squares / 30) + 12 + 2 * 6 * 7 / (30 - 6 - 1))
    assert row.bic == pytest.approx(30 * np.log(squares / 30) + 6 * np.log(30))


def test_fits_to_different_points_are_not_compared(fitted):
    with pytest.raises(ValueError, match="fitted to different points"):
        compare([fitted, fitting.fit(columns(0.01, seed=1))])


def test_a_point_left_out_is_predicted_from_the_others(fitted):
    found = left_out_residuals(fitted)
    data = {name: np.delete(values, 4) for name, values in columns(0.01).items()}
    rest = fitting.fit(data, delta=fitted.delta)
    n, d = design()
    expected = np.log(columns(0.01)["value"][4] / rest.predict({"N": n[4], "D": d[4]}))
    assert found[4] == pytest.approx(expected, abs=1e-5)


def test_the_largest_runs_are_predicted_from_the_others():
    exact = fitting.fit(columns())
    for by in ("largest N", "largest D"):
        held = holdout(exact, by)
        assert np.abs(held.errors).max() < 1e-5
    held = holdout(fitting.fit(columns(0.01)), "largest N", 2)
    assert set(held.inputs[0]) == set(np.unique(design()[0])[-2:])
    assert held.fit.num_points == 30 - held.inputs.shape[1]
    assert abs(held.largest_error) < 0.1 and "held out largest N" in str(held)
    with pytest.raises(ValueError, match="by must be 'largest' and one of N, D, got 'largest K'"):
        holdout(exact, "largest K")


@pytest.mark.slow
def test_nine_of_ten_intervals_cover_the_truth():
    hits = {name: [] for name in LAW}
    for seed in range(40):
        boot = bootstrap(fitting.fit(columns(0.01, seed)), 400, seed=seed)
        for name, truth in LAW.items():
            estimate = boot.estimate(name, confidence=0.9)
            hits[name].append(estimate.low < truth < estimate.high)
    shares = {name: np.mean(each) for name, each in hits.items()}
    assert all(0.80 <= share <= 0.97 for share in shares.values()), shares
