"""Runs of shown commands, typed as a reader types them but small."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from example_inputs import NUM_RECORDS, Desk
from hub_server import HubServer
from places import ROOT
from shown_commands import Shown
from typed_commands import Typed, parse, resolve

COPIED = ("scripts", "dataset_scripts", "benchmarks", "docs")  # commands may write into these
LINKED = (".git", "src", "tests", "model_cards")
ON_CPUS = "two-cpu-processes.yaml"
TIMEOUT_S = 600
COMPUTED = ["--corpus_fields", f"num_records={NUM_RECORDS}"]

# What is typed behind the words of a command so that it ends in seconds.
SHRINK: dict[str, Callable[[Any], list[str]]] = {
    "demo": lambda arguments: ["--max_steps", "3"],
    "build": lambda arguments: [
        *("--num_shards", "1", "--workers", "1", "--cluster", "local"),
        *([] if arguments.shard is None else ["--shard", "0"]),
    ],
    "pretrain": lambda arguments: [
        *("--size", "20k", "--max_steps", "2", "--batch_size", "4", "--max_validation_records", "8"),
        *("--mixed_precision", "no", "--num_workers", "0"),
        *(COMPUTED if arguments.corpus == ["synthetic"] else []),
    ],
    "finetune": lambda arguments: [
        *("--epochs", "1", "--batch_size", "8", "--num_resamples", "10"),
        *(COMPUTED if arguments.task == "synthetic" else []),
    ],
    "fit-scaling": lambda arguments: ["--num_replicates", "10"],
}


def can_run(shown: Shown) -> bool:
    """Tells whether a command runs on one machine without a GPU, a cluster or the internet."""
    if shown.code:
        return True
    typed = resolve(shown.words)
    many = typed.launcher == "sbatch" or ("--config_file" in typed.launch and ON_CPUS not in " ".join(typed.launch))
    away = typed.name == "sweep" and "slurm" in typed.words
    ours = typed.kind in ("command", "help") or typed.name.startswith(("ecg_hf", "scripts/"))
    return ours and not many and not away


def make_checkout(folder: Path, model: Path) -> Desk:
    """Makes a folder in which commands find what they find in a checkout, and may write."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LINKED:
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return Desk(folder, model)


def run_small(shown: Shown, desk: Desk, hub: HubServer) -> str:
    """Runs a command or Python example in small.

    Args:
        shown: The command.
        desk: Folder in which the commands before it were run.
        hub: A Hub, for commands that publish.

    Returns:
        What it printed.
    """
    if shown.code:
        desk.supply_example(shown.code)
        for name in shown.words:
            (desk.folder / name).write_text(shown.code, encoding="utf-8")
        return run_words([sys.executable, "-c", shown.code], desk.folder)
    typed, more = resolve(shown.words), []
    arguments = parse(typed, desk.folder)
    if typed.kind == "command" and arguments is not None:
        desk.supply(typed.name, arguments)
        more = SHRINK.get(typed.name, lambda _: [])(arguments)
        clear(typed.name, arguments, desk.folder)
    variables = shown.environment | hub_variables(typed, hub)
    # An example is but a part of its corpus, which verify reports with status 1.
    verdict = r"# .*: \*\*(passed|failed)\*\*\n" if typed.name == "verify" else None
    printed = run_words([*as_typed(shown.words), *more], desk.folder, variables, verdict)
    check_paths(printed, shown, desk.folder)
    return printed


def clear(name: str, arguments: Any, folder: Path) -> None:
    """Makes the folder that a run writes to a new one, and a grid that it reads a small one."""
    output = getattr(arguments, "output_dir", None) or getattr(arguments, "to_folder", None)
    if name == "convert":
        output = arguments.folder
    if output and not getattr(arguments, "resume", False):
        shutil.rmtree(folder / output, ignore_errors=True)
    if name == "sweep" and not arguments.list:
        shrink_grid(folder / arguments.grid)


def as_typed(words: tuple[str, ...]) -> list[str]:
    """Names the programs of this environment, which need not be on the path."""
    if words[0] == "ecg-hf":
        return [sys.executable, "-m", "ecg_hf", *words[1:]]
    if words[:2] == ("accelerate", "launch"):
        return [sys.executable, "-m", "accelerate.commands.launch", *words[2:]]
    return [sys.executable, *words[1:]]


def hub_variables(typed: Typed, hub: HubServer) -> dict[str, str]:
    """Lists the variables that lead a command that publishes to a Hub of the tests."""
    if not typed.name.startswith("publish"):
        return {}
    return {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "x"}


def run_words(
    words: list[str], folder: Path, variables: dict[str, str] | None = None, verdict: str | None = None
) -> str:
    """Runs words in a folder and returns what they printed; a failure shows the last lines.

    Args:
        words: Program and words.
        folder: Working folder.
        variables: Further variables of the environment.
        verdict: Beginning of what is printed, as a regular expression, where status 1 is a verdict and no error.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | (variables or {})
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    said = f"{' '.join(words)}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    judged = verdict is not None and done.returncode == 1 and re.match(verdict, done.stdout)
    assert done.returncode == 0 or judged, said
    assert "Traceback" not in done.stderr, said
    return done.stdout


def check_paths(printed: str, shown: Shown, folder: Path) -> None:
    """Checks that every path which a command prints, below a folder that its words name, is there."""
    own = {word.partition("/")[0] for word in shown.words} - {"scripts", "dataset_scripts"}
    for word in printed.split():
        path = word.rstrip(".,:;")
        if path.partition("/")[0] in own and "/" in path and (folder / path.partition("/")[0]).is_dir():
            assert (folder / path).exists(), f"{shown} prints {path}, which is not there"


def shrink_grid(path: Path) -> None:
    """Leaves of a grid its smallest run of each objective of one family."""
    grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    family, size = next(iter(grid["families"])), next(iter(grid["sizes"]))
    made = [f"num_records={NUM_RECORDS}", "sampling_rate=100"]
    steps = {"max_steps": 2, "validation_steps": 1, "checkpoint_steps": 1, "warmup_steps": 0, "batch_size": 4}
    grid["arguments"] |= {"corpus_fields": made, **steps, "max_validation_records": 8}
    grid["sizes"], grid["families"] = {size: grid["sizes"][size]}, {family: grid["families"][family]}
    grid["runs"] = [{"fractions": [1]}]
    judged = ["num_records=400", "sampling_rate=100", "seed=8"]  # enough for every label of a probe
    for evaluation in grid["evaluations"]:
        evaluation |= {"corpus_fields": judged, "probe_sizes": [0]} if "task" in evaluation else {"max_records": 8}
    path.write_text(yaml.safe_dump(grid), encoding="utf-8")
