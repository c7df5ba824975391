"""Where a run is executed: the devices, processes and precision that `accelerate launch` and the arguments say."""

from datetime import timedelta
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from ecg_hf.arguments import PretrainingArguments


def make_accelerator(arguments: PretrainingArguments) -> Accelerator:
    """Builds it; a process makes one."""
    return Accelerator(
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
