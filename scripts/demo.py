"""Door to `ecg-hf demo` for a checkout: `python scripts/demo.py ...`."""

import sys

from ecg_hf.commands.demo import main

if __name__ == "__main__":
    sys.exit(main())
