"""Metrics that show whether representations still differ from token to token or have collapsed."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

# More tokens than this would take time and hardly change the metrics.
MAX_TOKENS = 4096


@torch.no_grad()
def feature_health(features: Tensor) -> dict[str, Tensor]:
    """Measures how spread out features are, independently of their scale.

    Args:
        features: Features, shape (B, N, D); of more than 4,096 tokens, evenly spaced ones are used.

    Returns:
        "feature_std", see the function of that name; and "effective_rank", from 1 to D, the participation ratio of
        the eigenvalues of the features' covariance, (sum)^2 / sum of squares; 0 if all features are the same.

    Source:
        Gao et al. 2017 (bioRxiv 214262), the participation ratio. It needs no eigenvalues, so it never makes the
        device wait, unlike the entropy of Roy and Vetterli 2007 (EUSIPCO).
    """
    with torch.autocast(features.device.type, enabled=False):
        tokens = _some(features)
        # Scaled to norm 1, the eigenvalues sum to 1, and no square overflows or vanishes.
        centred = functional.normalize((tokens - tokens.mean(dim=0)).flatten(), dim=0).view_as(tokens)
        covariance = centred.T @ centred
        rank = covariance.diagonal().sum().square() / covariance.square().sum().clamp(min=1e-20)
    return {"feature_std": feature_std(features), "effective_rank": rank}


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Measures how much the directions of features differ.

    Args:
        features: Features, shape (B, N, D).

    Returns:
        A scalar, 1 if features point in all directions and 0 if all point in the same one: the standard deviation over
        tokens of features of unit length, averaged over channels, times the root of D.

    Source:
        Chen and He 2021 (arXiv:2011.10566), figure 2.
    """
    unit = functional.normalize(_some(features), dim=-1)
    spread: Tensor = unit.var(dim=0, correction=0).sqrt().mean() * features.shape[-1] ** 0.5
    return spread


def _some(features: Tensor) -> Tensor:
    """Picks at most 4,096 evenly spaced tokens, in float32, shape (tokens, D)."""
    tokens = features.detach().flatten(0, 1).float()
    fewest = -(-len(tokens) // MAX_TOKENS)
    # A step that shares a factor with N would pick the same few positions in every crop.
    return tokens[:: next(step for step in itertools.count(fewest) if math.gcd(step, features.shape[1]) == 1)]


@torch.no_grad()
def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the mean cosine between the tokens of two networks, (B, N, D) each: a scalar."""
    similarity: Tensor = functional.cosine_similarity(student.detach().float(), teacher.detach().float(), dim=-1)
    return similarity.mean()


@torch.no_grad()
def perplexity(usage: Tensor) -> Tensor:
    """Computes the effective number of codes in use.

    Args:
        usage: Number of assignments of each code, up to a factor, shape (..., C).

    Returns:
        The exponential of the entropy of the codes' fractions, from 1 to C, shape (...).
    """
    shares = usage / usage.sum(dim=-1, keepdim=True).clamp(min=1e-20)
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1)
    return entropy.exp()
