"""Lists the tasks with their corpora, outputs and records; no data are read.

ecg-hf tasks
"""

import sys
from collections.abc import Sequence

from ecg_hf.training.flags import FlagParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Prints the table of tasks."""
    FlagParser(__doc__, prog).parse_args(sys.argv[1:] if argv is None else argv)
    from ecg_hf.tasks.__main__ import main as print_table

    print_table()
    return 0
