"""A backbone with a readout: what is fine-tuned, and what answers for a record."""

from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from ecg_hf.models.backbones.base import Backbone, BackboneConfig, EcgModel
from ecg_hf.models.heads import HEADS, Head, masked_loss
from ecg_hf.models.pairs import PAIRS
from ecg_hf.registry import BACKBONES, load


class EcgForSequenceClassification(EcgModel):
    """A backbone and a readout (`config.head`) that gives logits (B, C).

    `id2label` names the outputs. `problem_type` chooses the loss, "multi_label_classification" if it is not set.
    """

    config_class: type[BackboneConfig]
    backbone_class: type[Backbone]
    backbone: Backbone
    head: Head
    _keys_to_ignore_on_load_unexpected = [r"^objective\."]  # noqa: RUF012

    def __init__(self, config: BackboneConfig):
        super().__init__(config)
        self.backbone = self.backbone_class(config)
        self.head = HEADS[config.head](config)
        self.backbone_frozen = False
        self.post_init()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Saves as transformers does, under the model's own names, also if the head came from a supervised pair.

        Left alone, transformers would undo the renaming of `make_classifier`, and Trainer, which reads its best epoch
        back without any renaming, would silently keep the last epoch's head.
        """
        super().save_pretrained(*args, **{"save_original_format": False, **kwargs})

    def freeze_backbone(self) -> None:
        """Stops the backbone from learning, its dropout and its batch statistics included."""
        self.backbone_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "EcgForSequenceClassification":
        """Sets training mode; a frozen backbone stays in evaluation mode and asks for no gradient.

        So does a batch norm that someone else froze: an adapter is saved without the statistics of its model.
        """
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.train(False).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
                module.train(False)
        return self

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self, signal: Tensor, labels: Tensor | None = None, *, output_hidden_states: bool | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Reads signals (B, L, T) out to logits (B, C), with the loss if labels (B, C), or (B,) if C is 1, are given.

        Further keyword arguments, such as a record's id, travel with the batch and are not used.
        """
        encoded = self.backbone(signal, output_hidden_states=output_hidden_states, return_dict=True)
        logits = self.head(encoded.last_hidden_state)
        if labels is not None and labels.dim() == logits.shape[1] == 1 and labels.is_floating_point():
            labels = labels[:, None]  # as transformers collates one number per record
        loss = None if labels is None else masked_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


def make_classifier(backbone: type[Backbone]) -> type[EcgForSequenceClassification]:
    """Builds and registers the classifier of a backbone: `EcgS4Backbone` gives `EcgS4ForSequenceClassification`."""
    name = f"{backbone.__name__.removesuffix('Backbone')}ForSequenceClassification"
    attributes = {
        "config_class": backbone.config_class,
        "backbone_class": backbone,
        "__module__": __name__,
        "__doc__": EcgForSequenceClassification.__doc__,
    }
    made = type(name, (EcgForSequenceClassification,), attributes)
    globals()[name] = made
    AutoModelForSequenceClassification.register(backbone.config_class, made)
    # A supervised pair has learned a readout too: the classifier takes it over instead of starting anew.
    register_checkpoint_conversion_mapping(name, [WeightRenaming(r"^objective\.head\.", "head.")], overwrite=True)
    return made


CLASSIFIERS = {name: make_classifier(load(BACKBONES, name)) for name in BACKBONES} | {
    name: make_classifier(pair.backbone_class) for name, pair in PAIRS.items()
}
