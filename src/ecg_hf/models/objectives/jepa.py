"""JEPA, which predicts a teacher's tokens in some blocks of a signal from another block."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.objectives.base import ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.masking import evaluation_generator, masked_mean
from ecg_hf.models.objectives.predictor import PredictorFields, make_predictor, prediction_losses
from ecg_hf.models.objectives.teacher import TargetFields, TeacherFields, TeacherObjective, standardise

Scale = list[float | int] | tuple[float | int, ...]


@dataclass
class JEPAFields(TeacherFields, TargetFields, PredictorFields):
    """Config fields of JEPA.

    Args:
        num_target_blocks: Number of blocks to predict in each crop; they may overlap.
        target_scale: Smallest and largest fraction of a crop's tokens in a target block.
        context_scale: Smallest and largest fraction of a crop's tokens in the context block, before the tokens of the
            targets are removed from it.
        min_block_tokens: Smallest number of tokens of a block. With study A's 64 of 300 tokens, every target block has
            64 tokens.
        context_fallback: Whether a crop with fewer than `min_block_tokens` tokens of context left sees that many random
            tokens instead, which may include tokens that it must predict, as in study A.
    """

    num_target_blocks: int = 4
    target_scale: Scale = field(default_factory=lambda: [0.15, 0.20])
    context_scale: Scale = field(default_factory=lambda: [0.85, 1.0])
    min_block_tokens: int = 1
    context_fallback: bool = False

    def validate_jepa(self) -> None:
        """Checks the ranges of the fields."""
        for name in ("target_scale", "context_scale"):
            scale = getattr(self, name)
            if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
                raise ValueError(f"{name} must be two fractions that satisfy 0 < low <= high <= 1, got {scale}")
        if self.num_target_blocks < 1 or self.min_block_tokens < 1:
            raise ValueError(
                "num_target_blocks and min_block_tokens must be at least 1, got "
                f"{self.num_target_blocks} and {self.min_block_tokens}"
            )


class JEPA(TeacherObjective):
    """Predicts a teacher's standardised tokens in target blocks from a context that overlaps none of them.

    Tokens outside the context are hidden, not dropped, so any backbone will do. A token in several target blocks counts
    once for each of them.

    Source:
        Assran et al. 2023 (arXiv:2301.08243), section 3, whose predictor sees the context alone; in the form of study A
        (arXiv:2605.12241) with `min_block_tokens=64`, `context_fallback=True` and `ema_ramp_steps=0`.
    """

    fields: ClassVar[type[ObjectiveFields]] = JEPAFields

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.predictor = make_predictor(self.config, config.hidden_size)

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T); labels are not used.

        Raises:
            ValueError: If a crop does not have more than `min_block_tokens` tokens.
        """
        teacher = self.teacher(signal)["last_hidden_state"]
        generator = evaluation_generator(self.training, signal.device)
        weights, context = sample_blocks(len(signal), teacher.shape[1], self.config, signal.device, generator)
        tokens = self.encode_masked(backbone, signal, ~context)
        losses = prediction_losses(self.predictor(tokens), standardise(teacher, self.config.target_norm))
        return PretrainingOutput(loss=masked_mean(losses, weights), metrics=self.measure(tokens, teacher, ~context))


def sample_blocks(
    num_crops: int,
    num_tokens: int,
    fields: JEPAFields,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws target blocks and contexts, whose sizes are the same for all crops and whose starts are not.

    Args:
        num_crops: Number of crops B.
        num_tokens: Number of tokens N.
        fields: Config fields of JEPA.
        device: Device of the masks.
        generator: Generator of the random draws; torch's default generator if None.

    Returns:
        The number of target blocks that cover each token, and whether the token is context, both (B, N). A crop whose
        targets cover the whole context block (at the default scales only if N < 6) has no context.

    Raises:
        ValueError: If there are not more than `min_block_tokens` tokens.
    """
    least = fields.min_block_tokens
    if num_tokens <= least:
        raise ValueError(
            f"jepa needs more tokens in a crop than min_block_tokens={least}, got {num_tokens}; use longer crops or a "
            "smaller min_block_tokens"
        )

    def blocks(count: int, scale: Scale) -> Tensor:
        """Draws `count` blocks for each crop, shape (B, count, N)."""
        fraction = torch.empty((), device=device).uniform_(float(scale[0]), float(scale[1]), generator=generator)
        size = (fraction * num_tokens).long().clamp(least, num_tokens)
        drawn = torch.rand(num_crops, count, 1, device=device, generator=generator)
        # If `drawn` rounds up to 1, a block would start one token too late.
        start = torch.minimum((drawn * (num_tokens - size + 1)).long(), num_tokens - size)
        position = torch.arange(num_tokens, device=device)
        return (position >= start) & (position < start + size)

    weights = blocks(fields.num_target_blocks, fields.target_scale).sum(dim=1)
    context = blocks(1, fields.context_scale)[:, 0] & (weights == 0)
    if fields.context_fallback:
        shuffled = torch.rand(num_crops, num_tokens, device=device, generator=generator).argsort(dim=1).argsort(dim=1)
        context = torch.where(context.sum(dim=1, keepdim=True) < least, shuffled < least, context)
    return weights, context
