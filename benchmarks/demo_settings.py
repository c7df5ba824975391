"""What the demonstration's model gains over its nulls, by the number of steps and the seed.

OMP_NUM_THREADS=1 python benchmarks/demo_settings.py
python benchmarks/demo_settings.py --steps 3 --seeds 0

`ecg-hf demo` shows one of these runs: the number of steps at which the gain over the untrained twin excludes zero for
every seed and the whole demonstration takes less than four minutes on two cores.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from ecg_hf.commands.demo import pretrain_small, probe, read_scores
from ecg_hf.evaluation.metrics import evaluate_predictions, paired_difference
from ecg_hf.output.console import prepare_console


def measure(folder: Path, steps: int, seed: int) -> str:
    """Runs pretraining and probes, and returns a row of the table."""
    started = time.perf_counter()
    model = pretrain_small(folder / "model", steps, seed)
    probes = {name: probe(model, folder / name, name == "untrained") for name in ("probe", "untrained")}
    labels, targets, patients, scores = read_scores(probes, model)
    seconds = time.perf_counter() - started
    values = [
        evaluate_predictions(targets, found, patients, label_names=labels)["overall"]["macro_auroc"]["value"]
        for found in scores.values()
    ]
    first, *others = scores
    gains = [str(paired_difference(targets, scores[first], scores[name], patients)) for name in others]
    return " | ".join([str(steps), str(seed), *(f"{value:.3f}" for value in values), *gains, f"{seconds:.0f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 200, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    prepare_console()
    print("| steps | seed | pretrained | untrained twin | simple features | gain over twin | over features | s |")
    print("|---|---|---|---|---|---|---|---|")
    for steps in arguments.steps:
        for seed in arguments.seeds:
            folder = Path(tempfile.mkdtemp())
            print(f"| {measure(folder, steps, seed)} |", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
