"""Sums and gathers over the processes of a run, so that they train as one process with the whole batch would."""

import torch
from torch import Tensor
from torch import distributed as dist


def num_processes() -> int:
    """Returns the number of processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Sums values over all processes, in place, and returns them."""
    if num_processes() > 1:
        dist.all_reduce(values)
    return values


def gather_tokens(tokens: Tensor) -> Tensor:
    """Stacks the tokens (N, D) of all processes in the order of their ranks; every process must have the same N."""
    if num_processes() == 1:
        return tokens
    gathered = [torch.empty_like(tokens) for _ in range(num_processes())]
    dist.all_gather(gathered, tokens.contiguous())
    return torch.cat(gathered)
