"""Door to `ecg-hf pretrain` for a checkout: `accelerate launch scripts/pretrain.py ...`."""

import sys

from ecg_hf.commands.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
