"""Pairs: every backbone with every objective, each a PreTrainedModel with a config of its own."""

from dataclasses import make_dataclass
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForPreTraining
from transformers.utils.generic import can_return_tuple

from ecg_hf.models.backbones.base import Backbone, BackboneConfig, EcgModel
from ecg_hf.models.objectives.base import Objective, PretrainingOutput
from ecg_hf.registry import BACKBONES, OBJECTIVES, load
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor


class Pair(EcgModel):
    """A backbone under pretraining. `pair.backbone` is what survives; `pair.objective` is thrown away.

    Args:
        config: All fields of the backbone and of the objective, flat.
    """

    config_class: type[BackboneConfig]
    backbone_class: type[Backbone]
    objective_class: type[Objective]
    backbone: Backbone

    def __init__(self, config: BackboneConfig):
        super().__init__(config)
        self.backbone = self.backbone_class(config)
        self.objective = self.objective_class(config, self.backbone)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """Says that there is no table of embeddings, which Accelerate asks for before it shards a model."""
        return None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Objective):
            # transformers walks from the leaves to the root, in the order of __init__: the backbone is ready.
            module.initialise(self.backbone)
        else:
            super()._init_weights(module)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(self, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T), with labels (B, C) where the objective uses them."""
        output: PretrainingOutput = self.objective(self.backbone, signal, labels)
        return output

    def after_step(self, moved: Tensor | None = None) -> None:
        """Runs after each optimizer step.

        Args:
            moved: Whether the step moved the weights, a scalar on their device that is never read by the host; None
                if it did.
        """
        self.objective.after_step(self.backbone, moved)


def _subclass(name: str, base: type, **attributes: Any) -> type:
    """Makes a class that pickles and prints as if it stood in this module."""
    made = type(name, (base,), {"__module__": __name__, "__doc__": base.__doc__, **attributes})
    globals()[name] = made
    return made


def _make_config(name: str, model_type: str, backbone: type[Backbone], objective: type[Objective]) -> type:
    defaults = objective.backbone_defaults
    annotations = [
        (field, backbone.config_class.__dataclass_fields__[field].type, defaults[field]) for field in defaults
    ]
    bases = (objective.fields, backbone.config_class)
    namespace = {"model_type": model_type, "__module__": __name__, "__doc__": backbone.config_class.__doc__}
    made: type = strict(make_dataclass(name, annotations, bases=bases, namespace=namespace, kw_only=True))
    globals()[name] = made
    return made


def make_pair(backbone: type[Backbone], objective: type[Objective], objective_name: str) -> type[Pair]:
    """Builds and registers the config and model classes of one pair.

    `EcgS4Backbone` and `CPC` give `EcgS4CPCConfig` (model type "ecg-s4-cpc"), `EcgS4CPCBackbone`, which `AutoModel`
    returns, and `EcgS4ForCPC`, which `AutoModelForPreTraining` returns.
    """
    stem = backbone.__name__.removesuffix("Backbone")
    pair_name = f"{stem}{objective.__name__}"
    model_type = f"{backbone.config_class.model_type}-{objective_name}"
    config = _make_config(f"{pair_name}Config", model_type, backbone, objective)
    encoder = _subclass(f"{pair_name}Backbone", backbone, config_class=config)
    attributes = {"config_class": config, "backbone_class": encoder, "objective_class": objective}
    pair: type[Pair] = _subclass(f"{stem}For{objective.__name__}", Pair, **attributes)
    _register(config, encoder)
    AutoModelForPreTraining.register(config, pair)
    return pair


def _register(config: type[BackboneConfig], encoder: type[Backbone]) -> None:
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, encoder)
    AutoFeatureExtractor.register(config, EcgFeatureExtractor)


def _register_all() -> dict[str, type[Pair]]:
    backbones = {name: load(BACKBONES, name) for name in BACKBONES}
    for backbone in backbones.values():
        _register(backbone.config_class, backbone)
    return {
        f"{name}-{objective}": make_pair(backbone, load(OBJECTIVES, objective), objective)
        for name, backbone in backbones.items()
        for objective in OBJECTIVES
    }


PAIRS = _register_all()
