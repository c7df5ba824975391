"""Lists the corpora with their sizes, access and licences; no data are read.

ecg-hf corpora
"""

import sys
from collections.abc import Sequence

from ecg_hf.training.flags import FlagParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Prints the table of corpora."""
    FlagParser(__doc__, prog).parse_args(sys.argv[1:] if argv is None else argv)
    from ecg_hf.corpora.__main__ import main as print_table

    print_table()
    return 0
