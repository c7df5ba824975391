"""The reference's five objectives: how to tell them apart, what they say of our config, and their tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.conversion.layout import Layout, Place, get
from ecg_hf.models.conversion.s4 import add_s4_layer, s4_sizes
from ecg_hf.models.conversion.trunks import backbone_layout

S4_HEAD = "head_ssl.s4."
DECODER = S4_HEAD + "decoder."
CODEBOOK = "ema.clustering.{}."
_CLUSTERING = ("codebook", "code_sum", "code_cnt")
# Our names of what the first codebook becomes.
CODES = ("objective.codebooks.0.codes", "objective.codebooks.0.counts")
MIN_COUNT = 1e-8  # the reference's floor of a code's count
# Only the sum of the sizes is in the file.
HUBERTPP_SIZES = [128, 256]

_COUNT = "objective.teacher.num_updates"
_IDLE_HEAD = "head that enters no loss"
_TEACHER = {"ema_ramp_steps": 0, "teacher_dropout": True}
_SPANS = {"mask_fraction": 1 - (1 - 0.065 / 10) ** 10, "mask_span": 10}


def _add_predictor(layout: Layout, config: Any, num_tokens: int) -> None:
    width = config.hidden_size
    sizes = (width, config.predictor_state_size // 2, 2, num_tokens)
    add_s4_layer(layout, S4_HEAD, 0, "objective.predictor.", sizes, mix="mix_linear.")
    layout.add_linear(DECODER, "objective.predictor.output_linear.", (width, width))


def _add_idle_heads(layout: Layout, config: Any) -> None:
    for prefix in ("head.proj.0.", "ema.head.proj.0."):
        layout.add_linear(prefix, None, (config.hidden_size, config.hidden_size), _IDLE_HEAD)


def _add_cpc(layout: Layout, config: Any, num_tokens: int) -> None:
    shape = (config.hidden_size, config.hidden_size)
    layout.add("head_ssl.proj.0.", "objective.predictor.", {"weight": shape})


def _add_jepa(layout: Layout, config: Any, num_tokens: int) -> None:
    layout.places["masking.mask_token"] = Place((config.hidden_size,), "objective.mask_token")
    _add_predictor(layout, config, num_tokens)
    _add_idle_heads(layout, config)


def _add_mask_item(layout: Layout, config: Any) -> None:
    layout.places["masking.mask_item"] = Place((1, config.hidden_size), "objective.mask_token")


def _add_data2vec(layout: Layout, config: Any, num_tokens: int) -> None:
    _add_mask_item(layout, config)
    _add_predictor(layout, config, num_tokens)
    _add_idle_heads(layout, config)


def _add_dinosr(layout: Layout, config: Any, num_tokens: int) -> None:
    size, width = config.codebook_size, config.hidden_size
    _add_mask_item(layout, config)
    _add_predictor(layout, config, num_tokens)
    for name, shape in (("weight", (2 * size, width)), ("bias", (2 * size,))):
        reason = f"rows {size} to {2 * size - 1} predict a codebook that is never used"
        layout.places[DECODER + name] = Place(shape, f"objective.predictor.output_linear.{name}", reason, rows=size)
    _add_idle_heads(layout, config)
    shapes = dict(zip(_CLUSTERING, ((size, width), (size, width), (size,)), strict=True))
    layout.add(CODEBOOK.format(0), None, shapes)
    layout.add(CODEBOOK.format(1), None, shapes, "codebook that the reference builds and never uses")


def _add_hubertpp(layout: Layout, config: Any, num_tokens: int) -> None:
    width = config.hidden_size
    _add_mask_item(layout, config)
    layout.add_linear("head_ssl.proj.0.", "objective.head.0.", (width, width))
    layout.add_linear("head_ssl.proj.2.", "objective.head.2.", (sum(config.codebook_sizes), width))


def _predictor_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    _, modes, _, _ = s4_sizes(tensors, S4_HEAD)
    return {"predictor_state_size": 2 * modes}


def _dinosr_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    size = get(tensors, CODEBOOK.format(0) + "codebook", dim=2).shape[0]
    return _predictor_fields(tensors) | {"codebook_size": size}


def _no_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Head:
    """What the converter knows of one objective.

    Args:
        add: Places the tensors of its own, but not its teacher's, for a config and a number of tokens.
        read_fields: Infers config fields from tensors.
        fields: Config fields with which our objective is the study's.
        has_teacher: Whether the file holds one.
        fresh: Beginnings of our names that the file has nothing for.
    """

    add: Callable[[Layout, Any, int], None]
    read_fields: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    fields: dict[str, Any] = field(default_factory=dict)
    has_teacher: bool = True
    fresh: tuple[str, ...] = (_COUNT,)


_JEPA = {"target_norm": "token", "min_block_tokens": 64, "context_fallback": True, **_TEACHER}
_DATA2VEC = {"target_norm": "token", "feature_reduction": "sqrt", **_SPANS, **_TEACHER}
_DINOSR = {"target_norm": "token", "num_codebook_layers": 1, "idle_codes": "shrink", **_SPANS, **_TEACHER}
_HUBERTPP = {"target_norm": "token", "codebook_sizes": HUBERTPP_SIZES, **_SPANS, **_TEACHER}
_MADE_ANEW = (_COUNT, "objective.codebooks.", "objective.num_steps", "objective.started")

# By the name of our objective.
HEADS = {
    "cpc": Head(_add_cpc, _no_fields, {"loss_reduction": "sum"}, has_teacher=False, fresh=()),
    "jepa": Head(_add_jepa, _predictor_fields, _JEPA),
    "data2vec": Head(_add_data2vec, _predictor_fields, _DATA2VEC),
    "dinosr": Head(_add_dinosr, _dinosr_fields, _DINOSR, fresh=(_COUNT, "objective.codebooks.0.pending_")),
    "hubertpp": Head(_add_hubertpp, _no_fields, _HUBERTPP, fresh=_MADE_ANEW),
}


def recognise(tensors: Mapping[str, Tensor]) -> str | None:
    """Names the objective, as our registry does, of tensors by their plain names; None if nothing is left of it."""

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in tensors)

    if has("ema.clustering."):
        return "dinosr"
    if has(S4_HEAD):
        return "jepa" if has("masking.mask_token") else "data2vec"
    if has("head_ssl."):
        return "hubertpp" if has("ema.") or has("masking.") or has("head_ssl.proj.2.") else "cpc"
    return None


def objective_layout(trunk: str, objective: str, config: Any, num_tokens: int) -> Layout:
    """Lists what a pair has beside its backbone: head, mask, teacher.

    Args:
        trunk: The name of our backbone.
        objective: The name of our objective.
        config: Of the pair.
        num_tokens: N, that the C of state spaces is made for.
    """
    layout = Layout()
    HEADS[objective].add(layout, config, num_tokens)
    if HEADS[objective].has_teacher:
        layout.add_all(backbone_layout(trunk, config, num_tokens, "ema.", "objective.teacher.backbone."))
    return layout


def read_codes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Computes DinoSR's codes, which ours holds as means, from its sums and counts.

    Args:
        tensors: Whose names and shapes were checked.

    Returns:
        What `CODES` names.

    Raises:
        EcgCheckpointError: If a codebook is not that of its sums and counts, or the second one was ever used.
    """
    books = [[tensors[CODEBOOK.format(index) + name] for name in _CLUSTERING] for index in range(2)]
    for index, (codebook, total, counts) in enumerate(books):
        expected = counts.clamp(min=MIN_COUNT)[:, None] * codebook
        if (counts < 0).any() or not torch.allclose(total, expected, rtol=1e-3, atol=1e-5):
            raise EcgCheckpointError(
                f"expected {CODEBOOK.format(index)}codebook to be code_sum / code_cnt, got others; the file is damaged"
            )
    second = books[1][2]
    if not (second == 1).all():
        raise EcgCheckpointError(
            "expected the second codebook never to have been used, as by the study's code, got counts of "
            f"{float(second.min()):g} to {float(second.max()):g}; convert the backbone alone"
        )
    codes, _, counts = (tensor.float() for tensor in books[0])
    # Below the floor the reference's codes shrink; ours keep the mean, and shrink when they are used.
    shrunk = (MIN_COUNT / counts.clamp(min=1e-30)).clamp(min=1)
    return dict(zip(CODES, (codes * shrunk[:, None], counts), strict=True))


def write_codes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Computes the reference's two codebooks from ours; the second holds zeros, as if it had never been used.

    Args:
        state: Of a pair, by our names.
    """
    codes, counts = (state[name].float() for name in CODES)
    total, idle = counts[:, None] * codes, torch.zeros_like(codes)
    books = ((total / counts.clamp(min=MIN_COUNT)[:, None], total, counts), (idle, idle, torch.ones_like(counts)))
    return {
        CODEBOOK.format(index) + name: tensor
        for index, book in enumerate(books)
        for name, tensor in zip(_CLUSTERING, book, strict=True)
    }
