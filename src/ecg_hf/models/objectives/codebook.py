"""The codebooks of DinoSR and HuBERT++, whose codes follow a teacher's tokens without a gradient."""

import torch
from torch import Tensor
from transformers import initialization as init

from ecg_hf.models.backbones.base import Drawn
from ecg_hf.models.objectives.distributed import sum_over_processes
from ecg_hf.models.objectives.health import perplexity

# Squared distance below which tokens count as equal; keeps a draw possible if all tokens are equal.
MIN_DISTANCE = 1e-12
# Keeps assignments finite where the similarities of a code underflow.
MIN_SUM = 1e-30


def one_hot(codes: Tensor, num_codes: int) -> Tensor:
    """Converts code numbers of any shape (...) to one-hot rows (..., num_codes) in float32."""
    return (codes[..., None] == torch.arange(num_codes, device=codes.device)).float()


@torch.no_grad()
def code_usage(codes: list[Tensor], sizes: list[int]) -> dict[str, Tensor]:
    """Measures how many codes of each codebook a batch uses, averaged over codebooks.

    Args:
        codes: Code numbers of the tokens, one tensor of any shape for each codebook.
        sizes: Number of codes C of each codebook.

    Returns:
        "codebook_perplexity", from 1 to C, and "codebook_usage", the fraction of codes with at least one token.
    """
    counts = [one_hot(numbers.flatten(), size).sum(dim=0) for numbers, size in zip(codes, sizes, strict=True)]
    return {
        "codebook_perplexity": torch.stack([perplexity(count) for count in counts]).mean(),
        "codebook_usage": torch.stack([(count > 0).float().mean() for count in counts]).mean(),
    }


class Codebook(Drawn):
    """Codes, with the sums and counts of their members since the last step.

    Forward passes collect members, which are pending until `take` returns those of all processes, once per optimizer
    step. Two processes, or two micro-batches, therefore move the codes as one batch would.

    Args:
        num_codes: Number of codes C.
        width: Width of a code, D.
    """

    codes: Tensor
    pending_sum: Tensor
    pending_count: Tensor

    def __init__(self, num_codes: int, width: int):
        super().__init__()
        self.register_buffer("codes", torch.empty(num_codes, width))
        self.register_buffer("pending_sum", torch.zeros(num_codes, width))
        self.register_buffer("pending_count", torch.zeros(num_codes))

    @staticmethod
    def scale(tokens: Tensor) -> Tensor:
        """Scales tokens or codes (..., D) for the comparison with each other."""
        raise NotImplementedError

    def reset(self) -> None:
        """Draws codes from N(0, 1), scales them and clears the pending members; loaded tensors keep their values."""
        init.copy_(self.codes, self.scale(torch.randn_like(self.codes)))
        init.zeros_(self.pending_sum)
        init.zeros_(self.pending_count)

    @torch.no_grad()
    def collect(self, shares: Tensor, tokens: Tensor) -> None:
        """Adds tokens (N, D) to the pending members of the codes, with soft assignments `shares` (N, C) as weights."""
        # A matrix product adds in the same order in every run, unlike scattered additions on a GPU.
        self.pending_sum += shares.T @ tokens
        self.pending_count += shares.sum(dim=0)

    def take(self) -> tuple[Tensor, Tensor]:
        """Returns the sums (C, D) and counts (C,) of the pending members of all processes, and clears them."""
        total, count = (
            sum_over_processes(pending.to(torch.float32, copy=True))
            for pending in (self.pending_sum, self.pending_count)
        )
        self.pending_sum.zero_()
        self.pending_count.zero_()
        return total, count


@torch.no_grad()
def sinkhorn(similarities: Tensor, num_iterations: int, *, over_processes: bool = False) -> Tensor:
    """Converts similarities to soft assignments that sum to 1 for each token and to nearly the same for each code.

    Args:
        similarities: Similarities of tokens to codes, divided by a temperature, shape (N, C).
        num_iterations: Number of times that codes, then tokens, are scaled to equal sums.
        over_processes: Whether the tokens of all processes are balanced together.

    Returns:
        Soft assignments, shape (N, C).

    Source:
        Cuturi 2013 (arXiv:1306.0895), algorithm 1, with uniform marginals.
    """
    # Tokens are scaled to a sum of 1 last, so the factor of a row does not matter and may differ between processes.
    kernel = (similarities - similarities.amax(dim=1, keepdim=True)).exp()
    row = kernel.new_ones(len(kernel))
    column = kernel.new_ones(kernel.shape[1])
    for _ in range(num_iterations):
        sums = row @ kernel
        sums = sum_over_processes(sums) if over_processes else sums
        # Divided by their mean, since sums of 1 would let the scales of rows grow by N / C in every iteration.
        column = 1 / (sums / sums.mean()).clamp(min=MIN_SUM)
        row = 1 / (kernel @ column).clamp(min=MIN_SUM)
    return row[:, None] * kernel * column


@torch.no_grad()
def spread_out(tokens: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Draws tokens as first codes, weighted by their squared distances to the nearest code drawn before.

    Args:
        tokens: Tokens, shape (N, D).
        num_codes: Number of codes C to draw.
        generator: Generator of the random draws.

    Returns:
        Codes, shape (C, D).

    Source:
        Arthur and Vassilvitskii 2007 (SODA), k-means++.
    """
    chosen = torch.randint(len(tokens), (1,), device=tokens.device, generator=generator)
    distances = tokens.new_full((len(tokens),), float("inf"))
    rows = [chosen]
    for _ in range(num_codes - 1):
        distances = torch.minimum(distances, (tokens - tokens[chosen]).square().sum(dim=1))
        chosen = torch.multinomial(distances.clamp(min=MIN_DISTANCE), 1, generator=generator)
        rows.append(chosen)
    return tokens[torch.cat(rows)]
