"""A long run that is killed about once a minute, beside one that is not: both must end with the same bits.

python tests/faults/soak.py --minutes 30
python tests/faults/soak.py --minutes 30 --corpus BUILT_FOLDER BUILT_FOLDER --sampling_rate 240
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from children import same_run

from mixture import build_mixture
from places import ROOT

SCRIPT = ROOT / "scripts" / "pretrain.py"
RUN = {
    "pair": "s4-jepa",
    "size": "20k",
    "crop_duration_s": 2.5,
    "batch_size": 16,
    "warmup_steps": 100,
    "validation_steps": 500,
    "checkpoint_steps": 50,
    "num_checkpoints": 3,
    "num_workers": 0,
    "resume": "true",
}


def start(folder: Path, corpora: list[Path], rate: float, steps: int) -> subprocess.Popen:
    """Starts or continues a run; what it says goes to a file beside its folder."""
    words = [word for name, value in RUN.items() for word in (f"--{name}", str(value))]
    weights = [str(1 + number) for number in range(len(corpora))]
    command = [sys.executable, str(SCRIPT), *words, "--corpus", *map(str, corpora), "--corpus_weights", *weights]
    with Path(f"{folder}.log").open("a") as log:
        return subprocess.Popen(
            [*command, "--sampling_rate", str(rate), "--max_steps", str(steps), "--output_dir", str(folder)],
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_MININTERVAL": "60"},
        )


def steps_of(minutes: float, folder: Path, corpora: list[Path], rate: float) -> int:
    """Finds out how many steps take so long on this machine, while two runs share it."""
    pair = [start(folder / f"trial{number}", corpora, rate, 60) for number in (0, 1)]
    assert [process.wait() for process in pair] == [0, 0], f"see {folder}/trial0.log"
    rows = [json.loads(line) for line in (folder / "trial0" / "metrics.jsonl").read_text().splitlines()]
    return round(minutes * 60 / ((rows[-1]["seconds"] - rows[19]["seconds"]) / 40))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kill_every", type=float, default=60, help="seconds, in the mean")
    parser.add_argument("--corpus", type=Path, nargs="+", help="folders of built corpora; made-up ones if none")
    parser.add_argument("--sampling_rate", type=float, default=100)
    parser.add_argument("--output", type=Path, default=Path("build/soak"))
    run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Kills one run and not the other, and compares them."""
    arguments.output.mkdir(parents=True)
    corpora = arguments.corpus or build_mixture(arguments.output / "corpora")
    steps = steps_of(arguments.minutes, arguments.output, corpora, arguments.sampling_rate)
    whole, broken = arguments.output / "whole", arguments.output / "broken"
    unbroken = start(whole, corpora, arguments.sampling_rate, steps)
    generator, kills, begun = random.Random(0), 0, time.monotonic()
    while True:
        process = start(broken, corpora, arguments.sampling_rate, steps)
        try:
            status = process.wait(generator.uniform(0.2, 1.8) * arguments.kill_every)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            break
    minutes = (time.monotonic() - begun) / 60
    assert status == 0, f"see {broken}.log"
    assert unbroken.wait() == 0, f"see {whole}.log"
    print(f"s4-jepa, {len(corpora)} corpora, {steps:,} steps of {RUN['batch_size']} crops in {minutes:.1f} minutes")
    same = same_run(broken, whole)
    print(f"{kills} kills at random moments; weights and {steps:,} rows of the log the same: {same}")
    assert same and kills


if __name__ == "__main__":
    main()
