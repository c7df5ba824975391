"""Door to `ecg-hf verify` for a checkout: `python dataset_scripts/verify.py ...`."""

import sys

from ecg_hf.commands.verify import main

if __name__ == "__main__":
    sys.exit(main())
