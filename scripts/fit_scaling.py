"""Door to `ecg-hf fit-scaling` for a checkout: `python scripts/fit_scaling.py ...`."""

import sys

from ecg_hf.commands.fit_scaling import main

if __name__ == "__main__":
    sys.exit(main())
