"""Door to `ecg-hf publish-corpus` for a checkout: `python dataset_scripts/publish.py ...`."""

import sys

from ecg_hf.commands.publish_corpus import main

if __name__ == "__main__":
    sys.exit(main())
