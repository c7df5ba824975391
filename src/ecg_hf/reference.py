"""The reference's checkpoints: from its names, and a C made for one length, to our backbone."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ecg_hf.backbones.kernel import StateSpace
from ecg_hf.backbones.s4 import EcgS4Backbone, EcgS4Config
from ecg_hf.errors import EcgCheckpointError

_STEM_WEIGHT = "encoder.layers.0.0.weight"
_LAYER = "predictor.predictor.s4_layers.{}."
_KERNEL = _LAYER + "kernel.kernel."
_NORM = "predictor.predictor.norms.{}."
# What a pretraining or fine-tuning run stores beside the backbone.
_NOT_THE_BACKBONE = ("head_ssl.", "head.", "ema.", "masking.")

# Each name of the reference, its shape there, and our name; None where we have no such tensor.
_Layout = dict[str, tuple[tuple[int, ...], str | None]]


def convert_reference(state_dict: Mapping[str, Tensor]) -> EcgS4Backbone:
    """Builds the backbone that a state dict of the study's S4 encoder describes, in evaluation mode.

    Width, leads, layers, state size and direction follow from the shapes. SSL heads, teachers, masks and classifiers
    are left out; every other name must be known, present and of the right shape.

    Args:
        state_dict: Of a reference checkpoint, with or without "model." before its names.

    Returns:
        The backbone; its output equals the reference's, and it takes any number of samples.

    Raises:
        EcgCheckpointError: If a tensor is missing, unknown, repeated, of another shape, not finite, or at odds with
            the parameterisation.

    Source:
        Study A (arXiv:2605.12241); Gu et al. 2022 (arXiv:2111.00396), algorithm 1, whose step 1 is undone here.
    """
    tensors = _backbone_tensors(state_dict)
    config = _infer_config(tensors)
    num_tokens = 2 * (_get(tensors, _KERNEL.format(0) + "omega", dim=2).shape[0] - 1)
    layout = _layout(config, num_tokens)
    _check_layout(tensors, layout)
    backbone = EcgS4Backbone(config)
    own = backbone.state_dict()
    own |= {ours: tensors[name].reshape(own[ours].shape) for name, (_, ours) in layout.items() if ours}
    for index in range(config.num_layers):
        _check_parameterisation(tensors, _KERNEL.format(index), num_tokens)
        eigenvalues = tensors[_KERNEL.format(index) + "w"]
        own[f"layers.{index}.state_space.log_decay"] = (-eigenvalues[..., 0]).log()
        own[f"layers.{index}.state_space.frequency"] = eigenvalues[..., 1]
    backbone.load_state_dict(own)
    for module in backbone.modules():
        if isinstance(module, StateSpace):
            _undo_length_correction(module, num_tokens)
    backbone.eval()
    return backbone


def _backbone_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        name = key
        while name.startswith("model."):
            name = name.removeprefix("model.")
        name = name.removeprefix("ts_encoder.")
        if name.startswith(_NOT_THE_BACKBONE):
            continue
        if name in tensors:
            raise EcgCheckpointError(f"expected one tensor {name}, got a second one under {key}; remove one of them")
        tensors[name] = tensor
    return tensors


def _get(tensors: dict[str, Tensor], name: str, dim: int) -> Tensor:
    if name not in tensors:
        raise EcgCheckpointError(
            f"expected a tensor {name}, got {sorted(tensors)[:3]}, ...; pass the state dict of a reference S4 model"
        )
    if tensors[name].dim() != dim:
        raise EcgCheckpointError(f"expected {dim} axes in {name}, got shape {tuple(tensors[name].shape)}")
    return tensors[name]


def _infer_config(tensors: dict[str, Tensor]) -> EcgS4Config:
    stem = _get(tensors, _STEM_WEIGHT, dim=3)
    c = _get(tensors, _KERNEL.format(0) + "C", dim=4)
    stack = _LAYER.partition("{}")[0]
    layers = {name.removeprefix(stack).partition(".")[0] for name in tensors if name.startswith(stack)}
    return EcgS4Config(
        num_leads=stem.shape[1],
        hidden_size=stem.shape[0],
        num_layers=len(layers),
        state_size=2 * c.shape[2],
        causal=c.shape[0] == 1,
    )


def _layout(config: EcgS4Config, num_tokens: int) -> _Layout:
    width, modes = config.hidden_size, config.state_size // 2
    layout: _Layout = {}
    for index in range(4):
        shape = (width, config.num_leads, 3) if index == 0 else (width, width, 1)
        layout[f"encoder.layers.{index}.0.weight"] = shape, f"stem.convs.{index}.weight"
        for part in ("weight", "bias", "running_mean", "running_var"):
            layout[f"encoder.layers.{index}.1.{part}"] = (width,), f"stem.norms.{index}.{part}"
        layout[f"encoder.layers.{index}.1.num_batches_tracked"] = (), f"stem.norms.{index}.num_batches_tracked"
    for index in range(config.num_layers):
        layer, kernel, norm = _LAYER.format(index), _KERNEL.format(index), _NORM.format(index)
        ours, space = f"layers.{index}.", f"layers.{index}.state_space."
        layout[layer + "D"] = (1, width), space + "D"
        layout[layer + "output_linear.0.weight"] = (2 * width, width), ours + "output_linear.weight"
        layout[layer + "output_linear.0.bias"] = (2 * width, 1), ours + "output_linear.bias"
        layout[norm + "weight"] = (width,), ours + "norm.weight"
        layout[norm + "bias"] = (width,), ours + "norm.bias"
        layout[kernel + "C"] = (1 if config.causal else 2, width, modes, 2), space + "C"
        layout[kernel + "log_dt"] = (width,), space + "log_dt"
        layout[kernel + "B"] = (1, width, modes, 2), space + "B"
        layout[kernel + "P"] = (1, width, modes, 2), space + "P"
        layout[kernel + "Q"] = (1, width, modes, 2), None
        layout[kernel + "w"] = (width, modes, 2), None
        layout[kernel + "omega"] = layout[kernel + "z"] = (num_tokens // 2 + 1, 2), None
    return layout


def _check_layout(tensors: dict[str, Tensor], layout: _Layout) -> None:
    missing, unknown = sorted(layout.keys() - tensors.keys()), sorted(tensors.keys() - layout.keys())
    if missing or unknown:
        raise EcgCheckpointError(
            f"expected the {len(layout)} tensors of an S4 backbone, got {len(tensors)}: missing {missing}, "
            f"unknown {unknown}; pass the whole state dict of a reference S4 model"
        )
    for name, (shape, _) in layout.items():
        if tensors[name].shape != shape:
            raise EcgCheckpointError(f"expected shape {shape} in {name}, got {tuple(tensors[name].shape)}")
        # z holds a division by zero where omega is -1
        if not name.endswith(".z") and not tensors[name].isfinite().all():
            raise EcgCheckpointError(f"expected finite numbers in {name}, got NaN or infinity; the file is damaged")


def _check_parameterisation(tensors: dict[str, Tensor], kernel: str, num_tokens: int) -> None:
    real = tensors[kernel + "w"][..., 0]
    if not (real < 0).all():
        raise EcgCheckpointError(f"expected negative real parts in {kernel}w, got up to {float(real.max())}")
    p, q = (torch.view_as_complex(tensors[kernel + name].double().contiguous()) for name in "PQ")
    if not torch.allclose(q, p.conj(), rtol=1e-5, atol=1e-6):
        raise EcgCheckpointError(
            f"expected {kernel}Q to be conj(P), got a difference of {float((q - p.conj()).abs().max())}"
        )
    omega = torch.view_as_complex(tensors[kernel + "omega"].double().contiguous())
    turns = torch.arange(len(omega), dtype=torch.float64) / num_tokens
    roots = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
    if not torch.allclose(omega.cpu(), roots, atol=1e-4):
        raise EcgCheckpointError(f"expected {kernel}omega to be the {num_tokens}-th roots of unity, got others")


@torch.no_grad()
def _undo_length_correction(space: StateSpace, num_tokens: int) -> None:
    # The reference stores (I - A^N)^T C, with which its truncated generating function is that of the first N lags.
    state, _ = space.discretise()
    correction = torch.eye(state.shape[-1], dtype=state.dtype) - torch.linalg.matrix_power(state, num_tokens)
    corrected = space.C.double() * torch.tensor([1.0, -1.0])
    stacked = corrected.transpose(2, 3).flatten(2)
    c = torch.linalg.solve(correction.transpose(1, 2), stacked[..., None])[..., 0]
    space.C.copy_(c.unflatten(-1, (2, -1)).transpose(2, 3) * torch.tensor([1.0, -1.0]))
