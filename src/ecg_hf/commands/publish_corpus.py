"""Publishes a built corpus, with its card, to the Hub or to a folder, if its source and licence allow it.

ecg-hf publish-corpus built/ptbxl ORG/NAME
ecg-hf publish-corpus built/ptbxl ORG/NAME --to_folder FOLDER
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import prepare_console
from ecg_hf.training.flags import FlagParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Publishes a built corpus and prints where."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    parser.add_argument("folder", type=Path, help="folder that `ecg-hf build` wrote")
    parser.add_argument("repo_id", help="name on the Hub: organisation/name")
    parser.add_argument("--to_folder", type=Path, help="new folder to write to instead of the Hub")
    prepare_console(verbose=verbose)
    return run_reporting(parser.prog, lambda: _run(parser.parse_args(words)), verbose=verbose)


def _run(arguments: Namespace) -> int:
    from ecg_hf.hub.publishing import publish_corpus

    address = publish_corpus(arguments.folder, arguments.repo_id, to_folder=arguments.to_folder)
    print(f"published {arguments.folder} as {address}")
    return 0
