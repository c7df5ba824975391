"""Contrastive predictive coding (CPC), which predicts a later token and tells it from other tokens."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.objectives.base import Objective, ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.health import feature_health
from ecg_hf.models.objectives.masking import evaluation_generator

NEGATIVES = ("sampled", "sequence", "batch")
# Largest number of scores of "batch" negatives that are computed at a time, 64 MiB in float32.
MAX_SCORES = 2**24


@dataclass
class CPCFields(ObjectiveFields):
    """Config fields of CPC.

    Args:
        prediction_offset: Distance from a context to the token that it predicts, in tokens.
        negatives: Tokens that the positive is compared with: "sampled" (`num_negatives` tokens of the same crop, drawn
            with replacement, as in study A), "sequence" (all other tokens of the crop) or "batch" (all other tokens of
            the batch).
        num_negatives: Negatives per position, for "sampled".
        temperature: Divisor of the scores.
        normalize: Whether scores are cosines rather than dot products.
        loss_reduction: "mean" over crops and positions, or "sum" over positions and mean over crops, as in study A.
    """

    prediction_offset: int = 14
    negatives: str = "sampled"
    num_negatives: int = 128
    temperature: float | int = 1.0
    normalize: bool = False
    loss_reduction: str = "mean"

    def validate_cpc(self) -> None:
        """Checks the choices and ranges."""
        if self.negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {NEGATIVES}, got {self.negatives!r}")
        if self.loss_reduction not in ("mean", "sum"):
            raise ValueError(f"loss_reduction must be 'mean' or 'sum', got {self.loss_reduction!r}")
        if self.prediction_offset < 1 or self.num_negatives < 1 or self.temperature <= 0:
            raise ValueError(
                "prediction_offset and num_negatives must be at least 1 and temperature above 0, got "
                f"{self.prediction_offset}, {self.num_negatives} and {self.temperature}"
            )


class CPC(Objective):
    """Predicts the stem's token `prediction_offset` steps ahead from a causal context, with one linear map.

    Where a backbone gives fewer tokens than its stem, it predicts the mean of the stem's tokens that a token covers.
    Neither positives nor negatives are detached: the stem learns from both.

    Source:
        van den Oord et al. 2018, eq. 4; in the form of study A (arXiv:2605.12241): one offset, scores without
        normalisation. With "sum" reduction and "sampled" negatives it is study A's loss.
    """

    fields: ClassVar[type[ObjectiveFields]] = CPCFields
    backbone_defaults: ClassVar[dict[str, Any]] = {"causal": True}

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        if not config.causal:
            raise ValueError(
                "cpc needs a backbone with causal=True, got causal=False, which sees the tokens it must predict; "
                "set causal=True"
            )
        self.predictor = nn.Linear(config.hidden_size, config.embed_size, bias=False)
        self.reduction = backbone.stride // backbone.embed_stride

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T); labels are not used.

        Raises:
            ValueError: If a crop has no more tokens than `prediction_offset`.
        """
        embedded = backbone.embed(signal)
        tokens = self._pool(embedded)
        offset = self.config.prediction_offset
        if tokens.shape[1] <= offset:
            raise ValueError(
                f"cpc predicts {offset} tokens ahead, so a crop needs more than {offset} tokens, got "
                f"{tokens.shape[1]}; use longer crops or a smaller prediction_offset"
            )
        encoded = backbone.encode(embedded)["last_hidden_state"]
        context = self.predictor(encoded[:, :-offset])
        if self.config.normalize:
            context, tokens = nn.functional.normalize(context, dim=-1), nn.functional.normalize(tokens, dim=-1)
        losses, hits = self._losses(context / self.config.temperature, tokens)
        loss = losses.mean() if self.config.loss_reduction == "mean" else losses.sum(dim=1).mean()
        metrics = {"accuracy": hits.float().mean().detach(), **feature_health(encoded)}
        return PretrainingOutput(loss=loss, metrics=metrics)

    def _pool(self, tokens: Tensor) -> Tensor:
        if self.reduction == 1:
            return tokens
        pooled = nn.functional.avg_pool1d(tokens.transpose(1, 2), self.reduction, ceil_mode=True)
        return pooled.transpose(1, 2)

    def _losses(self, context: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.negatives == "sampled":
            generator = evaluation_generator(self.training, tokens.device)
            negatives = draw_negatives(context, tokens.shape[1], self.config.num_negatives, generator)
            return sampled_info_nce(context, tokens, negatives)
        if self.config.negatives == "sequence":
            return sequence_info_nce(context, tokens)
        return batch_info_nce(context, tokens)


def draw_negatives(
    context: Tensor, num_tokens: int, num_negatives: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draws, for each position, indices of tokens other than its positive, uniformly and with replacement.

    Args:
        context: Predictions, shape (B, N - offset, D), whose shape and device decide those of the indices.
        num_tokens: Number of tokens N of a crop.
        num_negatives: Number of negatives to draw for each position.
        generator: Generator of the random draws; torch's default generator if None.

    Returns:
        Token indices, shape (B, N - offset, num_negatives).
    """
    size = (*context.shape[:2], num_negatives)
    drawn = torch.randint(num_tokens - 1, size, generator=generator, device=context.device)
    positive = torch.arange(num_tokens - size[1], num_tokens, device=context.device)[:, None]
    return drawn + (drawn >= positive)


def _positives(context: Tensor, tokens: Tensor) -> Tensor:
    num_positions, num_tokens = context.shape[1], tokens.shape[1]
    return torch.arange(num_tokens - num_positions, num_tokens, device=tokens.device)


def sampled_info_nce(context: Tensor, tokens: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Computes InfoNCE against given negatives of the same crop.

    All scores of a crop are one matrix product, from which those of the negatives are picked, so that no tensor of the
    shape (B, N, negatives, D) is created.

    Args:
        context: Predictions, shape (B, N - offset, D); row n predicts token n + offset.
        tokens: Tokens, shape (B, N, D).
        negatives: Token indices of K negatives per position, shape (B, N - offset, K).

    Returns:
        The loss of each position, and whether its positive has the highest score, both (B, N - offset).
    """
    scores = (context @ tokens.transpose(1, 2)).float()
    positive = _positives(context, tokens)[:, None].expand(len(context), -1, 1)
    logits = scores.gather(2, torch.cat([positive, negatives], dim=2))
    return logits.logsumexp(dim=2) - logits[..., 0], logits.argmax(dim=2) == 0


def sequence_info_nce(context: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Computes InfoNCE against all other tokens of the same crop; arguments and results as `sampled_info_nce`."""
    scores = (context @ tokens.transpose(1, 2)).float()
    future = _positives(context, tokens).expand(len(context), -1)
    losses = nn.functional.cross_entropy(scores.flatten(0, 1), future.flatten(), reduction="none")
    return losses.view_as(future), scores.argmax(dim=2) == future


def batch_info_nce(context: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Computes InfoNCE against all other tokens of the batch; arguments and results as `sampled_info_nce`.

    The scores are computed for a few crops at a time, and again in the backward pass, so that memory grows with B and
    not with its square.
    """
    everything = tokens.flatten(0, 1)
    future = _positives(context, tokens) + tokens.shape[1] * torch.arange(len(tokens), device=tokens.device)[:, None]
    crops = max(1, MAX_SCORES // (context.shape[1] * len(everything)))

    def losses_of(part: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        scores = (part @ everything.T).float()
        losses = nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="none")
        return losses.view_as(target), scores.argmax(dim=2) == target

    parts = [
        checkpoint(losses_of, part, target, use_reentrant=False)
        for part, target in zip(torch.split(context, crops), torch.split(future, crops), strict=True)
    ]
    losses, hits = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(hits)
