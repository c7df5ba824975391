"""The base classes of all objectives, of their config fields and of their output."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from ecg_hf.models.backbones.base import Backbone, BackboneConfig


@dataclass
class ObjectiveFields:
    """The base class of the config fields of objectives, plain dataclasses that are mixed into the config of a pair."""


@dataclass
class PretrainingOutput(ModelOutput):
    """The output of a pair.

    Args:
        loss: Loss of the batch, a scalar.
        metrics: Detached scalars that describe the state of the training, such as "accuracy".
    """

    loss: Tensor | None = None
    metrics: dict[str, Tensor] | None = None


class Objective(nn.Module):
    """A module that computes the loss of a backbone, and owns everything that is discarded after pretraining.

    `fields` is the dataclass of the objective's config fields. `backbone_defaults` holds the backbone fields whose
    defaults the objective changes, such as `causal=True`. `metrics` of an output always contain those of
    `health.feature_health`.

    Args:
        config: Config of the pair.
        backbone: Backbone of the pair, which the objective does not keep.

    Raises:
        ValueError: If the objective cannot train a backbone with this config.
    """

    fields: ClassVar[type[ObjectiveFields]] = ObjectiveFields
    backbone_defaults: ClassVar[dict[str, Any]] = {}
    uses_labels: ClassVar[bool] = False

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__()
        self.config = config

    def initialise(self, backbone: Backbone) -> None:
        """Initialises the objective's own parameters and buffers, after those of the backbone.

        An objective with such tensors must implement this method with `transformers.initialization`, which skips loaded
        tensors.

        Args:
            backbone: Backbone of the pair.
        """
        raise NotImplementedError

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of a batch.

        Args:
            backbone: Backbone of the pair.
            signal: Signals, prepared by the pair's feature extractor, shape (B, L, T).
            labels: Labels, shape (B, C), NaN where unknown; a self-supervised objective ignores them.

        Returns:
            The loss, a scalar, and the metrics.
        """
        raise NotImplementedError

    def after_step(self, backbone: Backbone, moved: Tensor | None = None) -> None:
        """Updates, after each optimizer step, what no gradient moves: a teacher, a codebook.

        Args:
            backbone: Backbone of the pair.
            moved: Whether the step moved the weights, a scalar on their device and the same in every process; None if
                the step is known to have moved them. After a step that did not, because its gradient was not finite,
                nothing moves here either, and the tokens collected for the step are discarded.
        """
