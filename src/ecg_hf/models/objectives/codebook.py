"""Codes that follow a teacher's tokens without a gradient, alike in every process."""

import torch
from torch import Tensor
from transformers import initialization as init

from ecg_hf.models.backbones.base import Drawn
from ecg_hf.models.objectives.distributed import sum_over_processes
from ecg_hf.models.objectives.health import perplexity

# Squared distance below which tokens are the same; keeps a choice possible where all are.
MIN_DISTANCE = 1e-12
# Keeps shares finite where a code's similarities underflow.
MIN_SUM = 1e-30


def one_hot(codes: Tensor, num_codes: int) -> Tensor:
    """Turns code numbers of any shape (...) into rows (..., num_codes) of zeros and a one, in float32."""
    return (codes[..., None] == torch.arange(num_codes, device=codes.device)).float()


@torch.no_grad()
def code_usage(codes: list[Tensor], sizes: list[int]) -> dict[str, Tensor]:
    """Measures how many codes of each codebook a batch uses, averaged over codebooks.

    Args:
        codes: Code numbers of the tokens, one tensor of any shape for each codebook.
        sizes: Codes of each codebook, C.

    Returns:
        "codebook_perplexity", from 1 to C, and "codebook_usage", the share of codes that some token has.
    """
    counts = [one_hot(numbers.flatten(), size).sum(dim=0) for numbers, size in zip(codes, sizes, strict=True)]
    return {
        "codebook_perplexity": torch.stack([perplexity(count) for count in counts]).mean(),
        "codebook_usage": torch.stack([(count > 0).float().mean() for count in counts]).mean(),
    }


class Codebook(Drawn):
    """Codes, and what was seen of their members since the last step.

    What a forward pass collects is pending until `take`, once per optimizer step and over all processes: so two
    processes, or two micro-batches, move the codes as one batch does.

    Args:
        num_codes: Codes, C.
        width: Of a code, D.
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
        """Brings tokens or codes (..., D) to the scale on which they are compared."""
        raise NotImplementedError

    def reset(self) -> None:
        """Draws codes from N(0, 1) and scales them, with nothing pending, except for what was loaded."""
        init.copy_(self.codes, self.scale(torch.randn_like(self.codes)))
        init.zeros_(self.pending_sum)
        init.zeros_(self.pending_count)

    @torch.no_grad()
    def collect(self, shares: Tensor, tokens: Tensor) -> None:
        """Notes which tokens (N, D) belong to which code, by shares (N, C), for the next step."""
        # A matrix product adds in the same order at every run, which scattered additions on a GPU do not.
        self.pending_sum += shares.T @ tokens
        self.pending_count += shares.sum(dim=0)

    def take(self) -> tuple[Tensor, Tensor]:
        """Gives the sums (C, D) and the numbers (C,) of the members seen by all processes, and forgets them."""
        total, count = (
            sum_over_processes(pending.to(torch.float32, copy=True))
            for pending in (self.pending_sum, self.pending_count)
        )
        self.pending_sum.zero_()
        self.pending_count.zero_()
        return total, count


@torch.no_grad()
def sinkhorn(similarities: Tensor, num_iterations: int, *, over_processes: bool = False) -> Tensor:
    """Turns similarities into shares that sum to 1 for each token and, nearly, to the same number for each code.

    Args:
        similarities: Of tokens to codes, over a temperature, shape (N, C).
        num_iterations: How often codes, then tokens, are scaled to equal sums.
        over_processes: Whether the tokens of all processes are balanced together.

    Returns:
        Shares, shape (N, C).

    Source:
        Cuturi 2013 (arXiv:1306.0895), algorithm 1, with uniform marginals.
    """
    # Tokens are scaled to a sum of 1 last, so a factor of a row does not matter, and a process may choose its own.
    kernel = (similarities - similarities.amax(dim=1, keepdim=True)).exp()
    row = kernel.new_ones(len(kernel))
    column = kernel.new_ones(kernel.shape[1])
    for _ in range(num_iterations):
        sums = row @ kernel
        sums = sum_over_processes(sums) if over_processes else sums
        # Over their mean, since a sum of 1 would let the scales of rows grow by N / C at every turn.
        column = 1 / (sums / sums.mean()).clamp(min=MIN_SUM)
        row = 1 / (kernel @ column).clamp(min=MIN_SUM)
    return row[:, None] * kernel * column


@torch.no_grad()
def spread_out(tokens: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Chooses tokens (N, D) as first codes, each with a probability that grows with its distance to those before.

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
