"""What every objective promises."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from ecg_hf.models.backbones.base import Backbone, BackboneConfig


@dataclass
class ObjectiveFields:
    """Config fields that every objective has: none. A subclass is a plain dataclass, mixed into a pair's config."""


@dataclass
class PretrainingOutput(ModelOutput):
    """What a pair gives.

    Args:
        loss: A scalar.
        metrics: Detached scalars that say how the objective is doing, such as "accuracy".
    """

    loss: Tensor | None = None
    metrics: dict[str, Tensor] | None = None


class Objective(nn.Module):
    """Turns a backbone and a batch into a loss, and owns all that is thrown away afterwards.

    `fields` is the dataclass of its config fields; `backbone_defaults` says which backbone fields it needs, such as
    `causal=True`. Its constructor raises ValueError if the backbone's config cannot serve it. Its `metrics` always
    hold those of `health.feature_health`.
    """

    fields: ClassVar[type[ObjectiveFields]] = ObjectiveFields
    backbone_defaults: ClassVar[dict[str, Any]] = {}
    uses_labels: ClassVar[bool] = False

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__()
        self.config = config

    def initialise(self, backbone: Backbone) -> None:
        """Sets what the objective itself holds, once the backbone is there.

        An objective with parameters or buffers of its own must implement it, with `transformers.initialization`,
        which leaves alone what was loaded.
        """
        raise NotImplementedError

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of a batch of signals (B, L, T), and of labels (B, C) where the objective uses them."""
        raise NotImplementedError

    def after_step(self, backbone: Backbone, moved: Tensor | None = None) -> None:
        """Runs after each optimizer step, for what no gradient moves: an EMA, a codebook.

        Args:
            backbone: That of the pair.
            moved: Whether the step moved the weights, a scalar on their device and the same in every process; None if
                it did. After one that did not, as its gradient was not finite, nothing moves here either, and what
                was collected for the step is forgotten.
        """
