"""Masks over tokens, drawn for all crops at once on the device of the batch, and means over masked tokens."""

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
        mask_fraction: Fraction of a crop's tokens that is masked on average. Study A divides its nominal 0.065 by the
            span before use, so that its actual fraction is 0.063.
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
    """Returns a generator with a fixed seed in evaluation, so that two validation losses can be compared.

    In training it returns None, which stands for torch's default generator, seeded by the training loop.
    """
    return None if training else torch.Generator(device).manual_seed(0)


def start_probability(mask_fraction: float, mask_span: int) -> float:
    """Computes the probability that a token starts a span, for which spans cover `mask_fraction` of the tokens."""
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

    A span may also start before the crop, so that only its end lies inside: every token is masked equally often.

    Args:
        num_crops: Number of crops B.
        num_tokens: Number of tokens N.
        probability: Probability that a span starts at a token, see `start_probability`.
        span: Number of tokens of a span.
        device: Device of the mask.
        generator: Generator of the random draws; torch's default generator if None.

    Returns:
        True where a token is masked, shape (B, N).

    Source:
        Baevski et al. 2022 (arXiv:2202.03555), section 4.2, which draws a fixed number of starts instead.
    """
    drawn = torch.rand(num_crops, num_tokens + span - 1, device=device, generator=generator)
    # Token n is masked if a span starts at any of the `span` positions from which it reaches n.
    reached: Tensor = torch.nn.functional.max_pool1d((drawn < probability).float(), span, stride=1)
    return reached > 0


def draw_spans(config: Any, tokens: Tensor, *, training: bool) -> Tensor:
    """Draws a mask (B, N) over tokens (B, N, D) by a config with the fields of `SpanFields`."""
    return sample_spans(
        *tokens.shape[:2],
        probability=start_probability(config.mask_fraction, config.mask_span),
        span=config.mask_span,
        device=tokens.device,
        generator=evaluation_generator(training, tokens.device),
    )


def expand_mask(mask: Tensor, num_embedded: int, reduction: int) -> Tensor:
    """Expands a mask over output tokens to the embedded tokens that they cover.

    Args:
        mask: Mask over output tokens, shape (B, N).
        num_embedded: Number of embedded tokens of a crop; the last output token may cover fewer than `reduction`.
        reduction: Number of embedded tokens per output token, the quotient of a backbone's strides.

    Returns:
        Mask over embedded tokens, shape (B, num_embedded).
    """
    return mask.repeat_interleave(reduction, dim=1)[:, :num_embedded]


def replace_tokens(tokens: Tensor, mask: Tensor, mask_token: Tensor, reduction: int = 1) -> Tensor:
    """Replaces the embedded tokens under a mask over output tokens by a learned token.

    Args:
        tokens: Embedded tokens, shape (B, M, D), where M is at most N reduction.
        mask: True where an output token is hidden, shape (B, N).
        mask_token: Learned token, shape (D,).
        reduction: Number of embedded tokens per output token.

    Returns:
        Embedded tokens, some of them replaced, shape (B, M, D).
    """
    hidden = expand_mask(mask, tokens.shape[1], reduction)
    return torch.where(hidden[..., None], mask_token.to(tokens.dtype), tokens)


def masked_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Computes the weighted mean of values; if all weights are zero, the mean and its gradient are zero.

    In training, the weights of all processes count. Data-parallel training averages the gradients of the processes, so
    each process scales its mean such that the average over processes is the mean over the tokens of all processes.

    Args:
        values: Values, shape (B, N).
        weights: Weights, such as a mask, shape (B, N).

    Returns:
        The mean, a scalar.
    """
    weights = weights.to(values.dtype)
    total = weights.sum()
    if torch.is_grad_enabled():
        total = sum_over_processes(total) / num_processes()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)
