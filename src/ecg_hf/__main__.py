"""`python -m ecg_hf COMMAND ...`, the same as `ecg-hf COMMAND ...`; `accelerate launch -m ecg_hf pretrain ...`."""

import sys

from ecg_hf.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
