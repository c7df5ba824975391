"""Supervised pretraining on labels, the baseline that every self-supervised objective must beat."""

from typing import Any, ClassVar

from torch import Tensor

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.heads import HEADS, masked_loss
from ecg_hf.models.objectives.base import Objective, ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.health import feature_health


class Supervised(Objective):
    """Predicts the labels by a head (`config.head`) on the tokens, with binary cross-entropy over the known labels.

    Source:
        Study B (arXiv:2605.17276), supervised pretraining; study A, models trained from scratch.
    """

    fields: ClassVar[type[ObjectiveFields]] = ObjectiveFields
    backbone_defaults: ClassVar[dict[str, Any]] = {"problem_type": "multi_label_classification"}
    uses_labels: ClassVar[bool] = True

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.head = HEADS[config.head](config)

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T) with labels (B, C), NaN where unknown.

        Raises:
            ValueError: If there are no labels.
        """
        if labels is None:
            raise ValueError("supervised pretraining needs labels of shape (B, C), got None; choose another objective")
        tokens = backbone(signal, return_dict=True)["last_hidden_state"]
        loss = masked_loss(self.head(tokens), labels, self.config.problem_type)
        return PretrainingOutput(loss=loss, metrics=feature_health(tokens))
