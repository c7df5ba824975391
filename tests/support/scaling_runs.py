"""Made-up scaling studies whose laws are known."""

import numpy as np

LAW = {"A": 3.0, "B": 4.0, "E": 0.05, "alpha": 0.25, "beta": 0.30}
SIZES = np.geomspace(2e4, 2e8, 9)
AMOUNTS = 345_000 / 2.0 ** np.arange(7)


def design() -> tuple[np.ndarray, np.ndarray]:
    """N and D of 30 runs: nine sizes at all data, seven amounts at three sizes, three corners."""
    points = {(n, AMOUNTS[0]) for n in SIZES} | {(n, d) for n in SIZES[[1, 4, 7]] for d in AMOUNTS}
    points |= {(SIZES[0], AMOUNTS[-1]), (SIZES[-1], AMOUNTS[-1]), (SIZES[-1], AMOUNTS[3])}
    n, d = np.array(sorted(points)).T
    return n, d


def loss(n, d, law=LAW):
    return law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]


def columns(noise: float = 0.0, seed: int = 0, law=LAW) -> dict[str, np.ndarray]:
    n, d = design()
    factor = np.exp(noise * np.random.default_rng(seed).normal(size=len(n)))
    return {"n_params": n, "n_unique": d, "value": loss(n, d, law) * factor}


def row(run_id="r0", **changes):
    """A row of the run table as a sweep writes it."""
    return {
        "run_id": run_id,
        "family": "resnet",
        "paradigm": "sl",
        "objective": "supervised",
        "n_params": 2e4,
        "n_unique": 5000,
        "examples_seen": 150_000,
        "flops_fwd": 2e7,
        "seed": 0,
        "status": "done",
        "eval_id": "id-test",
        "eval_group": "id",
        "metric": "nll",
        "value": 0.3,
    } | changes


def rows(noise: float = 0.01, seed: int = 0, law=LAW, **changes):
    made = columns(noise, seed, law)
    name = "-".join(str(changes[key]) for key in ("family", "paradigm") if key in changes)
    return [
        row(
            f"{name}{i}",
            n_params=float(n),
            n_unique=float(d),
            value=float(v),
            flops_fwd=float(400 * n),
            examples_seen=float(30 * d),
        )
        | changes
        for i, (n, d, v) in enumerate(zip(made["n_params"], made["n_unique"], made["value"], strict=True))
    ]
