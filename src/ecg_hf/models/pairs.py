"""The pairs of a backbone with an objective, each a `PreTrainedModel` with a config class of its own.

`PAIRS` maps a name such as "s4-cpc" to the class of the pair; its keys are all combinations of the registered backbones
and objectives. Importing this module registers all backbones and pairs with the Auto classes of transformers.
"""

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
    """A backbone under pretraining: `pair.backbone` is kept afterwards, `pair.objective` is discarded.

    Args:
        config: Config of the pair, with the fields of the backbone and of the objective side by side.

    Example:
        >>> import torch
        >>> from ecg_hf import PAIRS
        >>> kind = PAIRS["s4-cpc"]
        >>> pair = kind(kind.config_class(**kind.backbone_class.sizes["20k"]))
        >>> output = pair(torch.randn(2, 12, 600))  # 2 crops of 12 leads, 2.5 s at 240 Hz
        >>> output.loss.shape, sorted(output.metrics)
        (torch.Size([]), ['accuracy', 'effective_rank', 'feature_std'])
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
        """Returns None, as a pair has no embedding table; Accelerate asks for one before it shards a model."""
        return None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Objective):
            # transformers initialises from the leaves to the root, in the order of __init__: the backbone is ready.
            module.initialise(self.backbone)
        else:
            super()._init_weights(module)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(self, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of a batch.

        Args:
            signal: Signals, prepared by the pair's feature extractor, shape (B, L, T).
            labels: Labels, shape (B, C), NaN where unknown; a self-supervised objective ignores them.

        Returns:
            The loss, a scalar, and the metrics of the objective.
        """
        output: PretrainingOutput = self.objective(self.backbone, signal, labels)
        return output

    def after_step(self, moved: Tensor | None = None) -> None:
        """Updates the teacher and the codebooks of the objective, if it has any; call it after each optimizer step.

        Args:
            moved: Whether the step moved the weights, a scalar on their device that the host never reads; None if the
                step is known to have moved them.
        """
        self.objective.after_step(self.backbone, moved)


def _subclass(name: str, base: type, **attributes: Any) -> type:
    """Creates a class that pickles and prints as if it were defined in this module."""
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

    `EcgS4Backbone` and `CPC` become `EcgS4CPCConfig` (model type "ecg-s4-cpc"), `EcgS4CPCBackbone`, which `AutoModel`
    returns, and `EcgS4ForCPC`, which `AutoModelForPreTraining` returns.

    Args:
        backbone: Class of the backbone.
        objective: Class of the objective.
        objective_name: Name of the objective in the registry, the last part of the model type.

    Returns:
        The class of the pair.
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
