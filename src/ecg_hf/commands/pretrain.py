"""Pretrains a backbone with an objective.

  ecg-hf pretrain --pair s4-cpc --size 63k --max_steps 200 --output_dir OUT
  ecg-hf pretrain --pair s4-jepa --corpus ptbxl --data_dir ROOT --output_dir OUT --dry_run true
  accelerate launch -m ecg_hf pretrain scripts/recipes/s4-jepa.yaml --data_dir ROOT --output_dir OUT

The first word may be a YAML recipe; flags override it. --verbose shows all logs.
"""

import sys
from collections.abc import Sequence

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.output.console import prepare_console
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.flags import FlagParser
from ecg_hf.training.recipes import parse_arguments


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Pretrains, or reports what a run needs, and prints where the model is."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    prepare_console(verbose=verbose)
    return run_reporting(
        parser.prog, lambda: _run(parse_arguments(PretrainingArguments, words, parser)), verbose=verbose
    )


def _run(arguments: PretrainingArguments) -> int:
    from accelerate import PartialState

    from ecg_hf.output.files import read_json
    from ecg_hf.training.dry_run import forecast
    from ecg_hf.training.pretrain import open_run, pretrain

    if arguments.dry_run:
        opened = open_run(arguments)
        report = forecast(opened)
        if opened.trainer.main:
            print(report)
        return 0
    folder = pretrain(arguments)
    if PartialState().is_main_process:
        run = read_json(folder / "run.json")
        print(f"{run['steps']} steps in {run['seconds']:.0f} s, best validation loss {run['validation_loss']:.4g}")
        print(f"loss curve: {folder / 'loss.png'}")
        print(f"pretrained model: {folder}")
    return 0
