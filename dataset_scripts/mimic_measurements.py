"""Door to `ecg-hf mimic-measurements` for a checkout: `python dataset_scripts/mimic_measurements.py ...`."""

import sys

from ecg_hf.commands.mimic_measurements import main

if __name__ == "__main__":
    sys.exit(main())
