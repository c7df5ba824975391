"""Converts a pretraining checkpoint of study A's code (arXiv 2605.12241) to a model folder that Auto classes load.

ecg-hf convert jepa_e10.ckpt OUT
ecg-hf convert finetuned.safetensors OUT --pair none --normalization none
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import prepare_console
from ecg_hf.training.flags import FlagParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Converts a checkpoint and prints what became of each part of it."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt of tensors alone, or a .safetensors file")
    parser.add_argument("folder", type=Path, help="new folder, which becomes the model")
    parser.add_argument("--pair", default="auto", help="auto, none (the backbone alone), or the expected pair: s4-jepa")
    parser.add_argument("--normalization", default="auto", help="of the input: auto, none, ptbxl or study_a")
    parser.add_argument("--teacher", choices=["ema", "frozen_random"], help="needed where the diagnosis is unclear")
    parser.add_argument("--causal", choices=["true", "false"], help="of a transformer without its objective's head")
    prepare_console(verbose=verbose)
    return run_reporting(parser.prog, lambda: _run(parser.parse_args(words)), verbose=verbose)


def _run(arguments: Namespace) -> int:
    from ecg_hf.models.conversion.model_folder import convert_checkpoint

    lines = convert_checkpoint(
        arguments.checkpoint,
        arguments.folder,
        pair=arguments.pair,
        normalization=arguments.normalization,
        teacher=arguments.teacher,
        causal=None if arguments.causal is None else arguments.causal == "true",
    )
    print("\n".join(lines))
    print(f"model folder: {arguments.folder}")
    return 0
