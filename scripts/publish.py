"""Publishes a run folder, with its model card, to the Hub or to a folder.

python scripts/publish.py --folder OUT --repo_id ORG/NAME --licence apache-2.0
python scripts/publish.py --folder OUT --repo_id ORG/NAME --licence apache-2.0 --to_folder MODEL
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from ecg_hf.training.recipes import parse_arguments


@dataclass
class PublishingArguments:
    """What to publish, where, and on which terms."""

    folder: str = field(metadata={"help": "Folder that pretrain.py or finetune.py wrote."})
    repo_id: str = field(metadata={"help": "Name on the Hub, organisation/name."})
    licence: str | None = field(default=None, metadata={"help": "Of the weights; run.json's if not given."})
    licence_link: str | None = field(default=None, metadata={"help": "Where the text of an unusual licence is."})
    private: bool | None = field(default=None, metadata={"help": "true or false; private if a source is not open."})
    results: list[str] = field(default_factory=list, metadata={"help": "results.json of models fine-tuned from it."})
    to_folder: str | None = field(default=None, metadata={"help": "A new folder to write to instead of the Hub."})


def main() -> None:
    """Reads the command line, publishes, and says where."""
    arguments = parse_arguments(PublishingArguments, sys.argv[1:])
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


if __name__ == "__main__":
    main()
