"""Converts study A's checkpoints to models of this library, and back.

Study A is arXiv:2605.12241. "Study A's code" is the code it published, and "study A's checkpoint" is a file that this
code wrote. Such a checkpoint has other names for the tensors, and the C of its state spaces holds for one length only.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.backbones.base import Backbone, EcgModel
from ecg_hf.models.conversion.file import load_study_a
from ecg_hf.models.conversion.layout import Layout, check_layout, plain_names, summarise
from ecg_hf.models.conversion.objectives import HEADS, HUBERTPP_SIZES, S4_HEAD, objective_layout, recognise
from ecg_hf.models.conversion.s4 import s4_sizes
from ecg_hf.models.conversion.teacher import TeacherDiagnosis, diagnose_teacher
from ecg_hf.models.conversion.trunks import ROPE_THETA, STACK, TRUNKS, backbone_layout, read_backbone
from ecg_hf.models.conversion.values import own_names, read_values, write_values
from ecg_hf.models.pairs import PAIRS, Pair
from ecg_hf.registry import BACKBONES, load

__all__ = [
    "StudyAContent",
    "TeacherDiagnosis",
    "convert_study_a",
    "convert_study_a_pair",
    "describe_study_a",
    "diagnose_teacher",
    "load_study_a",
    "to_study_a",
]

NUM_TOKENS = 300  # tokens of a crop in study A
# The config field "teacher" for each verdict of `diagnose_teacher` that is clear.
TEACHERS = {"follows": "ema", "independent": "frozen_random"}
# Prefixes of the tensors that a pretraining or fine-tuning run of study A's code stores beside the backbone.
_NOT_THE_BACKBONE = ("head_ssl.", "head.", "ema.", "masking.")
# Study A's values of the fields that change what a model computes, but not the names or shapes of its tensors.
_FIXED = {"positions": "rotary", "rope_theta": ROPE_THETA, "codebook_sizes": HUBERTPP_SIZES}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyAContent:
    """The contents of one of study A's checkpoints, in the terms of this library.

    Args:
        backbone: Name of the backbone in the registry.
        pair: Name of the pair; None if the checkpoint lacks the objective's tensors.
        num_tokens: Number of tokens that C of its state spaces was made for; None if it has no state space.
        left_out: Reason for each tensor that the library's pair cannot hold, wholly or in part, by the tensor's name.
        made_anew: Prefixes of the library's tensors that are not in the checkpoint and are newly initialised.
        teacher: Diagnosis of the teacher; None if the checkpoint has no teacher.
    """

    backbone: str
    pair: str | None
    num_tokens: int | None
    left_out: dict[str, str]
    made_anew: tuple[str, ...]
    teacher: TeacherDiagnosis | None


def convert_study_a(state_dict: Mapping[str, Tensor], *, causal: bool | None = None) -> Backbone:
    """Builds the backbone of one of study A's checkpoints, in evaluation mode.

    The fields of its config follow from the names and shapes of the tensors. Pretraining heads, teachers, masks and
    classifiers are left out; every other tensor must be known, present and of the right shape.

    Args:
        state_dict: Tensors of study A's checkpoint by name, with or without "model." before the names.
        causal: Whether a transformer is causal; needed if its pretraining head, which shows it, is not in the
            checkpoint.

    Returns:
        The backbone. Its output equals that of study A's encoder, and it takes any number of samples.

    Raises:
        EcgCheckpointError: If a tensor is missing, unknown, repeated, of another shape, not finite, or at odds with
            the parameterisation.
        ValueError: If `causal` is needed and not given, or contradicts the tensors.

    Source:
        Study A (arXiv:2605.12241); Gu et al. 2022 (arXiv:2111.00396), algorithm 1, whose step 1 is undone here.
    """
    everything = plain_names(state_dict)
    tensors = {name: tensor for name, tensor in everything.items() if not name.startswith(_NOT_THE_BACKBONE)}
    name, fields = read_backbone(tensors)
    fields["causal"] = _causal(fields, recognise(everything), causal)
    backbone_class = load(BACKBONES, name)
    config = _make_config(backbone_class.config_class, fields)
    layout = backbone_layout(name, config, _num_tokens(tensors) or NUM_TOKENS)
    check_layout(tensors, layout, f"study A's {name} backbone")
    backbone: Backbone = backbone_class(config)
    _fill(backbone, tensors, layout)
    return backbone


def convert_study_a_pair(state_dict: Mapping[str, Tensor], *, teacher: str | None = None) -> Pair:
    """Builds the pair of a complete pretraining checkpoint, in evaluation mode, with study A's settings.

    Every tensor must be known, present and of the right shape. The log lists the tensors that the library's pair
    cannot hold, and those of the pair that the checkpoint lacks, which are newly initialised.

    Args:
        state_dict: Tensors of study A's checkpoint by name, with or without "model." before the names.
        teacher: Kind of the teacher, "ema" or "frozen_random", see `TeacherFields`; if None, the one that
            `diagnose_teacher` finds.

    Returns:
        The pair, such as an EcgS4ForJEPA.

    Raises:
        EcgCheckpointError: As for `convert_study_a`; if the objective is not one of the five; or if the diagnosis of
            the teacher is unclear and `teacher` is not given.
        ValueError: If `teacher` is neither "ema" nor "frozen_random", or is given for a pair without a teacher.

    Source:
        Study A (arXiv:2605.12241), published configurations.
    """
    tensors = plain_names(state_dict)
    name, config, layout = _read_pair(tensors)
    head = HEADS[name.partition("-")[2]]
    if head.has_teacher:
        config.teacher = _kind_of_teacher(tensors, teacher)
    elif teacher is not None:
        raise ValueError(f"teacher must be left out for {name}, which has none, got {teacher!r}")
    pair = PAIRS[name](config)
    fresh = _fill(pair, tensors, layout)
    assert all(key.startswith(head.fresh) for key in fresh), fresh
    for reason in sorted(set(layout.left_out().values())):
        names = [key for key, value in layout.left_out().items() if value == reason]
        logger.warning("left out of %s, %s: %s", name, reason, summarise(names))
    if fresh:
        logger.warning("newly initialised in %s, as the checkpoint does not have it: %s", name, summarise(fresh))
    return pair


def describe_study_a(state_dict: Mapping[str, Tensor], *, backbone_only: bool = False) -> StudyAContent:
    """Describes the contents of one of study A's checkpoints without building a model.

    Args:
        state_dict: Tensors of study A's checkpoint by name, with or without "model." before the names.
        backbone_only: Whether to leave out the objective's tensors, which then need not be complete.

    Returns:
        The names of backbone and pair, the tensors that would be left out or newly initialised, and the diagnosis of
        the teacher.

    Raises:
        EcgCheckpointError: As for `convert_study_a_pair`, except for a teacher whose diagnosis is unclear.
    """
    tensors = plain_names(state_dict)
    backbone, _ = read_backbone(tensors)
    if backbone_only or recognise(tensors) is None:
        others = {name: "not the backbone's" for name in tensors if name.startswith(_NOT_THE_BACKBONE)}
        own = {name: tensor for name, tensor in tensors.items() if name not in others}
        return StudyAContent(backbone, None, _num_tokens(own), others, (), None)
    pair, _, layout = _read_pair(tensors)
    head = HEADS[pair.partition("-")[2]]
    teacher = diagnose_teacher(tensors) if head.has_teacher else None
    return StudyAContent(backbone, pair, _num_tokens(tensors), layout.left_out(), head.fresh, teacher)


def to_study_a(model: EcgModel, num_tokens: int = NUM_TOKENS) -> dict[str, Tensor]:
    """Converts a model to study A's names and shapes: the inverse of the two conversions.

    Tensors that only study A's code has become zeros: heads that enter no loss, DinoSR's second codebook, unused norms.

    Args:
        model: Pair with one of the five objectives, or a backbone alone.
        num_tokens: Number of tokens N that C of the state spaces is made for; even.

    Returns:
        Tensors by name, with the prefix "ts_encoder."; they share no memory with the model.

    Raises:
        ValueError: If `num_tokens` is odd or less than 2, or study A's code has no such model.
    """
    if num_tokens < 2 or num_tokens % 2:
        raise ValueError(f"num_tokens must be even and at least 2, got {num_tokens}")
    trunk, objective = _names_of(model)
    layout = backbone_layout(trunk, model.config, num_tokens, target="backbone." if objective else "")
    if objective:
        layout.add_all(objective_layout(trunk, objective, model.config, num_tokens))
    state = model.state_dict()
    fresh = HEADS[objective].fresh if objective else ()
    others = own_names(layout) ^ {name for name in state if not name.startswith(fresh)}
    changed = [name for name, value in _FIXED.items() if getattr(model.config, name, value) != value]
    if trunk == "cnn" and model.config.causal:
        changed.append("causal")
    if others or changed:
        raise ValueError(
            f"model must be like one of study A's, got a {type(model).__name__} that differs in fields {changed} and "
            f"tensors {sorted(others)[:4]}; study A's code has no names for it"
        )
    return {f"ts_encoder.{name}": tensor for name, tensor in write_values(state, layout, num_tokens).items()}


def _names_of(model: EcgModel) -> tuple[str, str | None]:
    """Returns the names of a model's backbone and objective in the registry; the latter is None for a backbone."""
    for trunk in TRUNKS:
        if isinstance(model, load(BACKBONES, trunk)):
            return trunk, None
        for objective in HEADS:
            if isinstance(model, PAIRS[f"{trunk}-{objective}"]):
                return trunk, objective
    raise ValueError(
        f"model must be one of study A's backbones {sorted(TRUNKS)}, alone or with one of {sorted(HEADS)}, got a "
        f"{type(model).__name__}"
    )


def _causal(fields: Mapping[str, Any], objective: str | None, given: bool | None) -> bool:
    """Decides whether a backbone is causal: by its tensors, else by its objective, else by the caller's argument."""
    known: bool | None = fields.get("causal", None if objective is None else objective == "cpc")
    if known is None and given is None:
        raise ValueError("causal must be given for a transformer alone, as no tensor shows it; cpc's are causal")
    if known is not None and given is not None and known != given:
        raise ValueError(f"causal must be {known}, as the tensors say, got {given}; leave it out")
    return bool(given if known is None else known)


def _num_tokens(tensors: Mapping[str, Tensor]) -> int | None:
    """Infers the number of tokens that C of the state spaces was made for; None if there is no state space."""
    stacks = [stack for stack in (STACK, S4_HEAD) if any(name.startswith(f"{stack}s4_layers.") for name in tensors)]
    return s4_sizes(tensors, stacks[0])[3] if stacks else None


def _make_config(config_class: Any, fields: dict[str, Any]) -> Any:
    try:
        return config_class(**fields)
    except ValueError as error:
        raise EcgCheckpointError(f"expected shapes that fit one model, got {fields}: {error}") from error


def _read_pair(tensors: Mapping[str, Tensor]) -> tuple[str, Any, Layout]:
    """Recognises a pair and checks all its tensors; the config it returns does not yet have the kind of teacher."""
    trunk, fields = read_backbone(tensors)
    objective = recognise(tensors)
    if objective is None:
        raise EcgCheckpointError(
            f"expected the SSL head of one of {sorted(HEADS)}, got no head_ssl. among {len(tensors)} tensors; convert "
            "the backbone alone"
        )
    head, name = HEADS[objective], f"{trunk}-{objective}"
    fields |= {"causal": _causal(fields, objective, None), **copy.deepcopy(head.fields), **head.read_fields(tensors)}
    if objective == "cpc" and not fields["causal"]:
        raise EcgCheckpointError(
            f"expected a causal backbone of cpc, got one of {name} that sees the tokens which it must predict, as the "
            "study's cnn does and ours must not; convert the backbone alone"
        )
    config = _make_config(PAIRS[name].config_class, fields)
    num_tokens = _num_tokens(tensors) or NUM_TOKENS
    layout = backbone_layout(trunk, config, num_tokens, target="backbone.")
    layout.add_all(objective_layout(trunk, objective, config, num_tokens))
    check_layout(tensors, layout, f"study A's {name}")
    return name, config, layout


def _kind_of_teacher(tensors: Mapping[str, Tensor], given: str | None) -> str:
    """Returns the config field "teacher" that fits the tensors, unless the caller has chosen one."""
    if given is not None and given not in TEACHERS.values():
        raise ValueError(f"teacher must be one of {sorted(TEACHERS.values())}, got {given!r}")
    diagnosis = diagnose_teacher(tensors)
    if given is None and diagnosis.verdict not in TEACHERS:
        raise EcgCheckpointError(
            f"expected a teacher that follows its student or never did, got {diagnosis}; say which by teacher='ema' or "
            "'frozen_random'"
        )
    return given or TEACHERS[diagnosis.verdict]


def _fill(model: EcgModel, tensors: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """Loads the tensors that a layout places into a model and returns the names of the model's other tensors."""
    own = model.state_dict()
    values = read_values(tensors, layout, own)
    model.load_state_dict(own | values)
    model.eval()
    return sorted(own.keys() - values.keys())
