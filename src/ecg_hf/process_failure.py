"""What a process says when another one of its run, or one that loads for it, is gone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import DistError

from ecg_hf.errors import EcgProcessError

# What gloo and NCCL say, through torch, of a peer that is gone or late.
_SIGNS = re.compile(
    r"Connection closed|Connection reset|Broken pipe|Timed out|timed out|timeout|Socket|NCCL|gloo|connectFullMesh", re.I
)


@contextmanager
def explain_failure(num_processes: int, timeout_s: float) -> Iterator[None]:
    """Turns what a lost or hung process makes torch say into one error that says what to do.

    Args:
        num_processes: Of the run.
        timeout_s: After which a process counts as hung.

    Raises:
        EcgProcessError: If another process, or one that loads, is gone or has not answered in time.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith("DataLoader worker"):
            raise EcgProcessError(
                f"a process that loads is gone ({error}), often for want of memory; resume with a smaller num_workers"
            ) from error
        if num_processes == 1 or not (isinstance(error, DistError) or _SIGNS.search(str(error))):
            raise
        reason = str(error).strip().splitlines()[0]
        raise EcgProcessError(
            f"another of the {num_processes} processes is gone or did not answer within {timeout_s:g} s ({reason}); "
            "look for its own error above, then start all again with --resume true"
        ) from error
