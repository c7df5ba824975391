"""Parameter groups of the optimizer with their learning rates and weight decay, and the learning-rate schedule."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from ecg_hf.models.backbones.base import Drawn
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.models.pairs import Pair

# Factors on the learning rate: "head" is the objective or the head, "stem" and "trunk" are parts of the backbone.
LEARNING_RATE_SCALES: dict[str, Mapping[str, float]] = {
    "uniform": {"head": 1.0, "trunk": 1.0, "stem": 1.0},
    "study_a": {"head": 1.0, "trunk": 0.1, "stem": 0.01},
}
# The cosine ends at this factor rather than at zero, so that the last steps still count.
FINAL_FACTOR = 0.1


def parameter_groups(
    model: Pair | EcgForSequenceClassification, learning_rate: float, weight_decay: float, scales: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Sorts the trainable parameters of a pair or a classifier into optimizer groups.

    Norms, biases and the parameters of a state space do not decay: pulling them to zero is not regularisation.

    Args:
        model: Model with a `backbone`; all its other parameters form the "head".
        learning_rate: Learning rate of a group whose scale is 1.
        weight_decay: Weight decay of the parameters that decay.
        scales: Factors on the learning rate of "head", "trunk" and "stem".

    Returns:
        Groups with "params", "lr", "initial_lr", "weight_decay" and "name"; empty groups are left out.
    """
    backbone = model.backbone
    part_of = {f"backbone.{name}": part for part, names in backbone.parameter_groups().items() for name in names}
    part_of["objective.mask_token"] = "trunk"  # as in study A: the mask token is an input of the trunk
    undecayed = {
        f"{key}.{name}"
        for key, module in model.named_modules()
        if isinstance(module, Drawn) and module.undecayed
        for name, _ in module.named_parameters()
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name not in undecayed
            groups.setdefault((part_of.get(name, "head"), decays), []).append(parameter)
    return [
        {
            "name": f"{part}{'' if decays else '_undecayed'}",
            "params": parameters,
            "lr": learning_rate * scales[part],
            "initial_lr": learning_rate * scales[part],
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]


def learning_rate_factor(step: int, *, max_steps: int, warmup_steps: int, schedule: str) -> float:
    """Computes the factor on every group's learning rate at a step.

    The factor is a function of the step alone, so that a resumed run needs no scheduler state.

    Args:
        step: Number of optimizer steps already taken, from 0 to max_steps - 1.
        max_steps: Steps of the whole run.
        warmup_steps: Steps over which the rate rises linearly to its full value.
        schedule: "constant" or "cosine", which falls to a tenth at the end.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return FINAL_FACTOR + (1 - FINAL_FACTOR) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
