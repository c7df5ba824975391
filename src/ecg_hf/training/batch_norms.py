"""Batch norms of a pretrained backbone: their statistics gathered anew from whole signals."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ecg_hf.models.backbones.base import Backbone

NUM_BATCHES = 32  # that statistics come from


@torch.no_grad()
def regather(backbone: Backbone, batches: Iterable[Tensor], forward: Callable[[Tensor], Any] | None = None) -> None:
    """Replaces the running statistics of a backbone's batch norms by their mean over batches.

    During pretraining hidden tokens, and weights that have moved since, go into these statistics. A model that is used
    reads whole signals with its last weights, and to it they would say something else. A pair whose loss is measured
    reads signals of which something is hidden, and needs those statistics.

    Args:
        backbone: Which is left in evaluation mode.
        batches: Signals (B, L, T); none, and nothing changes.
        forward: What runs on a batch, such as the backbone's pair; the backbone, to which nothing is hidden, if None.
    """
    forward = forward or backbone
    backbone.eval()
    norms = [module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for index, signal in enumerate(batches if norms else ()):
        for norm in norms:
            if index == 0:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over all batches
            norm.train()
        forward(signal)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    backbone.eval()
