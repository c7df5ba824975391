"""Numbers that show whether representations still differ from token to token, or have collapsed."""

import torch
from torch import Tensor
from torch.nn import functional

# More tokens than this would cost time and hardly change the numbers.
MAX_TOKENS = 4096


@torch.no_grad()
def feature_health(features: Tensor) -> dict[str, Tensor]:
    """Measures how spread out features are, whatever their scale.

    Args:
        features: Shape (B, N, D); of more than 4,096 tokens, evenly spaced ones are used.

    Returns:
        "feature_std", the standard deviation over tokens of features of unit length, averaged over channels and
        multiplied by the root of D: 1 if they point everywhere, 0 if they are all the same; and "effective_rank",
        from 1 to D, the participation ratio of the eigenvalues of their covariance, (sum)^2 / sum of squares.

    Source:
        Chen and He 2021 (arXiv:2011.10566), figure 2, for the first. The second needs no eigenvalues, so it never
        makes the device wait, unlike the entropy of Roy and Vetterli 2007 (EUSIPCO).
    """
    with torch.autocast(features.device.type, enabled=False):
        tokens = features.detach().flatten(0, 1).float()
        tokens = tokens[:: -(-len(tokens) // MAX_TOKENS)]
        unit = functional.normalize(tokens, dim=-1)
        spread = unit.var(dim=0, correction=0).clamp(min=0).sqrt().mean() * features.shape[-1] ** 0.5
        centred = tokens - tokens.mean(dim=0)
        covariance = centred.T @ centred
        rank = covariance.diagonal().sum().square() / covariance.square().sum().clamp(min=1e-20)
    return {"feature_std": spread, "effective_rank": rank}


@torch.no_grad()
def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Averages the cosine between two networks' tokens, shapes (B, N, D): a scalar."""
    similarity: Tensor = functional.cosine_similarity(student.detach().float(), teacher.detach().float(), dim=-1)
    return similarity.mean()


@torch.no_grad()
def perplexity(usage: Tensor) -> Tensor:
    """Says how many codes are really in use.

    Args:
        usage: How often each code was assigned, shape (..., C), in any unit.

    Returns:
        The exponential of the entropy of the shares, from 1 to C, shape (...).
    """
    shares = usage / usage.sum(dim=-1, keepdim=True).clamp(min=1e-20)
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1)
    return entropy.exp()
