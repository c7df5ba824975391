"""How long a scaling law takes to fit: the published Chinchilla fit against a grid of starts, and a bootstrap.

OMP_NUM_THREADS=1 python benchmarks/scaling_fit.py

The grid is Hoffmann et al.'s 4,500 starts with L-BFGS-B, on the same objective with the same analytic gradient; only a
share of the starts is run, as printed, and its time scaled up. Without ../shared/data/scaling-laws the points are
simulated from the published law.
"""

import argparse
import csv
import time
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ecg_hf.scaling.fitting import fit as fitting
from ecg_hf.scaling.fitting.descent import huber
from ecg_hf.scaling.fitting.intervals import bootstrap
from ecg_hf.scaling.laws.names import get

Columns = dict[str, NDArray[np.float64]]

POINTS = Path(__file__).parents[2] / "shared" / "data" / "scaling-laws" / "chinchilla_epoch_svg_extracted.csv"
PUBLISHED = {"A": 477.84, "B": 2143.86, "E": 1.81724, "alpha": 0.347313, "beta": 0.367183}
DELTA = 1e-3
# a, b, e = ln E, alpha, beta; Hoffmann et al. 2022, section D.2
GRID = list(product(np.arange(0, 30, 5), np.arange(0, 30, 5), np.arange(-1, 1.5, 0.5), *[np.arange(0, 2.5, 0.5)] * 2))


def chinchilla() -> tuple[str, Columns]:
    if not POINTS.exists():
        rng = np.random.default_rng(0)
        n, d = np.exp(rng.uniform(np.log(4e7), np.log(1e10), 240)), np.exp(rng.uniform(np.log(4e8), np.log(4e11), 240))
        loss = get("chinchilla").predict(PUBLISHED, n, d) * np.exp(0.005 * rng.standard_t(3, size=240))
        return "240 simulated points", {"N": n, "D": d, "L": loss}
    with POINTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    n, c, loss = (np.array([float(each[name]) for each in rows]) for name in ("Model Size", "Training FLOP", "loss"))
    kept = loss < np.sort(loss)[-5]
    return "240 points of Besiroglu et al. 2024", {"N": n[kept], "D": c[kept] / 6 / n[kept], "L": loss[kept]}


def grid_search(data: Columns, starts: list[tuple[float, ...]]) -> tuple[float, float]:
    """Seconds, and the least objective."""
    x, y, target = np.log(data["N"]), np.log(data["D"]), np.log(data["L"])

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        a, b, e, alpha, beta = theta
        parts = np.stack([a - alpha * x, b - beta * y, np.full_like(x, e)])
        total = np.logaddexp.reduce(parts)
        share = np.exp(parts - total)
        slope = np.clip(total - target, -DELTA, DELTA) / DELTA**2
        gradient = np.array([*(share @ slope), -(share[0] * x) @ slope, -(share[1] * y) @ slope])
        return float(huber(total - target, DELTA).sum() / DELTA**2), gradient

    start = time.perf_counter()
    options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-8}
    best = min(minimize(objective, each, jac=True, method="L-BFGS-B", options=options).fun for each in starts)
    return time.perf_counter() - start, float(best * DELTA**2)


def study(seed: int = 0) -> Columns:
    """63 runs, nine sizes by seven amounts, with one percent of noise."""
    n, d = (each.ravel() for each in np.meshgrid(np.geomspace(2e4, 2e8, 9), 345_000 / 2.0 ** np.arange(7)))
    law = {"A": 3.0, "B": 4.0, "E": 0.05, "alpha": 0.25, "beta": 0.30}
    noise = np.exp(0.01 * np.random.default_rng(seed).normal(size=63))
    return {"N": n, "D": d, "L": get("chinchilla").predict(law, n, d) * noise}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-grid-starts", type=int, default=90, help="of the grid's 4,500, spread over it")
    parser.add_argument("--num-replicates", type=int, default=1000)
    parser.add_argument("--num-rounds", type=int, default=5, help="the fastest counts")
    arguments = parser.parse_args()
    name, data = chinchilla()
    rounds = []
    for _ in range(arguments.num_rounds):
        start = time.perf_counter()
        fitted = fitting.fit(data, "chinchilla", delta=DELTA)
        rounds.append(time.perf_counter() - start)
    order = np.random.default_rng(0).permutation(len(GRID))[: arguments.num_grid_starts]
    seconds, least = grid_search(data, [GRID[number] for number in order])
    whole = seconds * len(GRID) / len(order)
    small = fitting.fit(study(), "chinchilla")
    start = time.perf_counter()
    boot = bootstrap(small, arguments.num_replicates)
    taken = time.perf_counter() - start
    print(f"{name}, delta {DELTA:g}, one core\n")
    print("| what | seconds | objective | alpha | beta |\n|---|---|---|---|---|")
    params = fitted.params
    print(f"| ecg_hf fit | {min(rounds):.3f} | {fitted.objective:.9f} | {params['alpha']:.6f} | {params['beta']:.6f} |")
    print(
        f"| L-BFGS-B from {len(GRID)} starts, extrapolated from {len(order)} ({100 * len(order) / len(GRID):.0f} %) | "
        f"{whole:.1f} | {least:.9f} | | |"
    )
    print(f"\nratio {whole / min(rounds):.0f}; difference of the objectives {fitted.objective - least:+.1e}\n")
    print("| what | seconds | replicates | alpha |\n|---|---|---|---|")
    estimate = boot.estimate("alpha")
    print(
        f"| bootstrap of a 63-run chinchilla fit | {taken:.2f} | {len(boot.theta)} | "
        f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}) |"
    )


if __name__ == "__main__":
    main()
