"""Batch norms of a pretrained backbone: their statistics gathered anew from whole signals."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ecg_hf.backbones.base import Backbone


@torch.no_grad()
def regather(backbone: Backbone, batches: Iterable[Tensor]) -> None:
    """Replaces the running statistics of a backbone's batch norms by their mean over batches that hide nothing.

    During pretraining hidden tokens, and weights that have moved since, go into these statistics. A model that is used
    reads whole signals with its last weights, and to it they would say something else.

    Args:
        backbone: Which is left in evaluation mode.
        batches: Signals (B, L, T); none, and nothing changes.
    """
    backbone.eval()
    norms = [module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for index, signal in enumerate(batches if norms else ()):
        for norm in norms:
            if index == 0:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over all batches
            norm.train()
        backbone(signal)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    backbone.eval()
