"""Fits the laws of a run table and writes the report: report.md, report.json, card_section.md and plots.

python scripts/fit_scaling.py RUNS OUT [--form chinchilla] [--num_replicates 1000]
"""

import argparse
import logging
from pathlib import Path
from typing import Literal

from ecg_hf.scaling.fitting.cell_fit import REPORTED
from ecg_hf.scaling.report.contrasts import contrast
from ecg_hf.scaling.report.report import write_report
from ecg_hf.scaling.report.study import analyse
from ecg_hf.scaling.table.row import AMOUNTS, SIZES
from ecg_hf.scaling.table.run_table import RunTable


def main() -> None:
    """Reads the command line, fits every cell on every evaluation, and says where the report is."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="run table: .jsonl, .csv, .parquet or .json")
    parser.add_argument("out", type=Path, help="folder of the report")
    parser.add_argument("--form", default="chinchilla", choices=REPORTED, help="of the law that is reported")
    parser.add_argument(
        "--delta", default="auto", type=_delta, help="where Huber's loss becomes linear: auto, or such as 0.001 or inf"
    )
    parser.add_argument("--size", default="n_params", choices=SIZES, help="which column N is")
    parser.add_argument("--data", default="n_unique", choices=AMOUNTS, help="which column D is")
    parser.add_argument("--num_replicates", type=int, default=1000, help="of each bootstrap over runs")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstraps")
    parser.add_argument(
        "--per_label", action="store_true", help="laws of single labels too, and not of whole tasks alone"
    )
    parser.add_argument("--trackio", action="store_true", help="RUNS is a project that trackio exported to Parquet")
    parser.add_argument("--ignore", nargs="*", default=[], help="columns of RUNS that are not of the run table")
    arguments = parser.parse_args()
    read = RunTable.from_trackio if arguments.trackio else RunTable.read
    table = read(arguments.runs, size=arguments.size, data=arguments.data, ignore=arguments.ignore)
    study = analyse(
        table if arguments.per_label else table.of_tasks(),
        form=arguments.form,
        num_replicates=arguments.num_replicates,
        seed=arguments.seed,
        delta=arguments.delta,
        say=print,
    )
    path = write_report(study, contrast(study, say=print), arguments.out)
    laws, flags = list(study.each()), sum(len(law.fit.flags) for law in study.each())
    print(f"{len(laws)} laws, {flags} flags, {len(study.missing)} left out: {path}")


def _delta(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else float(text)


if __name__ == "__main__":
    main()
