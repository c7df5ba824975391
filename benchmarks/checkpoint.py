"""What a checkpoint costs the run that writes it: the copy, the thread beside the next steps, and all of it at once.

OMP_NUM_THREADS=1 python benchmarks/checkpoint.py
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator

from ecg_hf import PAIRS, PretrainingArguments
from ecg_hf.training.checkpoints.snapshot import Snapshot
from ecg_hf.training.checkpoints.writer import CheckpointWriter
from ecg_hf.training.step import TrainStep

ROUNDS = 5
AFTER = 4  # steps after each checkpoint whose times count


def seconds(work) -> float:
    """Time of a call, with the device's work."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", default="s4-jepa")
    parser.add_argument("--sizes", nargs="+", default=["2m", "20m"])
    parser.add_argument("--batch_size", type=int, default=4)
    arguments = parser.parse_args()
    accelerator = Accelerator()
    print(
        f"{arguments.pair}, {accelerator.device}, batch {arguments.batch_size} x 600 samples, {ROUNDS} rounds, medians"
    )
    print("| size | checkpoint MB | step ms | copy ms | longest step beside the thread, ms | write ms | stall, steps |")
    print("|---|---|---|---|---|---|---|")
    for size in arguments.sizes:
        print(measure(arguments, size, accelerator))


def measure(arguments: argparse.Namespace, size: str, accelerator: Accelerator) -> str:
    kind = PAIRS[arguments.pair]
    run = PretrainingArguments("unused", pair=arguments.pair, warmup_steps=0, max_steps=10**6)
    taken = TrainStep(run, accelerator, kind(kind.config_class(**kind.backbone_class.sizes[size])))
    batch = {"signal": torch.randn(arguments.batch_size, 12, 600, device=accelerator.device)}
    snapshot, folder, number = Snapshot(taken.pair, taken.adam), Path(tempfile.mkdtemp()), 0

    def step():
        nonlocal number
        taken.run(number, [batch]).read()
        number += 1

    step()
    plain, copies, beside, writes = [], [], [], []
    for _ in range(ROUNDS):
        plain += [seconds(step) for _ in range(AFTER)]
        with CheckpointWriter(folder, 1) as writer:
            copies.append(seconds(snapshot.take))
            writer.submit(number, snapshot.take(), {})
            beside.append(max(seconds(step) for _ in range(AFTER)))
        writes.append(seconds(lambda: write(folder, snapshot, number)))
    size_mb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    shutil.rmtree(folder)
    usual, copy, longest, whole = (1e3 * statistics.median(times) for times in (plain, copies, beside, writes))
    stall = (copy + longest - usual) / usual
    return f"| {size} | {size_mb:.0f} | {usual:.0f} | {copy:.1f} | {longest:.0f} | {whole:.0f} | {stall:.2f} |"


def write(folder: Path, snapshot: Snapshot, number: int) -> None:
    """Writes a checkpoint while nothing else goes on, as a run without a thread would."""
    with CheckpointWriter(folder, 1) as writer:
        writer.submit(number, snapshot.take(), json.loads("{}"))


if __name__ == "__main__":
    main()
