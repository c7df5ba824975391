"""The classifiers: a backbone with a head, to be fine-tuned and to predict the labels of a record.

`CLASSIFIERS` maps the name of a backbone ("s4") or of a pair ("s4-cpc") to the class of the classifier. Importing this
module registers all classifiers with `AutoModelForSequenceClassification`.
"""

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
    """A backbone with a head (`config.head`) that returns logits (B, C).

    `config.id2label` names the C outputs. `config.problem_type` chooses the loss; unset, it means
    "multi_label_classification".

    Args:
        config: Config of the backbone, whose `num_labels` or `id2label` gives the number of outputs C.

    Example:
        >>> import torch
        >>> from ecg_hf import CLASSIFIERS
        >>> kind = CLASSIFIERS["s4"]
        >>> classifier = kind(kind.config_class(**kind.backbone_class.sizes["20k"], num_labels=5))
        >>> classifier(torch.randn(2, 12, 600)).logits.shape
        torch.Size([2, 5])
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
        """Saves the model under its own tensor names, even if its head was loaded from a supervised pair.

        By default transformers would undo the renaming of `make_classifier` when it saves. Trainer reloads its best
        epoch without any renaming, so it would then silently keep the head of the last epoch.

        Args:
            args: Positional arguments of `PreTrainedModel.save_pretrained`.
            kwargs: Keyword arguments of `PreTrainedModel.save_pretrained`.
        """
        super().save_pretrained(*args, **{"save_original_format": False, **kwargs})

    def freeze_backbone(self) -> None:
        """Freezes the weights of the backbone and its batch-norm statistics, and turns off its dropout."""
        self.backbone_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "EcgForSequenceClassification":
        """Sets training or evaluation mode; a frozen backbone stays in evaluation mode and requires no gradient.

        A batch norm with frozen weights stays in evaluation mode too, whoever froze it: an adapter is saved without the
        batch-norm statistics of its model, so training must not change them.
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
        """Computes the logits of a batch and, if there are labels, the loss.

        Args:
            signal: Signals, prepared by the classifier's feature extractor, shape (B, L, T).
            labels: Labels as in `masked_loss`; numbers of shape (B,) will also do if C is 1.
            output_hidden_states: Whether to return the hidden states of the backbone; the config decides if None.
            _: Other columns of the batch, such as the ids of the records; they are ignored.

        Returns:
            The loss, a scalar or None, the logits, shape (B, C), and the hidden states if they are asked for.
        """
        encoded = self.backbone(signal, output_hidden_states=output_hidden_states, return_dict=True)
        logits = self.head(encoded.last_hidden_state)
        if labels is not None and labels.dim() == logits.shape[1] == 1 and labels.is_floating_point():
            labels = labels[:, None]  # transformers collates one number per record to (B,)
        loss = None if labels is None else masked_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


def make_classifier(backbone: type[Backbone]) -> type[EcgForSequenceClassification]:
    """Builds and registers the classifier class of a backbone.

    Args:
        backbone: Class of the backbone, such as `EcgS4Backbone`.

    Returns:
        The class of the classifier, such as `EcgS4ForSequenceClassification`.
    """
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
    # A supervised pair has a trained head too: the classifier loads that head instead of drawing a new one.
    register_checkpoint_conversion_mapping(name, [WeightRenaming(r"^objective\.head\.", "head.")], overwrite=True)
    return made


CLASSIFIERS = {name: make_classifier(load(BACKBONES, name)) for name in BACKBONES} | {
    name: make_classifier(pair.backbone_class) for name, pair in PAIRS.items()
}
