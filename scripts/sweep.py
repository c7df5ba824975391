"""Trains and evaluates a grid of runs and writes the run table of its scaling study.

python scripts/sweep.py scripts/grids/laptop.yaml OUT --workers 2
python scripts/sweep.py scripts/grids/study-b.yaml OUT --workers 32 --cluster slurm --slurm gpus_per_node=1
python scripts/sweep.py scripts/grids/study-b.yaml OUT --list

The same command, stopped or killed anywhere and run again, does what is left: finished runs are not touched, broken
ones go on from their last checkpoint, failed ones begin again. OUT/runs.jsonl, which scripts/fit_scaling.py reads, is
made anew of the finished runs each time; OUT/logs has what each run said.
"""

import argparse
import os
import signal
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_MININTERVAL", "60")  # seconds: a log is no terminal
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from ecg_hf.arguments import parse_fields
from ecg_hf.errors import EcgError
from ecg_hf.listing import make_table
from ecg_hf.sweeps.grid import read_grid
from ecg_hf.sweeps.model_size import count_flops, measure
from ecg_hf.sweeps.sweep import Sweep
from ecg_hf.sweeps.table import TABLE


def parse() -> Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="YAML file, see scripts/grids")
    parser.add_argument("out", type=Path, help="folder of the sweep")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run on this machine")
    parser.add_argument("--cluster", default="processes", choices=["processes", "slurm", "local"])
    parser.add_argument("--slurm", nargs="*", default=[], help="Slurm settings, such as partition=gpu")
    parser.add_argument("--list", action="store_true", help="only list the runs and what they take")
    return parser.parse_args()


def list_runs(sweep: Sweep) -> str:
    """Lists the runs with size and compute, and what all of them take together."""
    rows, total = [["run", "N", "steps", "FLOP", "state"]], 0.0
    for point, job in sweep.jobs().items():
        arguments, size = job.arguments, measure(job.arguments)
        crops = arguments.max_steps * arguments.batch_size * arguments.gradient_accumulation_steps
        flops = 3.0 * count_flops(arguments) * crops
        total += flops
        state = "done" if job.done() else ""
        rows.append([point.run_id, f"{size.n_params:,}", str(arguments.max_steps), f"{flops:.2e}", state])
    return f"{make_table(rows)}{len(rows) - 1} runs, at most {total:.2e} FLOP"


def stop(*_: Any) -> None:
    """Lets SIGTERM end a sweep as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Runs the sweep and says where its table is and what failed."""
    arguments = parse()
    settings = {f"slurm_{name}": value for name, value in parse_fields(arguments.slurm).items()}
    sweep = Sweep(
        read_grid(arguments.grid),
        arguments.out,
        workers=arguments.workers,
        threads=arguments.threads,
        cluster=arguments.cluster,
        settings=settings,
    )
    if arguments.list:
        print(list_runs(sweep))
        return 0
    signal.signal(signal.SIGTERM, stop)
    try:
        failed = sweep.run()
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (EcgError, ValueError, FloatingPointError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"run table: {arguments.out / TABLE}")
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
