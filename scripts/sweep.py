"""Trains and evaluates a grid of runs and writes the run table of its scaling study.

python scripts/sweep.py scripts/grids/laptop.yaml OUT --workers 2
python scripts/sweep.py scripts/grids/study-b.yaml OUT --workers 32 --cluster slurm --slurm gpus_per_node=1
python scripts/sweep.py scripts/grids/study-b.yaml OUT --list

The same command, stopped or killed anywhere and run again, does what is left: finished runs are not touched, broken
ones go on from their last checkpoint, failed ones begin again. OUT/runs.jsonl, which scripts/fit_scaling.py reads, is
made anew each time and names the runs that failed or are not done; OUT/logs has what each run said.
"""

import argparse
import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_MININTERVAL", "60")  # seconds: a log is no terminal
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from ecg_hf.errors import EcgError
from ecg_hf.output.text_table import make_table
from ecg_hf.scaling.sweep.grid import read_grid
from ecg_hf.scaling.sweep.model_size import measure
from ecg_hf.scaling.sweep.sweep import Sweep
from ecg_hf.scaling.sweep.table import TABLE


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


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Reads Slurm settings, each name=value: text but for whole numbers, true and false.

    YAML would take 24:00:00 for 86400, and the account 0123 for 83.
    """
    known: dict[str, Any] = {"true": True, "false": False}
    settings = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not (name and separator):
            raise ValueError(f"a Slurm setting must be name=value, got {word!r}; write for example partition=gpu")
        whole = re.fullmatch("0|[1-9][0-9]*", value, re.ASCII)
        settings[f"slurm_{name}"] = int(value) if whole else known.get(value, value)
    return settings


def list_runs(sweep: Sweep) -> str:
    """Lists the runs with size and compute, and what all of them and the trials of learning rates take together."""
    rules, trials = sweep.rules(), sweep.trials()
    jobs = sweep.jobs(rules)
    rows = [["run", "N", "steps", "FLOP", "state"]]
    for point, job in jobs.items():
        state = "rate not known" if rules is None else "done" if job.done() else ""
        size = measure(job.arguments)
        rows.append([point.run_id, f"{size.n_params:,}", str(job.arguments.max_steps), f"{job.flops:.2e}", state])
    total, tried = sum(job.flops for job in jobs.values()), sum(trial.flops for trial in trials)
    text = f"{make_table(rows)}{len(jobs)} runs, at most {total:.2e} FLOP"
    if not trials:
        return text
    before = f"{len(trials)} trials of learning rates ({sum(trial.done() for trial in trials)} done)"
    return f"{text}; before them {before}, at most {tried:.2e} FLOP; together {total + tried:.2e} FLOP"


def stop(*_: Any) -> None:
    """Ends a sweep as Ctrl-C does."""
    raise KeyboardInterrupt


def heed_signals() -> None:
    """Lets SIGTERM, and a terminal that closes, end a sweep as Ctrl-C does; what nohup ignores stays ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def main() -> int:
    """Runs the sweep and says where its table is and what failed."""
    arguments = parse()
    heed_signals()
    try:
        sweep = Sweep(
            read_grid(arguments.grid),
            arguments.out,
            workers=arguments.workers,
            threads=arguments.threads,
            cluster=arguments.cluster,
            settings=parse_settings(arguments.slurm),
        )
        if arguments.list:
            print(list_runs(sweep))
            return 0
        failed = sweep.run()
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (EcgError, ValueError, KeyError, FloatingPointError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"run table: {arguments.out / TABLE}")
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
