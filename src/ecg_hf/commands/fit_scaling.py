"""Fits scaling laws to a run table and writes the report: report.md, report.json, card_section.md and plots.

ecg-hf fit-scaling OUT/runs.jsonl OUT/report
ecg-hf fit-scaling OUT/runs.jsonl OUT/report --form kaplan --num_replicates 200
"""

import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import prepare_console
from ecg_hf.training.flags import FlagParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Fits every cell on every evaluation and prints where the report is."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    parser.add_argument("runs", type=Path, help="run table: .jsonl, .csv, .parquet or .json")
    parser.add_argument("out", type=Path, help="folder of the report")
    laws = parser.add_argument_group("Laws")
    laws.add_argument("--form", default="chinchilla", help="form of the reported law, such as chinchilla or kaplan")
    laws.add_argument("--delta", default="auto", help="residual at which Huber's loss becomes linear: auto, 0.001, inf")
    laws.add_argument("--size", default="n_params", help="column that is N, the size")
    laws.add_argument("--data", default="n_unique", help="column that is D, the amount of data")
    laws.add_argument("--per_label", action="store_true", help="also fit laws of single labels, not only of tasks")
    intervals = parser.add_argument_group("Intervals")
    intervals.add_argument("--num_replicates", type=int, default=1000, help="replicates of each bootstrap over runs")
    intervals.add_argument("--seed", type=int, default=0, help="seed of the bootstraps")
    table = parser.add_argument_group("Run table")
    table.add_argument("--trackio", action="store_true", help="RUNS is a project that trackio exported to Parquet")
    table.add_argument("--ignore", nargs="*", default=[], help="columns of RUNS that are not of the run table")
    prepare_console(verbose=verbose)
    return run_reporting(parser.prog, lambda: _run(parser.parse_args(words)), verbose=verbose)


def _run(arguments: Namespace) -> int:
    from ecg_hf.scaling.fitting.cell_fit import REPORTED
    from ecg_hf.scaling.report.contrasts import contrast
    from ecg_hf.scaling.report.report import write_report
    from ecg_hf.scaling.report.study import analyse
    from ecg_hf.scaling.table.row import AMOUNTS, SIZES
    from ecg_hf.scaling.table.run_table import RunTable

    _check("--form", arguments.form, REPORTED)
    _check("--size", arguments.size, SIZES)
    _check("--data", arguments.data, AMOUNTS)
    read = RunTable.from_trackio if arguments.trackio else RunTable.read
    table = read(arguments.runs, size=arguments.size, data=arguments.data, ignore=arguments.ignore)
    study = analyse(
        table if arguments.per_label else table.of_tasks(),
        form=arguments.form,
        num_replicates=arguments.num_replicates,
        seed=arguments.seed,
        delta=_delta(arguments.delta),
        say=print,
    )
    path = write_report(study, contrast(study, say=print), arguments.out)
    laws, flags = list(study.each()), sum(len(law.fit.flags) for law in study.each())
    print(f"{len(laws)} laws, {flags} flags, {len(study.missing)} left out: {path}")
    return 0


def _check(flag: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{flag} must be one of {', '.join(allowed)}, got {value!r}")


def _delta(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else float(text)
