"""Readouts: from tokens to logits, and the loss that a readout is trained with."""

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.models.backbones.base import BackboneConfig, Drawn


class Head(nn.Module):
    """A readout in two parts, of which the first can be done once and kept where the tokens do not change."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Reads tokens (B, N, D) out to logits (B, C)."""
        return self.read(self.summarise(tokens))

    def summarise(self, tokens: Tensor) -> Tensor:
        """Does what no parameter of the head decides, from tokens (B, N, D) to features (B, ...)."""
        return tokens

    def read(self, features: Tensor) -> Tensor:
        """Reads what `summarise` gives out to logits (B, C)."""
        raise NotImplementedError


class LinearHead(Head):
    """The mean over tokens, then a linear map.

    Source:
        Study A (arXiv:2605.12241), modes "finetune" and "linear".
    """

    def __init__(self, config: BackboneConfig):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, len(config.id2label or {}))

    def summarise(self, tokens: Tensor) -> Tensor:
        """Averages tokens (B, N, D) to features (B, D)."""
        return tokens.mean(dim=1)

    def read(self, features: Tensor) -> Tensor:
        """Reads features (B, D) out to logits (B, C)."""
        logits: Tensor = self.linear(features)
        return logits


class AttentionHead(Head, Drawn):
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

    def read(self, features: Tensor) -> Tensor:
        """Reads tokens (B, N, D) out to logits (B, C).

        There is one query, so its product with the key map, and the value map of the attended mean, are taken once
        for a crop instead of a key and a value for each token: the same sums in another order, D / num_heads times
        fewer of them.
        """
        query = self.q_proj(self.query).view(self.num_heads, 1, -1)
        asked = (query @ self._by_head(self.k_proj)).squeeze(1)  # (num_heads, D)
        weights = (features @ asked.t() / math.sqrt(query.shape[-1])).softmax(dim=1)
        attended = weights.transpose(1, 2) @ features  # (B, num_heads, D)
        values = attended.transpose(0, 1) @ self._by_head(self.v_proj).transpose(1, 2)
        logits: Tensor = self.out_proj(values.transpose(0, 1).flatten(1))
        return logits

    def _by_head(self, projection: nn.Linear) -> Tensor:
        return projection.weight.view(self.num_heads, -1, projection.in_features)


HEADS: dict[str, type[Head]] = {"linear": LinearHead, "attention": AttentionHead}


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
