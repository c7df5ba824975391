"""Trains and evaluates a grid of runs and writes the run table of its scaling study.

  ecg-hf sweep scripts/grids/laptop.yaml OUT --workers 2
  ecg-hf sweep scripts/grids/study-b.yaml OUT --workers 32 --cluster slurm --slurm gpus_per_node=1
  ecg-hf sweep scripts/grids/study-b.yaml OUT --list

The same command, stopped or killed at any point and run again, does what is left: finished runs are not touched,
interrupted ones resume from their last checkpoint, failed ones start again. OUT/runs.jsonl, the table that
`ecg-hf fit-scaling` reads, is written anew each time and names the runs that failed or are not done; OUT/logs holds
the log of each run.
"""

import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import prepare_console
from ecg_hf.output.text_table import make_table
from ecg_hf.training.flags import FlagParser

if TYPE_CHECKING:
    from ecg_hf.scaling.sweep.sweep import Sweep


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the sweep and prints where its table is and which runs failed."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    parser.add_argument("grid", type=Path, help="YAML file of the grid, see scripts/grids")
    parser.add_argument("out", type=Path, help="folder of the sweep")
    parser.add_argument("--list", action="store_true", help="only list the runs with their size and compute")
    machines = parser.add_argument_group("Machines")
    machines.add_argument("--workers", type=int, default=1, help="runs at a time")
    machines.add_argument("--threads", type=int, default=1, help="threads of each run on this machine")
    machines.add_argument("--cluster", default="processes", choices=["processes", "slurm", "local"], help="where")
    machines.add_argument("--slurm", nargs="*", default=[], help="Slurm settings, such as partition=gpu")
    prepare_console(verbose=verbose)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # of the runs, whose output goes to log files
    heed_signals()
    return run_reporting(parser.prog, lambda: _run(parser.parse_args(words)), verbose=verbose)


def _run(arguments: Namespace) -> int:
    from ecg_hf.scaling.sweep.grid import read_grid
    from ecg_hf.scaling.sweep.sweep import Sweep
    from ecg_hf.scaling.sweep.table import TABLE

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
        print("stopped; the same command resumes the sweep", file=sys.stderr)
        return 130
    print(f"run table: {arguments.out / TABLE}")
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Reads Slurm settings, each name=value: text except for whole numbers, true and false.

    YAML would read 24:00:00 as 86400, and the account 0123 as 83.

    Raises:
        ValueError: If a word has no "=".
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


def list_runs(sweep: "Sweep") -> str:
    """Lists the runs with size and compute, and the compute of all of them and of the trials of learning rates."""
    from ecg_hf.scaling.sweep.model_size import measure

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
    """Lets SIGTERM, and a terminal that closes, end a sweep as Ctrl-C does; ignored signals stay ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
