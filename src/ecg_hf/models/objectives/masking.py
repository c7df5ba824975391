"""Masks over tokens: drawn on the batch's device, all crops at once, from a generator."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecg_hf.models.objectives.base import ObjectiveFields
from ecg_hf.models.objectives.distributed import num_processes, sum_over_processes


@dataclass
class SpanFields(ObjectiveFields):
    """Config fields of masks made of spans.

    Args:
        mask_fraction: Share of the tokens of a crop that is masked on average. Study A's nominal 0.065 is divided by
            the span before it is used, so that its share is 0.063.
        mask_span: Tokens of one span; spans may overlap.
    """

    mask_fraction: float | int = 0.49
    mask_span: int = 10

    def validate_mask(self) -> None:
        """Checks that something is masked and something is left."""
        if not 0 < self.mask_fraction < 1:
            raise ValueError(f"mask_fraction must lie in (0, 1), got {self.mask_fraction}")
        if self.mask_span < 1:
            raise ValueError(f"mask_span must be at least 1, got {self.mask_span}")


def evaluation_generator(training: bool, device: torch.device) -> torch.Generator | None:
    """Gives a generator that starts afresh in evaluation, so that two validation losses can be compared.

    In training it gives None: torch's default generator, which whoever runs the steps has seeded.
    """
    return None if training else torch.Generator(device).manual_seed(0)


def start_probability(mask_fraction: float, mask_span: int) -> float:
    """Computes how likely a token must start a span, so that `mask_fraction` of the tokens are in one at least."""
    return float(1 - (1 - mask_fraction) ** (1 / mask_span))


def sample_spans(
    num_crops: int,
    num_tokens: int,
    *,
    probability: float,
    span: int,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws a mask of spans that start at independently chosen tokens.

    A span may also start before the crop, of which its end is then seen: every token is masked equally often.

    Args:
        num_crops: B.
        num_tokens: N.
        probability: That a token starts a span, see `start_probability`.
        span: Tokens of a span.
        device: Where the mask is made.
        generator: Where randomness comes from; torch's default generator if None.

    Returns:
        True where a token is masked, shape (B, N).

    Source:
        Baevski et al. 2022 (arXiv:2202.03555), section 4.2, which draws a fixed number of starts instead.
    """
    drawn = torch.rand(num_crops, num_tokens + span - 1, device=device, generator=generator)
    # Token n is masked if any of the `span` starts that reach it was chosen.
    reached: Tensor = torch.nn.functional.max_pool1d((drawn < probability).float(), span, stride=1)
    return reached > 0


def draw_spans(config: Any, tokens: Tensor, *, training: bool) -> Tensor:
    """Draws the mask over tokens (B, N, D) that a config with the fields of `SpanFields` asks for, (B, N)."""
    return sample_spans(
        *tokens.shape[:2],
        probability=start_probability(config.mask_fraction, config.mask_span),
        span=config.mask_span,
        device=tokens.device,
        generator=evaluation_generator(training, tokens.device),
    )


def expand_mask(mask: Tensor, num_embedded: int, reduction: int) -> Tensor:
    """Stretches a mask over output tokens to one over the embedded tokens that they cover.

    Args:
        mask: Shape (B, N).
        num_embedded: Embedded tokens of a crop, of which the last output token may cover fewer than the others.
        reduction: Embedded tokens per output token, the quotient of a backbone's strides.
    """
    return mask.repeat_interleave(reduction, dim=1)[:, :num_embedded]


def replace_tokens(tokens: Tensor, mask: Tensor, mask_token: Tensor, reduction: int = 1) -> Tensor:
    """Puts a learned token wherever a mask over output tokens hides an embedded token.

    Args:
        tokens: Embedded tokens, shape (B, ceil(N reduction), D).
        mask: True where an output token is hidden, shape (B, N).
        mask_token: Shape (D,).
        reduction: Embedded tokens per output token.
    """
    hidden = expand_mask(mask, tokens.shape[1], reduction)
    return torch.where(hidden[..., None], mask_token.to(tokens.dtype), tokens)


def masked_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Averages values (B, N) with weights (B, N), such as a mask; zero, with a zero gradient, if all weights are.

    In training with several processes the weights of all count: each process' mean is so scaled that their average,
    which is what their gradients become, is the mean over all tokens of all processes.
    """
    weights = weights.to(values.dtype)
    total = weights.sum()
    if torch.is_grad_enabled():
        total = sum_over_processes(total) / num_processes()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)
