"""Readouts: from tokens to logits, and the loss that a readout is trained with."""

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.backbones.base import BackboneConfig, Drawn


class LinearHead(nn.Module):
    """The mean over tokens, then a linear map.

    Source:
        Study A (arXiv:2605.12241), modes "finetune" and "linear".
    """

    def __init__(self, config: BackboneConfig):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, len(config.id2label or {}))

    def forward(self, tokens: Tensor) -> Tensor:
        """Reads tokens (B, N, D) out to logits (B, C)."""
        logits: Tensor = self.linear(tokens.mean(dim=1))
        return logits


class AttentionHead(Drawn):
    """One learned query attends to the tokens with several heads; no bias, norm or dropout.

    Source:
        Study A (arXiv:2605.12241), mode "frozen": 786,944 + 512 C parameters at width 512.
    """

    def __init__(self, config: BackboneConfig):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.head_num_heads
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, len(config.id2label or {}), bias=False)

    def reset(self) -> None:
        """Draws the query from N(0, 1 / D), unless it was loaded."""
        init.normal_(self.query, std=1 / math.sqrt(self.query.shape[-1]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Reads tokens (B, N, D) out to logits (B, C)."""
        query = self._split(self.q_proj(self.query)).expand(tokens.shape[0], -1, -1, -1)
        pooled = nn.functional.scaled_dot_product_attention(
            query, self._split(self.k_proj(tokens)), self._split(self.v_proj(tokens))
        )
        logits: Tensor = self.out_proj(pooled.transpose(1, 2).flatten(1))
        return logits

    def _split(self, tokens: Tensor) -> Tensor:
        batch, num_tokens, width = tokens.shape
        return tokens.view(batch, num_tokens, self.num_heads, width // self.num_heads).transpose(1, 2)


HEADS = {"linear": LinearHead, "attention": AttentionHead}


def masked_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """Averages a loss over the labels that are known.

    Args:
        logits: Shape (B, C).
        labels: Shape (B, C), NaN where unknown; shape (B,), class indices, for one label per record.
        problem_type: As in transformers; None means "multi_label_classification".

    Returns:
        A scalar: binary cross-entropy, L1 distance ("regression", as in study A) or cross-entropy. If no label is
        known it is zero, and so is its gradient.

    Raises:
        ValueError: If the shapes or the problem type do not fit.
    """
    if problem_type == "single_label_classification":
        return nn.functional.cross_entropy(logits.float(), labels.long())
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels must have the shape of the logits, {tuple(logits.shape)}, got {tuple(labels.shape)}; "
            "set config.num_labels to the number of labels"
        )
    known = ~labels.isnan()
    target = labels.nan_to_num().to(torch.float32)
    if problem_type in (None, "multi_label_classification"):
        losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    elif problem_type == "regression":
        losses = (logits.float() - target).abs()
    else:
        raise ValueError(
            f"problem_type must be 'multi_label_classification', 'single_label_classification' or 'regression', "
            f"got {problem_type!r}"
        )
    return (losses * known).sum() / known.sum().clamp(min=1)
