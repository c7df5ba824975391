"""Door to `ecg-hf publish` for a checkout: `python scripts/publish.py ...`."""

import sys

from ecg_hf.commands.publish import main

if __name__ == "__main__":
    sys.exit(main())
