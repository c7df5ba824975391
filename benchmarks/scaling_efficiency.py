"""Whether two processes learn twice as fast as one: the same pretraining step through Accelerate, on one machine.

python benchmarks/scaling_efficiency.py

Every process has one thread and as many crops as the one alone. On a CPU they talk by gloo, on two GPUs by NCCL.
Efficiency is the crops per second of two over twice those of one. Two that do not talk share caches, memory and clock
as well: what these lose, the machine takes, and not the talking. Runs take turns; the machine must do nothing else.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch
from accelerate import Accelerator

from ecg_hf import PAIRS
from ecg_hf.training.optimization import LEARNING_RATE_SCALES, parameter_groups

WARM_UP = 2  # steps


def work(arguments: argparse.Namespace) -> None:
    """Takes steps as one process of a group and says how many crops a second all of them took."""
    accelerator = Accelerator(mixed_precision="bf16" if arguments.device == "cuda" else "no")
    if accelerator.num_processes != arguments.worker:
        raise RuntimeError(f"{arguments.worker} processes must form one group, got {accelerator.num_processes}")
    torch.manual_seed(0)
    kind = PAIRS[arguments.pair]
    pair = kind(kind.config_class(**kind.backbone_class.sizes.get(arguments.size, {}), num_labels=71)).train()
    optimizer = torch.optim.AdamW(parameter_groups(pair, 1e-4, 1e-2, LEARNING_RATE_SCALES["uniform"]), fused=True)
    model, optimizer = accelerator.prepare(pair, optimizer)
    torch.manual_seed(1 + accelerator.process_index)
    signal = torch.randn(arguments.batch, 12, arguments.samples, device=accelerator.device)
    labels = torch.randint(2, (arguments.batch, 71), device=accelerator.device).float()
    for number in range(WARM_UP + arguments.steps):
        if number == WARM_UP:
            start = wait(accelerator)
        accelerator.backward(model(signal=signal, labels=labels).loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.unwrap_model(model).after_step(torch.isfinite(norm))
    seconds = wait(accelerator) - start
    if accelerator.is_main_process:
        backend = torch.distributed.get_backend() if arguments.worker > 1 else "none"
        rate = arguments.steps * arguments.batch * arguments.worker / seconds
        print(json.dumps({"crops_per_second": rate, "backend": backend}), flush=True)
    accelerator.end_training()


def wait(accelerator: Accelerator) -> float:
    """Waits for the device and for the other processes, and tells the time."""
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    accelerator.wait_for_everyone()
    return time.perf_counter()


def launch(num_processes: int, arguments: argparse.Namespace, gpu: int = 0) -> subprocess.Popen[str]:
    """Starts a group of processes; one alone on the GPU of that number."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if arguments.device == "cpu":
        environment["ACCELERATE_USE_CPU"] = "true"
    elif num_processes == 1:
        environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", str(num_processes)]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", __file__, "--worker", str(num_processes)]
    for name in ("pair", "size", "batch", "samples", "steps", "device"):
        command += [f"--{name}", str(getattr(arguments, name))]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def collect(process: subprocess.Popen[str]) -> dict[str, object]:
    """Waits for a group and reads what it said."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a group of processes ended with exit status {process.returncode}; see its messages above")
    return json.loads(output.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, float | str]:
    """Runs one, two that do not talk and two that do, in turn: crops per second of each."""
    alone = collect(launch(1, arguments))
    apart = [collect(process) for process in [launch(1, arguments, gpu) for gpu in (0, 1)]]
    together = collect(launch(2, arguments))
    return {
        "one": alone["crops_per_second"],
        "apart": sum(result["crops_per_second"] for result in apart),
        "together": together["crops_per_second"],
        "backend": together["backend"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="s4-cpc", choices=list(PAIRS), metavar="PAIR")
    parser.add_argument("--size", default="paper-a")
    parser.add_argument("--batch", type=int, default=16, help="crops of a process")
    parser.add_argument("--samples", type=int, default=600, help="of a crop")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="by default cuda where there are two GPUs")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.device = arguments.device or ("cuda" if torch.cuda.device_count() > 1 else "cpu")
    if arguments.worker:
        work(arguments)
        return
    rows = [measure(arguments) for _ in range(arguments.rounds)]
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{os.cpu_count()} cores, 1 thread each"
    print(
        f"torch {torch.__version__}, {machine}, {rows[0]['backend']}; {arguments.pair} {arguments.size}, "
        f"{arguments.batch} crops of {arguments.samples} samples a process, {arguments.steps} steps, "
        f"{arguments.rounds} rounds\n"
    )
    print("| processes | crops/s | efficiency | range |\n|---|---|---|---|")
    for name, key in (("one", "one"), ("two, apart", "apart"), ("two, together", "together")):
        shares = [row[key] / row["one"] / (1 if key == "one" else 2) for row in rows]
        rate, share = statistics.median(row[key] for row in rows), statistics.median(shares)
        print(f"| {name} | {rate:.2f} | {share:.0%} | {min(shares):.0%} - {max(shares):.0%} |")
    ratios = [row["together"] / row["apart"] for row in rows]
    print(f"\nTogether over apart: {statistics.median(ratios):.0%} ({min(ratios):.0%} - {max(ratios):.0%}).")


if __name__ == "__main__":
    main()
