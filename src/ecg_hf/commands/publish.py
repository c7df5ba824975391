"""Publishes a model folder, with its model card, to the Hub or to a folder.

ecg-hf publish --folder OUT --repo_id ORG/NAME --licence apache-2.0
ecg-hf publish --folder OUT --repo_id ORG/NAME --licence apache-2.0 --to_folder MODEL
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import prepare_console
from ecg_hf.training.flags import FlagParser, option
from ecg_hf.training.recipes import parse_arguments


@dataclass
class PublishingArguments:
    """Arguments of the publication of a model."""

    folder: str = option(text="Folder that pretrain or finetune wrote.")
    repo_id: str = option(text="Name on the Hub: organisation/name.")
    licence: str | None = option(None, "Licence of the weights; that of run.json if not given.")
    licence_link: str | None = option(None, "Address of the text of an unusual licence.")
    private: bool | None = option(None, "Whether the repository is private; it is if a source is not open.")
    results: list[str] = option([], "results.json of models that were fine-tuned from this one.")
    to_folder: str | None = option(None, "New folder to write to instead of the Hub.")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Publishes a model and prints where."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    prepare_console(verbose=verbose)
    return run_reporting(
        parser.prog, lambda: _run(parse_arguments(PublishingArguments, words, parser)), verbose=verbose
    )


def _run(arguments: PublishingArguments) -> int:
    from ecg_hf.hub.publishing import publish

    address = publish(
        Path(arguments.folder),
        arguments.repo_id,
        licence=arguments.licence,
        licence_link=arguments.licence_link,
        private=arguments.private,
        results=[Path(path) for path in arguments.results],
        to_folder=Path(arguments.to_folder) if arguments.to_folder else None,
    )
    print(f"published {arguments.folder} as {address}")
    return 0
