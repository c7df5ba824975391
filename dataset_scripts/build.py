"""Door to `ecg-hf build` for a checkout: `python dataset_scripts/build.py ...`."""

import sys

from ecg_hf.commands.build import main

if __name__ == "__main__":
    sys.exit(main())
