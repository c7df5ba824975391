"""Where a run is executed: the devices, processes and precision that `accelerate launch` and the arguments say."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch.distributed.fsdp import MixedPrecisionPolicy

from ecg_hf.arguments import PretrainingArguments
from ecg_hf.errors import EcgProcessError


def make_accelerator(arguments: PretrainingArguments) -> Accelerator:
    """Builds it; a process makes one."""
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        log_with=list(arguments.trackers) or None,
        project_dir=Path(arguments.output_dir),
        dynamo_backend="inductor" if arguments.compile else None,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=arguments.timeout_s)),
            # They are the same everywhere already: TrainStep sees to it.
            DistributedDataParallelKwargs(broadcast_buffers=False),
        ],
    )
    if accelerator.is_fsdp2:
        # Sharded weights, norms, gradients and the loss stay in float32, as elsewhere: TrainStep computes by autocast.
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    return accelerator


def require_same(accelerator: Accelerator, start: Any, folder: Path) -> None:
    """Refuses to start where processes would train on different things, or go on from different checkpoints.

    Args:
        accelerator: Of the run.
        start: What must be the same, as JSON has it.
        folder: Of the run, for the message.

    Raises:
        EcgProcessError: If it is not.
    """
    digest = hashlib.sha256(json.dumps(start, sort_keys=True).encode()).digest()[:7]
    own = torch.tensor(int.from_bytes(digest), device=accelerator.device)
    if not bool((accelerator.gather(own) == own).all()):
        raise EcgProcessError(
            "the processes of this run differ in arguments, data or the checkpoint that they go on from, expected the "
            f"same on all; compare data_dir, the versions of ecg_hf, and what each machine sees of {folder}"
        )
