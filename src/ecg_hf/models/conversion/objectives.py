"""Places the tensors of study A's five objectives, infers their config fields, and tells the objectives apart.

Study A is arXiv:2605.12241; "study A's code" is the code it published, its checkpoints are files that this code wrote.
"""

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
# The library's tensors that are computed from the first codebook.
CODES = ("objective.codebooks.0.codes", "objective.codebooks.0.counts")
MIN_COUNT = 1e-8  # lower bound of a code's count in study A's code
# Study A's sizes of HuBERT++'s codebooks; a checkpoint shows only their sum.
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
    layout.add(CODEBOOK.format(1), None, shapes, "codebook that study A's code builds and never uses")


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
    """The conversion of one objective.

    Args:
        add: Function that adds the objective's tensors, without those of its teacher, to a layout for a config and a
            number of tokens.
        read_fields: Function that infers config fields from tensors.
        fields: Config fields that make the library's objective equal to study A's.
        has_teacher: Whether the objective has a teacher, whose tensors are then in the checkpoint.
        fresh: Prefixes of the library's tensors that no checkpoint has.
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

# Conversions by the objective's name in the registry.
HEADS = {
    "cpc": Head(_add_cpc, _no_fields, {"loss_reduction": "sum"}, has_teacher=False, fresh=()),
    "jepa": Head(_add_jepa, _predictor_fields, _JEPA),
    "data2vec": Head(_add_data2vec, _predictor_fields, _DATA2VEC),
    "dinosr": Head(_add_dinosr, _dinosr_fields, _DINOSR, fresh=(_COUNT, "objective.codebooks.0.pending_")),
    "hubertpp": Head(_add_hubertpp, _no_fields, _HUBERTPP, fresh=_MADE_ANEW),
}


def recognise(tensors: Mapping[str, Tensor]) -> str | None:
    """Recognises the objective of a checkpoint.

    Args:
        tensors: Tensors of the checkpoint by their plain names.

    Returns:
        The objective's name in the registry; None if the checkpoint has none of its tensors.
    """

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
    """Builds the layout of a pair's tensors outside its backbone: head, mask and teacher.

    Args:
        trunk: Name of the backbone in the registry.
        objective: Name of the objective in the registry.
        config: Config of the pair.
        num_tokens: Number of tokens N that C of the state spaces is made for.
    """
    layout = Layout()
    HEADS[objective].add(layout, config, num_tokens)
    if HEADS[objective].has_teacher:
        layout.add_all(backbone_layout(trunk, config, num_tokens, "ema.", "objective.teacher.backbone."))
    return layout


def read_codes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Computes the library's DinoSR codes, which are means, from the sums and counts of a checkpoint.

    Args:
        tensors: Tensors of the checkpoint by their plain names, after `check_layout`.

    Returns:
        The tensors named in `CODES`.

    Raises:
        EcgCheckpointError: If a codebook does not equal its sums divided by its counts, or if the second codebook has
            been used.
    """
    books = [[tensors[CODEBOOK.format(index) + name] for name in _CLUSTERING] for index in range(2)]
    for index, (codebook, total, counts) in enumerate(books):
        expected = counts.clamp(min=MIN_COUNT)[:, None] * codebook
        if (counts < 0).any() or not torch.allclose(total, expected, rtol=1e-3, atol=1e-5):
            raise EcgCheckpointError(
                f"expected {CODEBOOK.format(index)}codebook to be code_sum / code_cnt, got other values; the file is "
                "damaged"
            )
    second = books[1][2]
    if not (second == 1).all():
        raise EcgCheckpointError(
            "expected the second codebook never to have been used, as by the study's code, got counts of "
            f"{float(second.min()):g} to {float(second.max()):g}; convert the backbone alone"
        )
    codes, _, counts = (tensor.float() for tensor in books[0])
    # Study A's code stores the codes already shrunk where the count is below the bound; the library stores the mean,
    # and shrinks the code when it is used.
    shrunk = (MIN_COUNT / counts.clamp(min=1e-30)).clamp(min=1)
    return dict(zip(CODES, (codes * shrunk[:, None], counts), strict=True))


def write_codes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Computes study A's two codebooks from the library's one; the second holds zeros, as if it had never been used.

    Args:
        state: State dict of a pair with DinoSR.

    Returns:
        The tensors of both codebooks by their plain names in a checkpoint.
    """
    codes, counts = (state[name].float() for name in CODES)
    total, idle = counts[:, None] * codes, torch.zeros_like(codes)
    books = ((total / counts.clamp(min=MIN_COUNT)[:, None], total, counts), (idle, idle, torch.ones_like(counts)))
    return {
        CODEBOOK.format(index) + name: tensor
        for index, book in enumerate(books)
        for name, tensor in zip(_CLUSTERING, book, strict=True)
    }
