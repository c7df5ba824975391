"""The processes of a run: their Accelerator, their agreement at the start, their failures, and their signals."""

import hashlib
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch.distributed import DistError
from torch.distributed.fsdp import MixedPrecisionPolicy

from ecg_hf.errors import EcgProcessError
from ecg_hf.training.arguments import PretrainingArguments


def make_accelerator(arguments: PretrainingArguments) -> Accelerator:
    """Builds the run's Accelerator; call it once per process."""
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        log_with=list(arguments.trackers) or None,
        project_dir=Path(arguments.output_dir),
        dynamo_backend="inductor" if arguments.compile else None,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=arguments.timeout_s)),
            # TrainStep already keeps the buffers of all processes equal.
            DistributedDataParallelKwargs(broadcast_buffers=False),
        ],
    )
    if accelerator.is_fsdp2:
        # Sharded weights, norms, gradients and the loss stay in float32, as without shards: TrainStep uses autocast.
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    return accelerator


def require_same(accelerator: Accelerator, start: Any, folder: Path) -> None:
    """Checks that all processes start with the same arguments and data, and from the same checkpoint.

    Args:
        accelerator: Accelerator of the run.
        start: Description of the start, which JSON can hold and which must be equal on all processes.
        folder: Folder of the run, for the error message.

    Raises:
        EcgProcessError: If the processes differ.
    """
    digest = hashlib.sha256(json.dumps(start, sort_keys=True).encode()).digest()[:7]
    own = torch.tensor(int.from_bytes(digest), device=accelerator.device)
    if not bool((accelerator.gather(own) == own).all()):
        raise EcgProcessError(
            "the processes of this run differ in arguments, data or the checkpoint that they resume from, expected the "
            f"same on all; compare data_dir, the versions of ecg_hf, and what each machine sees of {folder}"
        )


# Words in the errors that gloo and NCCL raise, through torch, when a peer is gone or late.
_SIGNS = re.compile(
    r"Connection closed|Connection reset|Broken pipe|Timed out|timed out|timeout|Socket|NCCL|gloo|connectFullMesh", re.I
)


@contextmanager
def explain_failure(num_processes: int, timeout_s: float) -> Iterator[None]:
    """Turns torch's errors about a lost or hung process into one error with a remedy.

    Args:
        num_processes: Number of processes of the run.
        timeout_s: Time after which a process counts as hung, in s.

    Raises:
        EcgProcessError: If another process, or a process of the loader, is gone or has not answered in time.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith("DataLoader worker"):
            raise EcgProcessError(
                f"a loader process is gone ({error}), often for lack of memory; resume with a smaller num_workers"
            ) from error
        if num_processes == 1 or not (isinstance(error, DistError) or _SIGNS.search(str(error))):
            raise
        reason = str(error).strip().splitlines()[0]
        raise EcgProcessError(
            f"another of the {num_processes} processes is gone or did not answer within {timeout_s:g} s ({reason}); "
            "look for its own error above, then start all processes again with --resume true"
        ) from error


class Interruption:
    """A context in which SIGINT and SIGTERM only set `number`; outside the main thread it has no effect."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
