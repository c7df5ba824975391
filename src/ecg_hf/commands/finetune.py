"""Probes or fine-tunes a pretrained model on a task and scores it with intervals.

  ecg-hf finetune --model OUT --task synthetic --output_dir PROBE
  ecg-hf finetune --model OUT --task ptbxl_superdiagnostic --mode finetune --data_dir ROOT --output_dir OUT2
  ecg-hf finetune --model OUT --task synthetic --untrained true --output_dir NULL

The last line evaluates the null: the same network before pretraining. The first word may be a YAML recipe; flags
override it. --verbose shows all logs.
"""

import sys
from collections.abc import Sequence

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.evaluation.arguments import FinetuningArguments
from ecg_hf.output.console import prepare_console
from ecg_hf.training.flags import FlagParser
from ecg_hf.training.recipes import parse_arguments


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Fine-tunes and prints the score and where the results are."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    prepare_console(verbose=verbose)
    return run_reporting(
        parser.prog, lambda: _run(parse_arguments(FinetuningArguments, words, parser)), verbose=verbose
    )


def _run(arguments: FinetuningArguments) -> int:
    from ecg_hf.evaluation.finetune import finetune
    from ecg_hf.evaluation.results import read_score

    folder = finetune(arguments)
    twin = ", untrained twin" if arguments.untrained else ""
    print(f"{arguments.task} ({arguments.mode}{twin}): {read_score(folder)}")
    print(f"model, results.json, predictions.parquet and plots: {folder}")
    return 0
