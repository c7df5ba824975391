"""Converts study A's S4 layers, whose C holds for one number of tokens only, to the library's, and back.

Study A is arXiv:2605.12241; "study A's code" is the code it published, its checkpoints are files that this code wrote.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.backbones.kernel import StateSpace
from ecg_hf.models.conversion.layout import Layout, Place, get

# Tensors of the library's `StateSpace`, apart from D.
KERNEL = ("log_dt", "log_decay", "frequency", "B", "P", "C")
_FOLLOWS = "follows from the number of tokens"


def add_s4_layer(
    layout: Layout, stack: str, index: int, target: str, sizes: tuple[int, int, int, int], mix: str = "output_linear."
) -> None:
    """Adds the tensors of one S4 layer to a layout.

    Args:
        layout: Layout that is extended.
        stack: Prefix of the layers in study A's checkpoint, such as "predictor.predictor.".
        index: Index of the layer.
        target: Prefix of the layer in the library's model.
        sizes: Width, modes of the state, directions, and number of tokens that C is made for.
        mix: Name of the linear map over channels in the library's layer.
    """
    width, modes, directions, num_tokens = sizes
    layer, space = f"{stack}s4_layers.{index}.", target + "state_space."
    kernel = layer + "kernel.kernel."
    layout.kernels[kernel] = space
    layout.places[layer + "D"] = Place((1, width), space + "D")
    layout.places[layer + "output_linear.0.weight"] = Place((2 * width, width), f"{target}{mix}weight")
    layout.places[layer + "output_linear.0.bias"] = Place((2 * width, 1), f"{target}{mix}bias")
    layout.add_norm(f"{stack}norms.{index}.", target + "norm.", width)
    modal = (1, width, modes, 2)
    layout.add(kernel, None, {"C": (directions, width, modes, 2), "w": (width, modes, 2), "B": modal, "P": modal})
    layout.add(kernel, None, {"log_dt": (width,)})
    layout.add(kernel, None, {"Q": modal}, "is conj(P)")
    layout.add(kernel, None, {"omega": (num_tokens // 2 + 1, 2), "z": (num_tokens // 2 + 1, 2)}, _FOLLOWS)


def s4_sizes(tensors: Mapping[str, Tensor], stack: str) -> tuple[int, int, int, int]:
    """Infers the sizes of the S4 layers from the first of them.

    Args:
        tensors: Tensors of the checkpoint by their plain names.
        stack: Prefix of the layers in the checkpoint, such as "predictor.predictor.".

    Returns:
        Width, modes of the state, directions, and number of tokens that C was made for.

    Raises:
        EcgCheckpointError: If C or omega of the layer is missing or has another number of axes, or omega has fewer
            than 2 rows.
    """
    kernel = f"{stack}s4_layers.0.kernel.kernel."
    directions, width, modes, _ = get(tensors, kernel + "C", dim=4).shape
    num_nodes = get(tensors, kernel + "omega", dim=2).shape[0]
    if num_nodes < 2:
        raise EcgCheckpointError(f"expected at least 2 rows in {kernel}omega, got {num_nodes}; the file is damaged")
    return width, modes, directions, 2 * (num_nodes - 1)


@torch.no_grad()
def read_kernel(tensors: Mapping[str, Tensor], kernel: str) -> dict[str, Tensor]:
    """Computes the tensors of the library's state space from those of study A's.

    Args:
        tensors: Tensors of the checkpoint by their plain names, after `check_layout`.
        kernel: Prefix of the state space in the checkpoint.

    Returns:
        The tensors named in `KERNEL`, float32.

    Raises:
        EcgCheckpointError: If the tensors are at odds with the parameterisation.

    Source:
        Gu et al. 2022 (arXiv:2111.00396), algorithm 1, whose step 1 is undone here.
    """
    num_tokens = 2 * (len(tensors[kernel + "omega"]) - 1)
    _check_kernel(tensors, kernel, num_tokens)
    c, eigenvalues = tensors[kernel + "C"], tensors[kernel + "w"].double()
    state = {
        "log_dt": tensors[kernel + "log_dt"],
        "log_decay": (-eigenvalues[..., 0]).log(),
        "frequency": eigenvalues[..., 1],
        "B": tensors[kernel + "B"][0],
        "P": tensors[kernel + "P"][0],
    }
    state = {name: tensor.float() for name, tensor in state.items()}
    correction = _length_correction(state, num_tokens)
    stacked = torch.linalg.solve(correction.transpose(1, 2), _stack(c)[..., None])[..., 0]
    return state | {"C": _unstack(stacked)}


@torch.no_grad()
def write_kernel(state: Mapping[str, Tensor], num_tokens: int) -> dict[str, Tensor]:
    """Computes the tensors of study A's state space from those of the library's.

    Args:
        state: Tensors named in `KERNEL`.
        num_tokens: Number of tokens N that C is made for; even.

    Returns:
        The tensors by their names below the prefix of the state space, float32.
    """
    eigenvalues = torch.stack((-state["log_decay"].double().exp(), state["frequency"].double()), dim=-1)
    p = state["P"].float()[None]
    omega = torch.view_as_real(_roots(num_tokens).to(torch.complex64))
    stacked = torch.einsum("cds,dst->cdt", _stack(state["C"]), _length_correction(state, num_tokens))
    return {
        "C": _unstack(stacked),
        "log_dt": state["log_dt"].float(),
        "w": eigenvalues.float(),
        "B": state["B"].float()[None],
        "P": p,
        "Q": p * torch.tensor([1.0, -1.0]),
        "omega": omega,
        "z": _nodes(omega),
    }


def _roots(num_tokens: int) -> Tensor:
    turns = torch.arange(num_tokens // 2 + 1, dtype=torch.float64) / num_tokens
    return torch.polar(torch.ones_like(turns), -2 * math.pi * turns)


def _nodes(omega: Tensor) -> Tensor:
    """Maps roots of unity to the nodes where study A's code evaluates the generating function; the last is a pole."""
    roots = torch.view_as_complex(omega.double().contiguous())
    nodes: Tensor = torch.view_as_real(2 * (1 - roots) / (1 + roots)).float()
    return nodes


def _stack(c: Tensor) -> Tensor:
    """Arranges C (directions, D, modes, 2) as a row over the real state, up to a factor, in float64."""
    return (c.double() * torch.tensor([1.0, -1.0])).transpose(2, 3).flatten(2)


def _unstack(stacked: Tensor) -> Tensor:
    c: Tensor = stacked.unflatten(-1, (2, -1)).transpose(2, 3) * torch.tensor([1.0, -1.0])
    return c.float().contiguous()


def _length_correction(state: Mapping[str, Tensor], num_tokens: int) -> Tensor:
    """Computes I - A^N, shape (D, state, state).

    Study A's code stores (I - A^N)^T C, which makes its truncated generating function that of the first N lags.
    """
    dynamics = {name: state[name] for name in KERNEL if name != "C"}
    width, modes = dynamics["frequency"].shape
    space = StateSpace(width, 2 * modes, bidirectional=False)
    space.load_state_dict(dynamics, strict=False)
    transition, _ = space.discretise()
    power: Tensor = torch.linalg.matrix_power(transition, num_tokens)
    return torch.eye(2 * modes, dtype=transition.dtype) - power


def _check_kernel(tensors: Mapping[str, Tensor], kernel: str, num_tokens: int) -> None:
    real = tensors[kernel + "w"][..., 0]
    if not (real < 0).all():
        raise EcgCheckpointError(f"expected negative real parts in {kernel}w, got up to {float(real.max())}")
    p, q = (torch.view_as_complex(tensors[kernel + name].double().contiguous()) for name in "PQ")
    if not torch.allclose(q, p.conj(), rtol=1e-5, atol=1e-6):
        raise EcgCheckpointError(
            f"expected {kernel}Q to be conj(P), got a difference of {float((q - p.conj()).abs().max())}"
        )
    omega = torch.view_as_complex(tensors[kernel + "omega"].double().contiguous())
    if not torch.allclose(omega, _roots(num_tokens), atol=1e-4):
        raise EcgCheckpointError(f"expected {kernel}omega to be the {num_tokens}-th roots of unity, got other values")
    z, expected = tensors[kernel + "z"].float(), _nodes(tensors[kernel + "omega"])
    if not torch.allclose(z[:-1], expected[:-1], rtol=1e-2, atol=1e-2):
        raise EcgCheckpointError(f"expected {kernel}z to be 2 (1 - omega) / (1 + omega), got other values")
