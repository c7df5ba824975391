"""Publishes a built corpus, with its card, to the Hub or to a folder, if its source and licence allow it.

python dataset_scripts/publish.py OUT ORG/NAME
python dataset_scripts/publish.py OUT ORG/NAME --to_folder FOLDER
"""

import argparse
from pathlib import Path

from ecg_hf.hub.publishing import publish_corpus


def main() -> None:
    """Reads the command line, publishes, and says where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="that build.py wrote")
    parser.add_argument("repo_id", help="name on the Hub, organisation/name")
    parser.add_argument("--to_folder", type=Path, help="a new folder to write to instead of the Hub")
    arguments = parser.parse_args()
    address = publish_corpus(arguments.folder, arguments.repo_id, to_folder=arguments.to_folder)
    print(f"published {arguments.folder} as {address}")


if __name__ == "__main__":
    main()
