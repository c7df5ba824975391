"""Probes or fine-tunes a pretrained model on a task and scores it with intervals.

python scripts/finetune.py --model OUT --task ptbxl_superdiagnostic --mode linear --data_dir ROOT --output_dir OUT2
"""

import logging
import sys

from ecg_hf import FinetuningArguments, finetune
from ecg_hf.evaluation.results import read_score
from ecg_hf.training.recipes import parse_arguments


def main() -> None:
    """Reads the command line, fine-tunes, and says how good the model is and where it is."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    arguments = parse_arguments(FinetuningArguments, sys.argv[1:])
    folder = finetune(arguments)
    print(f"{arguments.task} ({arguments.mode}): {read_score(folder)}: {folder}")


if __name__ == "__main__":
    main()
