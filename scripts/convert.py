"""Door to `ecg-hf convert` for a checkout: `python scripts/convert.py ...`."""

import sys

from ecg_hf.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
