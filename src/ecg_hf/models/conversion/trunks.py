"""Places the tensors of study A's three backbones, infers their config fields, and tells the backbones apart.

Study A is arXiv:2605.12241; "study A's code" is the code it published, its checkpoints are files that this code wrote.
A backbone is the stem, which all three have in common, and a trunk: the layers after the stem.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.conversion.layout import Layout, Place, count, get
from ecg_hf.models.conversion.s4 import add_s4_layer, s4_sizes

STACK = "predictor.predictor."
STEM_WEIGHT = "encoder.layers.0.0.weight"
INV_FREQ = STACK + "pos_encoding.inv_freq"
ROPE_THETA = 10_000.0  # base of study A's rotary positions
_UNUSED_NORM = "batch norm that study A's code builds and never calls"


def rotary_frequencies(num_angles: int) -> Tensor:
    """Computes study A's frequencies of rotary positions, theta^(-i / num_angles), in float32."""
    return ROPE_THETA ** -(torch.arange(num_angles, dtype=torch.float64) / num_angles).float()


def _s4_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    _, modes, directions, _ = s4_sizes(tensors, STACK)
    num_layers = count(tensors, STACK + "s4_layers.")
    return {"num_layers": num_layers, "state_size": 2 * modes, "causal": directions == 1}


def _add_s4(layout: Layout, config: Any, source: str, target: str, num_tokens: int) -> None:
    sizes = (config.hidden_size, config.state_size // 2, 1 if config.causal else 2, num_tokens)
    for index in range(config.num_layers):
        add_s4_layer(layout, source + STACK, index, f"{target}layers.{index}.", sizes)


def _transformer_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    width, hidden = get(tensors, STACK + "layers.0.ff.linear2.weight", dim=2).shape
    frequencies = get(tensors, INV_FREQ, dim=1)
    if hidden % width or width % (2 * len(frequencies)):
        raise EcgCheckpointError(
            f"expected a feed-forward width and heads that fit a transformer of width {width}, got {hidden} and "
            f"{len(frequencies)} frequencies per head; the file is damaged"
        )
    if not torch.allclose(frequencies.float(), rotary_frequencies(len(frequencies)), rtol=1e-4):
        raise EcgCheckpointError(
            f"expected {INV_FREQ} to be that of rotary positions with base {ROPE_THETA:g}, got "
            f"{frequencies[:4].tolist()}"
        )
    return {
        "num_layers": count(tensors, STACK + "layers."),
        "num_attention_heads": width // (2 * len(frequencies)),
        "mlp_ratio": hidden // width,
        "rope_theta": ROPE_THETA,
    }


def _add_transformer(layout: Layout, config: Any, source: str, target: str, num_tokens: int) -> None:
    width, hidden = config.hidden_size, config.mlp_ratio * config.hidden_size
    for index in range(config.num_layers):
        theirs, ours = f"{source}{STACK}layers.{index}.", f"{target}layers.{index}."
        for name in ("q_proj.", "k_proj.", "v_proj.", "out_proj."):
            layout.add_linear(f"{theirs}attn.{name}", f"{ours}attention.{name}", (width, width))
        layout.add_linear(theirs + "ff.linear1.", ours + "mlp_in.", (hidden, width))
        layout.add_linear(theirs + "ff.linear2.", ours + "mlp_out.", (width, hidden))
        layout.add_norm(theirs + "norm1.", ours + "attention_norm.", width)
        layout.add_norm(theirs + "norm2.", ours + "mlp_norm.", width)
    layout.add_norm(f"{source}{STACK}final_norm.", target + "norm.", width)
    num_angles = width // config.num_attention_heads // 2
    layout.places[source + INV_FREQ] = Place((num_angles,), reason="follows from the width of a head")


def _cnn_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = STACK + "stage_list."
    depths = [count(tensors, f"{stages}{index}.block_list.") for index in range(count(tensors, stages))]
    lasts = [f"{stages}{index}.block_list.0." for index in range(len(depths))]
    widths = [get(tensors, last + "conv3.conv.weight", dim=3).shape[0] for last in lasts]
    inner, group_width, kernel_size = get(tensors, lasts[0] + "conv2.conv.weight", dim=3).shape
    return {
        "stage_widths": widths,
        "stage_depths": depths,
        "kernel_size": kernel_size,
        "group_width": group_width,
        "expansion": inner / widths[0],
        "causal": False,
    }


def _add_cnn(layout: Layout, config: Any, source: str, target: str, num_tokens: int) -> None:
    theirs, first = source + STACK, config.stage_widths[0]
    layout.add_linear(
        theirs + "first_conv.conv.", target + "first_conv.", (first, config.hidden_size, config.kernel_size)
    )
    layout.add_batch_norm(theirs + "first_bn.", None, first, _UNUSED_NORM)
    width_in, index = first, 0
    for stage, (width, depth) in enumerate(zip(config.stage_widths, config.stage_depths, strict=True)):
        for block in range(depth):
            names = f"{theirs}stage_list.{stage}.block_list.{block}.", f"{target}layers.{index}."
            _add_cnn_block(layout, config, names, (width_in, width))
            width_in, index = width, index + 1


def _add_cnn_block(layout: Layout, config: Any, names: tuple[str, str], widths: tuple[int, int]) -> None:
    (theirs, ours), (width_in, width) = names, widths
    inner = int(width * config.expansion)
    layout.add_linear(theirs + "conv1.conv.", ours + "conv_in.", (inner, width_in, 1))
    layout.add_linear(theirs + "conv2.conv.", ours + "conv_time.", (inner, config.group_width, config.kernel_size))
    layout.add_linear(theirs + "conv3.conv.", ours + "conv_out.", (width, inner, 1))
    layout.add_linear(theirs + "se_fc1.", ours + "squeeze_excite.squeeze.", (width // 2, width))
    layout.add_linear(theirs + "se_fc2.", ours + "squeeze_excite.excite.", (width, width // 2))
    for name, channels in (("bn1.", width_in), ("bn2.", inner), ("bn3.", inner)):
        layout.add_batch_norm(theirs + name, None, channels, _UNUSED_NORM)


@dataclass(frozen=True)
class Trunk:
    """The conversion of one backbone's layers.

    Args:
        marker: Prefix that only the names of these layers have.
        fields: Function that infers config fields from tensors; "causal" is among them if the tensors show it.
        add: Function that adds the tensors of the layers to a layout for a config, a prefix in the checkpoint, a
            prefix in the library's model and a number of tokens.
    """

    marker: str
    fields: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    add: Callable[[Layout, Any, str, str, int], None]


# Conversions by the backbone's name in the registry.
TRUNKS = {
    "s4": Trunk(STACK + "s4_layers.", _s4_fields, _add_s4),
    "transformer": Trunk(STACK + "layers.", _transformer_fields, _add_transformer),
    "cnn": Trunk(STACK + "stage_list.", _cnn_fields, _add_cnn),
}


def read_backbone(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """Recognises the backbone of a checkpoint.

    Args:
        tensors: Tensors of the checkpoint by their plain names.

    Returns:
        The backbone's name in the registry, and the config fields that the tensors show; "causal" is among them unless
        the backbone is a transformer.

    Raises:
        EcgCheckpointError: If there is no stem, or not exactly one kind of layers.
    """
    width, num_leads, _ = get(tensors, STEM_WEIGHT, dim=3).shape
    found = [name for name, trunk in TRUNKS.items() if any(key.startswith(trunk.marker) for key in tensors)]
    if len(found) != 1:
        raise EcgCheckpointError(
            f"expected the layers of one of {sorted(TRUNKS)}, got {found or sorted(tensors)[:3]}; pass the whole state "
            "dict of one of study A's models"
        )
    return found[0], {"num_leads": num_leads, "hidden_size": width, **TRUNKS[found[0]].fields(tensors)}


def backbone_layout(name: str, config: Any, num_tokens: int, source: str = "", target: str = "") -> Layout:
    """Builds the layout of a backbone's tensors.

    Args:
        name: Name of the backbone in the registry.
        config: Config of the backbone.
        num_tokens: Number of tokens N that C of the state spaces is made for.
        source: Prefix of the backbone in study A's checkpoint, such as "ema.".
        target: Prefix of the backbone in the library's model, such as "backbone.".
    """
    layout, width = Layout(), config.hidden_size
    for index in range(4):
        shape = (width, config.num_leads, 3) if index == 0 else (width, width, 1)
        layout.add(f"{source}encoder.layers.{index}.0.", f"{target}stem.convs.{index}.", {"weight": shape})
        layout.add_batch_norm(f"{source}encoder.layers.{index}.1.", f"{target}stem.norms.{index}.", width)
    TRUNKS[name].add(layout, config, source, target, num_tokens)
    return layout
