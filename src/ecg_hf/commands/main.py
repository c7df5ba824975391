"""The dispatcher: `ecg-hf COMMAND ...`, `python -m ecg_hf COMMAND ...`."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

# Topic -> command -> what it does. The module of a command has its name, with "_" for "-".
COMMANDS: dict[str, dict[str, str]] = {
    "Start": {
        "demo": "Pretrain a small model on synthetic ECGs and compare it with what it must beat.",
    },
    "Data": {
        "corpora": "List the corpora: size, access, licence.",
        "tasks": "List the tasks: corpus, outputs, records.",
        "verify": "Verify a corpus on disk: files, records, units, patients, duplicates.",
        "build": "Build a corpus: Parquet shards at one sampling rate.",
        "publish-corpus": "Publish a built corpus to the Hub or to a folder.",
        "mimic-measurements": "Look up vital signs and lab values near each ECG of MIMIC-IV-ECG.",
    },
    "Models": {
        "pretrain": "Pretrain a backbone with an objective.",
        "finetune": "Probe or fine-tune a model on a task and score it with intervals.",
        "convert": "Convert a checkpoint of study A's code to a model folder.",
        "publish": "Publish a model folder, with its card, to the Hub or to a folder.",
    },
    "Studies": {
        "sweep": "Train and evaluate a grid of runs.",
        "fit-scaling": "Fit scaling laws to a run table and write the report.",
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Words after `ecg-hf`; those of this process if None.

    Returns:
        The exit status: 0, 1 if the command failed, 2 if its words were wrong.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    known = [name for topic in COMMANDS.values() for name in topic]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(help_text())
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"ecg-hf {metadata.version('ecg_hf')}\n")
        return 0
    name = words[0].replace("_", "-")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "ecg-hf --help lists the commands"
        sys.stderr.write(f"ecg-hf: unknown command {words[0]}; {hint}\n")
        return 2
    module = import_module(f"ecg_hf.commands.{name.replace('-', '_')}")
    status: int = module.main(words[1:], f"ecg-hf {name}")
    return status


def help_text() -> str:
    """Returns the text of `ecg-hf --help`."""
    lines = [
        "usage: ecg-hf COMMAND ...",
        "",
        "Electrocardiogram foundation models: data, pretraining, evaluation, laws.",
    ]
    for topic, commands in COMMANDS.items():
        lines += ["", f"{topic}:", *(f"  {name:20}{text}" for name, text in commands.items())]
    lines += ["", "`ecg-hf COMMAND --help` explains a command, with examples. Research software; not a medical device."]
    return "\n".join(lines) + "\n"
