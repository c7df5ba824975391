"""Pretrains a backbone with an objective.

accelerate launch scripts/pretrain.py --pair s4-cpc --corpus ptbxl --data_dir ROOT --output_dir OUT
accelerate launch scripts/pretrain.py scripts/recipes/s4-cpc-ptbxl.yaml --data_dir ROOT --output_dir OUT
"""

import logging
import sys

from ecg_hf import PretrainingArguments, pretrain
from ecg_hf.arguments import parse_arguments


def main() -> None:
    """Reads the command line, pretrains, and says where the model is."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    folder = pretrain(parse_arguments(PretrainingArguments, sys.argv[1:]))
    print(f"pretrained model: {folder}")


if __name__ == "__main__":
    main()
