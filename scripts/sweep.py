"""Door to `ecg-hf sweep` for a checkout: `python scripts/sweep.py ...`."""

import sys

from ecg_hf.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main())
