import numpy as np
import pytest
from scipy.optimize import brentq, minimize, nnls

from ecg_hf.scaling.fitting.descent import descend, huber
from ecg_hf.scaling.laws.names import LAWS, Frame, get
from ecg_hf.scaling.laws.power_laws import non_negative

PARAMS = {
    "A": 5.0, "B": 9.0, "C_K": 0.4, "E": 0.3, "L0": 2.5, "alpha": 0.31, "beta": 0.42, "gamma": 0.6, "g": 0.5, "c": 0.2,
    "d": 40.0, "f": 0.4, "R_D*": 8.0, "R_N*": 3.0, "K": 1.3, "E_x": 0.2, "E_y": 0.4, "kappa": 0.8,
}  # fmt: skip


def made(law, num=25, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(0, 6, (len(law.inputs), num)))


def random_theta(law, rng):
    chosen = {name: PARAMS[name] * np.exp(rng.normal(scale=0.2)) for name in law.parameters}
    return law.encode(chosen, Frame.plain(len(law.inputs)))[0]


@pytest.mark.parametrize("name", LAWS)
def test_the_gradient_is_that_of_the_prediction(name):
    law, rng = get(name), np.random.default_rng(1)
    x = np.log(made(law, 60))
    for _ in range(10):
        theta = random_theta(law, rng)
        gradient = law.evaluate(theta[None], x)[1][0]
        for column, letter in enumerate(law.parameters):
            if letter in law.given:
                continue
            step = 1e-5 * np.eye(len(theta))[column]
            upper, lower = law.evaluate(np.stack([theta + step, theta - step]), x)[0]
            np.testing.assert_allclose(gradient[column], (upper - lower) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", LAWS)
def test_parameters_survive_working_coordinates_of_any_frame(name):
    law = get(name)
    inputs = made(law)
    params = {key: PARAMS[key] for key in law.parameters}
    expected = law.predict(params, *inputs)
    frame = law.frame(inputs, expected)
    theta = law.encode(params, frame)
    back = {key: float(value[0]) for key, value in law.decode(theta, frame).items()}
    assert back == pytest.approx(params, rel=1e-12)
    x = np.log(inputs) - frame.centre[:, None]
    np.testing.assert_allclose(frame.scale * np.exp(law.evaluate(theta, x)[0][0]), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_many_parameter_vectors_at_once_equal_one_at_a_time(name):
    law, rng = get(name), np.random.default_rng(2)
    x = np.log(made(law))
    theta = np.array([random_theta(law, rng) for _ in range(4)])
    together = law.evaluate(theta, x)
    for row in range(4):
        for both, alone in zip(together, law.evaluate(theta[row : row + 1], x), strict=True):
            np.testing.assert_allclose(both[row], alone[0], rtol=1e-13)
    own = np.stack([x + row for row in range(4)], axis=1)
    for row in range(4):
        np.testing.assert_allclose(
            law.evaluate(theta, own)[0][row], law.evaluate(theta[row : row + 1], x + row)[0][0], rtol=1e-12
        )


def by_hand(name, p, x):
    """The formulas of the literature, one number at a time."""
    n, d, last = [*x, 0, 0][:3]
    if name == "loss-to-loss":
        return p["E_y"] + p["K"] * (n - p["E_x"]) ** p["kappa"]
    if name in ("pow", "pow+E"):
        return p.get("E", 0) + p["A"] * n ** -p["alpha"]
    if name in ("chinchilla", "tied", "labels"):
        labels = p["C_K"] * last ** -p["gamma"] if name == "labels" else 0
        return p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p.get("beta", p["alpha"]) + labels
    if name == "kaplan":
        return p["E"] + ((p["A"] / n) ** (p["alpha"] / p["beta"]) + p["B"] / d) ** p["beta"]
    if name == "saturating":
        right = p["A"] * n ** -p["alpha"]
        small = 1e-12
        return brentq(
            lambda loss: (loss - p["E"]) - right * (p["L0"] - loss) ** p["g"], p["E"], p["L0"] - small, xtol=1e-14
        )
    if name == "broken":
        return p["E"] + p["A"] * n ** -p["alpha"] * (1 + (n / p["d"]) ** (1 / p["f"])) ** (-p["c"] * p["f"])
    unique = min(d, last)
    root = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    # Hoffmann's optimum: N = G (C/6)^a, D = (C/6)^b / G, solved for the N that goes with D unique records
    useful = min(n, root * (unique * root) ** (p["beta"] / p["alpha"]))
    size = useful * (1 + p["R_N*"] * (1 - np.exp(-(n / useful - 1) / p["R_N*"])))
    data = unique * (1 + p["R_D*"] * (1 - np.exp(-(max(last / unique, 1) - 1) / p["R_D*"])))
    return p["E"] + p["A"] * size ** -p["alpha"] + p["B"] * data ** -p["beta"]


@pytest.mark.parametrize("name", LAWS)
def test_the_prediction_is_the_formula_of_the_literature(name):
    law = get(name)
    params = {key: PARAMS[key] for key in law.parameters}
    inputs = made(law, 40)
    expected = [by_hand(name, params, column) for column in inputs.T]
    np.testing.assert_allclose(law.predict(params, *inputs), expected, rtol=1e-9)


def test_kaplan_without_one_of_its_terms_is_a_power_law():
    n = np.geomspace(10, 1e6, 5)
    one = get("kaplan").predict({"A": 50.0, "B": 1e-30, "E": 0.1, "alpha": 0.3, "beta": 0.5}, n, 1e3)
    np.testing.assert_allclose(one, 0.1 + (50 / n) ** 0.3, rtol=1e-9)


def test_records_seen_once_are_worth_what_the_plain_law_says():
    params = {key: PARAMS[key] for key in get("repeated").parameters}
    n, d = 1.5, np.array([100.0, 1000.0])
    np.testing.assert_allclose(get("repeated").predict(params, n, d, d), get("chinchilla").predict(params, n, d))
    assert (get("repeated").predict(params, n, d, 4 * d) > get("chinchilla").predict(params, n, 4 * d)).all()
    assert (get("repeated").predict(params, n, d, 4 * d) < get("chinchilla").predict(params, n, d)).all()


def test_an_unknown_form_is_refused_with_those_there_are():
    with pytest.raises(KeyError, match=r"'hoffmann' is not a form of scaling law; choose one of .*'chinchilla'"):
        get("hoffmann")


def test_non_negative_least_squares_equals_that_of_scipy():
    rng = np.random.default_rng(0)
    basis, target = rng.normal(size=(50, 3, 12)), rng.normal(size=12)
    found, squares = non_negative(basis, target)
    for row in range(50):
        expected, norm = nnls(basis[row].T, target)
        np.testing.assert_allclose(found[row], expected, atol=1e-9)
        assert squares[row] == pytest.approx(norm**2)


def test_huber_is_half_the_square_inside_and_a_line_outside():
    np.testing.assert_allclose(huber(np.array([-0.5, 0.5, -3.0, 3.0]), 1.0), [0.125, 0.125, 2.5, 2.5])
    np.testing.assert_allclose(huber(np.array([-3.0, 3.0]), np.inf), [4.5, 4.5])


@pytest.mark.parametrize("delta", [np.inf, 0.02, 1e-3])
def test_the_descent_finds_what_a_line_search_of_scipy_finds(delta):
    law, rng = get("pow+E"), np.random.default_rng(3)
    x = rng.normal(size=(1, 40))
    truth = np.array([[-1.0, 0.4, 0.5]])
    target = law.evaluate(truth, x)[0][0] + 0.05 * rng.standard_t(3, size=40)
    weights = rng.uniform(0.5, 1.5, 40)
    bounds = (np.array([-25, 0, 1e-3]), np.array([12, 2, 3.0]))
    theta, objective = descend(law, x, target, weights, delta, truth * [[1.2, 0.7, 0.9]], bounds)

    def scaled(each):
        predicted, gradient = law.evaluate(each[None], x)
        residuals = predicted[0] - target
        unit = 1 if np.isinf(delta) else delta**2
        slope = gradient[0] @ (weights * np.clip(residuals, -delta, delta))
        return weights @ huber(residuals, delta) / unit, slope / unit

    found = min(
        (minimize(scaled, start, jac=True, method="BFGS", options={"gtol": 1e-9}) for start in (truth[0], theta[0])),
        key=lambda each: each.fun,
    )
    unit = 1 if np.isinf(delta) else delta**2
    assert objective[0] <= found.fun * unit * (1 + 1e-9)


def test_a_search_that_a_bound_stops_ends_on_it():
    law = get("pow+E")
    x = np.linspace(-3, 3, 20)[None]
    target = -0.3 * x[0]
    low, high = np.array([-25, 0.0, 1e-3]), np.array([12, 0.3, 3.0])
    theta, _ = descend(law, x, target, np.ones(20), np.inf, np.array([[0.1, 0.2, 0.5]]), (low, high))
    assert theta[0] == pytest.approx([0, 0, 0.3], abs=1e-7)
