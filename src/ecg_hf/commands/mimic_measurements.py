"""Looks up biometrics, vital signs and lab values near each ECG of MIMIC-IV-ECG, once, for study A's tasks on them.

ecg-hf mimic-measurements --data_dir MIMIC-IV-ECG --mimic_iv MIMIC-IV --mimic_iv_ed MIMIC-IV-ED
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import prepare_console
from ecg_hf.training.flags import FlagParser, option
from ecg_hf.training.recipes import parse_arguments


@dataclass
class MeasurementArguments:
    """Folders of the tables."""

    data_dir: str = option(text="Folder of MIMIC-IV-ECG; labels/measurements.csv is written into it.")
    mimic_iv: str = option(text="Folder of MIMIC-IV, with hosp and icu.")
    mimic_iv_ed: str = option(text="Folder of MIMIC-IV-ED, with ed.")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Looks the values up and prints how many there are."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    prepare_console(verbose=verbose)
    return run_reporting(
        parser.prog, lambda: _run(parse_arguments(MeasurementArguments, words, parser)), verbose=verbose
    )


def _run(arguments: MeasurementArguments) -> int:
    from ecg_hf.corpora.sources.mimic.measurements import write_measurements

    data_dir = Path(arguments.data_dir)
    out = data_dir / "labels" / "measurements.csv"
    counts = write_measurements(data_dir, Path(arguments.mimic_iv), Path(arguments.mimic_iv_ed), out)
    print(f"wrote {out}: {dict(counts)}")
    return 0
