"""Batch-norm statistics of a pretrained backbone, computed again from whole signals."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ecg_hf.models.backbones.base import Backbone

NUM_BATCHES = 32  # batches that the statistics are computed from


@torch.no_grad()
def regather(backbone: Backbone, batches: Iterable[Tensor], forward: Callable[[Tensor], Any] | None = None) -> None:
    """Replaces the running statistics of a backbone's batch norms by their mean over batches.

    The statistics of pretraining come from signals with hidden tokens and from weights that have moved since. A model
    in use reads whole signals with its last weights, so its statistics must come from whole signals. To measure the
    loss of a pair, whose objective hides tokens, pass the pair as `forward`.

    Args:
        backbone: Backbone to change; it is left in evaluation mode.
        batches: Batches of signals, shape (B, L, T) each; without any, the statistics stay as they are.
        forward: Function to run on each batch, such as the backbone's pair; the backbone itself if None.
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
