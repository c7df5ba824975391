"""Looks up biometrics, vital signs and lab values near each ECG of MIMIC-IV-ECG, once, for study A's tasks on them.

python dataset_scripts/mimic_measurements.py --data_dir MIMIC-IV-ECG --mimic_iv MIMIC-IV --mimic_iv_ed MIMIC-IV-ED
"""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ecg_hf.training.recipes import parse_arguments


@dataclass
class MeasurementArguments:
    """Where the tables are."""

    data_dir: str = field(metadata={"help": "Folder of MIMIC-IV-ECG; labels/measurements.csv is written into it."})
    mimic_iv: str = field(metadata={"help": "Folder of MIMIC-IV, with hosp and icu."})
    mimic_iv_ed: str = field(metadata={"help": "Folder of MIMIC-IV-ED, with ed."})


def main() -> None:
    """Reads the command line, looks the values up, and says how many there are."""
    arguments = parse_arguments(MeasurementArguments, sys.argv[1:])
    logging.basicConfig(level=logging.INFO)
    from ecg_hf.corpora.sources.mimic.measurements import write_measurements

    data_dir, out = Path(arguments.data_dir), Path(arguments.data_dir) / "labels" / "measurements.csv"
    counts = write_measurements(data_dir, Path(arguments.mimic_iv), Path(arguments.mimic_iv_ed), out)
    sys.stdout.write(f"wrote {out}: {dict(counts)}\n")


if __name__ == "__main__":
    main()
