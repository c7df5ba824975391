"""data2vec, which predicts the mean output of a teacher's last layers where tokens are hidden."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.objectives.base import ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.masking import SpanFields, draw_spans, masked_mean
from ecg_hf.models.objectives.predictor import PredictorFields, make_predictor, prediction_losses
from ecg_hf.models.objectives.teacher import TargetFields, TeacherFields, TeacherObjective, standardise


@dataclass
class Data2VecFields(TeacherFields, TargetFields, SpanFields, PredictorFields):
    """Config fields of data2vec.

    Args:
        average_top_k_layers: Number of the teacher's last layers whose outputs are averaged to the target. Only layers
            with the width and stride of the output count; if there are fewer, all of them are averaged.
        feature_reduction: Reduction of the errors over a token's D features: "mean", or "sqrt" (their sum divided by
            the root of D, as in study A, which is the mean times the root of D).
    """

    average_top_k_layers: int = 2
    feature_reduction: str = "mean"

    def validate_data2vec(self) -> None:
        """Checks the choice and the range."""
        if self.average_top_k_layers < 1:
            raise ValueError(f"average_top_k_layers must be at least 1, got {self.average_top_k_layers}")
        if self.feature_reduction not in ("mean", "sqrt"):
            raise ValueError(f"feature_reduction must be 'mean' or 'sqrt', got {self.feature_reduction!r}")


class Data2Vec(TeacherObjective):
    """Predicts, where tokens are hidden, the mean of the standardised mixer outputs of the teacher's last layers.

    Source:
        Baevski et al. 2022 (arXiv:2202.03555), section 3.3; in the form of study A (arXiv:2605.12241), whose mask is
        `mask_fraction = 1 - (1 - 0.0065)^10`, whose targets are standardised over the "token", whose reduction is
        "sqrt" and whose decay has no ramp.
    """

    fields: ClassVar[type[ObjectiveFields]] = Data2VecFields

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.predictor = make_predictor(self.config, config.hidden_size)
        self.num_averaged = min(self.config.average_top_k_layers, backbone.num_layer_outputs)
        self.scale = config.hidden_size**0.5 if self.config.feature_reduction == "sqrt" else 1.0

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T), zero if nothing is hidden; labels are not used."""
        teacher = self.teacher(signal, output_layer_outputs=True)
        targets = average_layers(teacher["layer_outputs"][-self.num_averaged :], self.config.target_norm)
        mask = draw_spans(self.config, targets, training=self.training)
        tokens = self.encode_masked(backbone, signal, mask)
        losses = prediction_losses(self.predictor(tokens), targets)
        metrics = self.measure(tokens, teacher["last_hidden_state"], mask)
        return PretrainingOutput(loss=self.scale * masked_mean(losses, mask), metrics=metrics)


def average_layers(layers: tuple[Tensor, ...], target_norm: str) -> Tensor:
    """Computes the mean of layers (B, N, D), each standardised over `target_norm`, see `TargetFields`."""
    total = standardise(layers[0], target_norm)
    for layer in layers[1:]:
        total = total + standardise(layer, target_norm)
    return total / len(layers)
