"""Runs in processes of their own, to be killed. They fork from one that has imported everything, so each is cheap."""

import faulthandler
import json
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ecg_hf", "ecg_hf.training.pretrain", "children"])
CORPUS = ["num_records=24", "sampling_rate=100", "seed=1"]
MODEL = ["hidden_size=16", "num_layers=1"]
STEPS = 24


def arguments_for(folder, **changes):
    """A small run of s4-jepa: an EMA teacher, batch norms, dropout and masks, validation and checkpoints."""
    return {
        "output_dir": str(folder),
        "pair": "s4-jepa",
        "size": "20k",
        "model_fields": MODEL,
        "corpus_fields": CORPUS,
        "sampling_rate": 100.0,
        "max_steps": STEPS,
        "batch_size": 4,
        "warmup_steps": 2,
        "validation_steps": 10,
        "checkpoint_steps": 3,
        "resume": True,
        "timeout_s": 20.0,
        **changes,
    }


@dataclass(frozen=True)
class Fault:
    """What goes wrong in a child.

    Args:
        kind: "kill" (SIGKILL), "term" (SIGTERM), "raise", "hang", "poison" (a gradient becomes NaN), or "" for nothing.
        step: In the step after so many.
        poisoned: The steps that are poisoned.
        delay_s: So long after the step began.
        file_operation: Instead, at this file operation of the thread that writes checkpoints.
        file_limit: Instead, no file may grow beyond so many bytes, as on a full disk.
        clock_jump_s: Instead, the wall clock jumps by so much at every step.
        loader: Instead, a process that loads is killed at the step.
        collapse: Instead, from the step on the backbone's last norm gives the same token for everything.
    """

    kind: str = ""
    step: int = -1
    poisoned: tuple[int, ...] = ()
    delay_s: float = 0.0
    file_operation: int = -1
    file_limit: int = 0
    clock_jump_s: float = 0.0
    loader: bool = False
    collapse: bool = False


def child(arguments, fault, ranks, crops):
    """Runs a pretraining and lets the fault happen.

    Args:
        arguments: Of the run.
        fault: What goes wrong.
        ranks: Environment that makes it one of several processes; empty for a run of one.
        crops: File to which the sum of every crop of each step is written, or None.
    """
    os.environ.update(ranks)
    log = Path(f"{arguments['output_dir']}.{ranks.get('RANK', '0')}.log").open("a")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    faulthandler.enable(log)
    from ecg_hf import PretrainingArguments, pretrain

    logging.basicConfig(level=logging.WARNING, stream=log, force=True)
    torch.set_num_threads(1)
    plant(fault, crops)
    try:
        pretrain(PretrainingArguments(**arguments))
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)
    except SystemExit as stop:
        os._exit(stop.code)
    os._exit(0)


def plant(fault, crops):
    """Puts the fault where it will happen."""
    from ecg_hf.training.step import TrainStep

    run = TrainStep.run

    def faulty(self, step, batches, *rest):
        if crops is not None:
            sums = sorted(float(crop.double().sum()) for batch in batches for crop in batch["signal"])
            with Path(crops).open("a") as file:
                file.write(json.dumps([step, sums]) + "\n")
        if fault.clock_jump_s:
            jumped = time.time() + (-1) ** step * fault.clock_jump_s
            time.time = lambda: jumped
        self.now = step
        if fault.kind == "poison" and step in fault.poisoned:
            parameter = next(self.model.parameters())
            parameter.register_hook(lambda gradient: gradient * float("nan") if self.now == step else gradient)
        elif fault.collapse and step >= fault.step:
            torch.nn.init.zeros_(self.pair.backbone.layers[-1].norm.weight)
        elif step == fault.step:
            strike(fault)
        return run(self, step, batches, *rest)

    TrainStep.run = faulty
    if fault.file_operation >= 0:
        kill_at_file_operation(fault.file_operation)
    if fault.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_limit, resource.RLIM_INFINITY))


def strike(fault):
    """Lets the fault of a step happen."""
    if fault.loader:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    elif fault.kind == "raise":
        raise RuntimeError("power cut")
    elif fault.kind == "hang":
        time.sleep(3600)
    elif fault.kind:
        number = signal.SIGKILL if fault.kind == "kill" else signal.SIGTERM
        threading.Timer(fault.delay_s, os.kill, (os.getpid(), number)).start()


def kill_at_file_operation(last):
    """Kills this process when the thread that writes checkpoints opens, makes, renames or removes its n-th file."""
    seen = []

    def hook(event, _):
        watched = event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
        if watched and threading.current_thread().name.startswith("checkpoint"):
            seen.append(event)
            if len(seen) > last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def start(arguments, faults, crops, each):
    """Starts a run of one process, or of as many as there are faults; `each` may have arguments of its own."""
    ranks = [{}] if len(faults) == 1 else rank_environments(len(faults))
    processes = [
        CONTEXT.Process(target=child, args=(own, fault, rank, crops and f"{crops}.{number}"))
        for number, (fault, rank, own) in enumerate(zip(faults, ranks, each or [arguments] * len(faults), strict=True))
    ]
    for process in processes:
        process.start()
    return processes


def run(arguments, faults=(Fault(),), crops=None, each=None, timeout_s=120):
    """Runs to the end of all processes and gives their exit codes; what still runs after the timeout is killed."""
    processes = start(arguments, faults, crops, each)
    ends = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(0.1, ends - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def rank_environments(world):
    """What torch and Accelerate read, to make several processes on the CPU one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "ACCELERATE_USE_CPU": "true",
    }
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def messages(folder, rank=0):
    """What a child has said."""
    path = Path(f"{folder}.{rank}.log")
    return path.read_text(errors="replace") if path.exists() else ""


def rows(folder):
    """What a run has logged, without what a clock says."""
    clocks = {"seconds", "crops_per_second", "wait_seconds"}
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in clocks} for line in lines]


def same_run(folder, other):
    """Says whether two runs ended with the same bits, and logged the same numbers at every step."""
    weights, others = (load_file(Path(place) / "model.safetensors") for place in (folder, other))
    same = weights.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in weights.items())
    return same and rows(folder) == rows(other)
