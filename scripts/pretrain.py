"""Pretrains a backbone with an objective.

accelerate launch scripts/pretrain.py --pair s4-cpc --corpus ptbxl --data_dir ROOT --output_dir OUT
accelerate launch scripts/pretrain.py scripts/recipes/s4-cpc-ptbxl.yaml --data_dir ROOT --output_dir OUT --dry_run true
"""

import logging
import sys

from ecg_hf import PretrainingArguments, pretrain
from ecg_hf.training.dry_run import forecast
from ecg_hf.training.pretrain import open_run
from ecg_hf.training.recipes import parse_arguments


def main() -> None:
    """Reads the command line, pretrains and says where the model is, or says what that would take."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    arguments = parse_arguments(PretrainingArguments, sys.argv[1:])
    if arguments.dry_run:
        opened = open_run(arguments)
        said = forecast(opened)
        if opened.trainer.main:
            print(said)
        return
    print(f"pretrained model: {pretrain(arguments)}")


if __name__ == "__main__":
    main()
