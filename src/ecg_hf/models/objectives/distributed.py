"""What the processes of a run tell each other within a step, so that they learn as one would."""

import torch
from torch import Tensor
from torch import distributed as dist


def num_processes() -> int:
    """Says how many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Adds values up over all processes, in place; where there is only one, they are the sum."""
    if num_processes() > 1:
        dist.all_reduce(values)
    return values


def gather_tokens(tokens: Tensor) -> Tensor:
    """Stacks the tokens (N, D) of all processes, of which each must bring as many, in the order of their ranks."""
    if num_processes() == 1:
        return tokens
    gathered = [torch.empty_like(tokens) for _ in range(num_processes())]
    dist.all_gather(gathered, tokens.contiguous())
    return torch.cat(gathered)
