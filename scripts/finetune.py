"""Door to `ecg-hf finetune` for a checkout: `python scripts/finetune.py ...`."""

import sys

from ecg_hf.commands.finetune import main

if __name__ == "__main__":
    sys.exit(main())
