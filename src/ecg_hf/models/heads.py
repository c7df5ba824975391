"""The heads of classifiers, which map tokens to logits, and the loss that trains them."""

import math

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.models.backbones.base import BackboneConfig, Drawn


class Head(nn.Module):
    """A head in two steps; the result of the first, `summarise`, can be cached as long as the tokens do not change."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Computes logits (B, C) from tokens (B, N, D)."""
        return self.read(self.summarise(tokens))

    def summarise(self, tokens: Tensor) -> Tensor:
        """Computes features (B, ...) from tokens (B, N, D), without any parameter of the head."""
        return tokens

    def read(self, features: Tensor) -> Tensor:
        """Computes logits (B, C) from the features that `summarise` returns."""
        raise NotImplementedError


class LinearHead(Head):
    """The mean over tokens, then a linear map.

    Args:
        config: Config of the backbone.

    Source:
        Study A (arXiv:2605.12241), modes "finetune" and "linear".
    """

    def __init__(self, config: BackboneConfig):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, len(config.id2label or {}))

    def summarise(self, tokens: Tensor) -> Tensor:
        """Computes the mean of tokens (B, N, D) over time, (B, D)."""
        return tokens.mean(dim=1)

    def read(self, features: Tensor) -> Tensor:
        """Computes logits (B, C) from features (B, D)."""
        logits: Tensor = self.linear(features)
        return logits


class AttentionHead(Head, Drawn):
    """Attention of one learned query to the tokens, with several heads and without bias, norm or dropout.

    Args:
        config: Config of the backbone.

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
        """Computes logits (B, C) from tokens (B, N, D).

        As there is only one query, the key map is applied to the query and the value map to the attended mean, instead
        of both to every token: the same sums in another order, and D / num_heads times fewer operations per token.
        """
        query = self.q_proj(self.query).view(self.num_heads, 1, -1)
        mapped = (query @ self._by_head(self.k_proj)).squeeze(1)  # (num_heads, D)
        weights = (features @ mapped.t() / math.sqrt(query.shape[-1])).softmax(dim=1)
        attended = weights.transpose(1, 2) @ features  # (B, num_heads, D)
        values = attended.transpose(0, 1) @ self._by_head(self.v_proj).transpose(1, 2)
        logits: Tensor = self.out_proj(values.transpose(0, 1).flatten(1))
        return logits

    def _by_head(self, projection: nn.Linear) -> Tensor:
        return projection.weight.view(self.num_heads, -1, projection.in_features)


HEADS: dict[str, type[Head]] = {"linear": LinearHead, "attention": AttentionHead}


def masked_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """Computes the mean loss over the known labels.

    Args:
        logits: Logits, shape (B, C).
        labels: Labels, shape (B, C), NaN where unknown; for "single_label_classification" class indices, shape (B,).
        problem_type: Problem type of transformers' configs; None means "multi_label_classification".

    Returns:
        A scalar: binary cross-entropy ("multi_label_classification"), L1 distance ("regression", as in study A) or
        cross-entropy ("single_label_classification"). Without any known label the first two are zero, with a zero
        gradient.

    Raises:
        ValueError: If labels and logits differ in shape, or the problem type is unknown.
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
