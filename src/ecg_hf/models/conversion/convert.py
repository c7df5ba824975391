"""The reference's checkpoints: from its names, and a C made for one length, to our models, and back."""

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

NUM_TOKENS = 300  # of the study's crops
TEACHERS = {"follows": "ema", "independent": "frozen_random"}
# What a pretraining or fine-tuning run stores beside the backbone.
_NOT_THE_BACKBONE = ("head_ssl.", "head.", "ema.", "masking.")
# Fields that change what a backbone computes, and not the names of its tensors, as the reference has them.
_FIXED = {"positions": "rotary", "rope_theta": ROPE_THETA, "codebook_sizes": HUBERTPP_SIZES}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyAContent:
    """What is in a checkpoint of the reference.

    Args:
        backbone: The name of our backbone.
        pair: The name of our pair; None if the objective's part is not in the file.
        num_tokens: That the C of its state spaces was made for; None if it has none.
        left_out: Tensors that have no place in our pair, or not all of which has, and why.
        made_anew: Beginnings of our names that the file has nothing for.
        teacher: Whether its teacher followed; None if it has none.
    """

    backbone: str
    pair: str | None
    num_tokens: int | None
    left_out: dict[str, str]
    made_anew: tuple[str, ...]
    teacher: TeacherDiagnosis | None


def convert_study_a(state_dict: Mapping[str, Tensor], *, causal: bool | None = None) -> Backbone:
    """Builds the backbone that a state dict of the study's encoder describes, in evaluation mode.

    Its fields follow from names and shapes. SSL heads, teachers, masks and classifiers are left out; every other name
    must be known, present and of the right shape.

    Args:
        state_dict: Of a reference checkpoint, with or without "model." before its names.
        causal: Whether a transformer is, which nothing says once its SSL head is gone.

    Returns:
        The backbone; its output equals the reference's, and it takes any number of samples.

    Raises:
        EcgCheckpointError: If a tensor is missing, unknown, repeated, of another shape, not finite, or at odds with
            the parameterisation.
        ValueError: If `causal` is needed and not given, or is not what the tensors say.

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
    """Builds the pair that a whole pretraining checkpoint describes, in evaluation mode, with the study's settings.

    Every tensor must be known, present and of the right shape. Those that have no place in ours are named in the log,
    and so are those of ours that the file has nothing for, which are made anew.

    Args:
        state_dict: Of a reference checkpoint, with or without "model." before its names.
        teacher: "ema" or "frozen_random", see `TeacherFields`; what `diagnose_teacher` says if None.

    Returns:
        The pair, such as an EcgS4ForJEPA.

    Raises:
        EcgCheckpointError: As `convert_study_a` does; if the objective is not one of the five; or if it is unclear
            whether the teacher follows and `teacher` does not say.
        ValueError: If `teacher` is given and there is none, or is not one of the two.

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
        logger.warning("made anew in %s, for the checkpoint has nothing for it: %s", name, summarise(fresh))
    return pair


def describe_study_a(state_dict: Mapping[str, Tensor], *, backbone_only: bool = False) -> StudyAContent:
    """Says what is in a checkpoint, and what of it our pair has no place for.

    Args:
        state_dict: Of a reference checkpoint, with or without "model." before its names.
        backbone_only: Whether the objective's part is to be left out, so that it need not be whole.

    Raises:
        EcgCheckpointError: As `convert_study_a_pair` does, but not of a teacher that is unclear.
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
    """Writes a model with the reference's names and shapes: the inverse of the conversions.

    What has no place in ours becomes zeros: idle heads, DinoSR's second codebook, unused norms.

    Args:
        model: A pair of the five objectives, or a backbone alone.
        num_tokens: N, that the C of state spaces is to be made for; even.

    Returns:
        Tensors by name, "ts_encoder." included; they share no memory with the model.

    Raises:
        ValueError: If `num_tokens` is odd or less than 2, or the reference has nothing like this model.
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
            f"tensors {sorted(others)[:4]}; the reference has no names for it"
        )
    return {f"ts_encoder.{name}": tensor for name, tensor in write_values(state, layout, num_tokens).items()}


def _names_of(model: EcgModel) -> tuple[str, str | None]:
    """Names the trunk and the objective of a model as the registry does."""
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
    """Decides whether a backbone is causal: by its tensors, else by its objective, else by what was given."""
    known: bool | None = fields.get("causal", None if objective is None else objective == "cpc")
    if known is None and given is None:
        raise ValueError("causal must be given for a transformer alone, of which no tensor says it; cpc's are causal")
    if known is not None and given is not None and known != given:
        raise ValueError(f"causal must be {known}, as the tensors say, got {given}; leave it out")
    return bool(given if known is None else known)


def _num_tokens(tensors: Mapping[str, Tensor]) -> int | None:
    """Infers for how many tokens the state spaces were made."""
    stacks = [stack for stack in (STACK, S4_HEAD) if any(name.startswith(f"{stack}s4_layers.") for name in tensors)]
    return s4_sizes(tensors, stacks[0])[3] if stacks else None


def _make_config(config_class: Any, fields: dict[str, Any]) -> Any:
    try:
        return config_class(**fields)
    except ValueError as error:
        raise EcgCheckpointError(f"expected shapes that make up a model, got {fields}, of which {error}") from error


def _read_pair(tensors: Mapping[str, Tensor]) -> tuple[str, Any, Layout]:
    """Recognises a pair and checks the whole file; which kind its teacher is, the config does not know yet."""
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
    """Says which field of the config is true of a file's teacher."""
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
    """Loads what a layout gives and returns the names of the rest."""
    own = model.state_dict()
    values = read_values(tensors, layout, own)
    model.load_state_dict(own | values)
    model.eval()
    return sorted(own.keys() - values.keys())
