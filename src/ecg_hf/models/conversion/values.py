"""Computes the values of a model's tensors from those of study A's checkpoint, and back, along a layout.

Study A is arXiv:2605.12241; its checkpoints are files that its published code wrote.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ecg_hf.models.conversion.layout import COUNTER, Layout, Place
from ecg_hf.models.conversion.objectives import CODEBOOK, CODES, read_codes, write_codes
from ecg_hf.models.conversion.s4 import KERNEL, read_kernel, write_kernel
from ecg_hf.models.conversion.trunks import INV_FREQ, rotary_frequencies


def own_names(layout: Layout) -> set[str]:
    """Lists the names of the library's tensors that a layout provides a value for."""
    names = {place.name for place in layout.places.values() if place.name}
    names |= {target + part for target in layout.kernels.values() for part in KERNEL}
    return names | (set(CODES) if _has_codes(layout) else set())


def read_values(tensors: Mapping[str, Tensor], layout: Layout, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Computes the library's tensors from those of study A's checkpoint.

    Args:
        tensors: Tensors of the checkpoint by their plain names, after `check_layout`.
        layout: Layout of the checkpoint.
        own: State dict of the library's model; only its shapes are used.

    Returns:
        The values by the names in `own_names(layout)`.

    Raises:
        EcgCheckpointError: If tensors contradict each other.
    """
    values = {
        place.name: tensors[name][: place.rows].reshape(own[place.name].shape) if place.shape else tensors[name]
        for name, place in layout.places.items()
        if place.name
    }
    for source, target in layout.kernels.items():
        values |= {target + name: value for name, value in read_kernel(tensors, source).items()}
    return values | (read_codes(tensors) if _has_codes(layout) else {})


def write_values(state: Mapping[str, Tensor], layout: Layout, num_tokens: int) -> dict[str, Tensor]:
    """Computes the tensors of study A's checkpoint from the library's, with zeros for those the library does not hold.

    Args:
        state: State dict of the library's model.
        layout: Layout of the checkpoint.
        num_tokens: Number of tokens N that C of the state spaces is made for; even.

    Returns:
        The tensors by their plain names, float32; counters int64.
    """
    computed = write_codes(state) if _has_codes(layout) else {}
    for source, target in layout.kernels.items():
        kernel = write_kernel({name: state[target + name] for name in KERNEL}, num_tokens)
        computed |= {source + name: value for name, value in kernel.items()}
    for name, place in layout.places.items():
        if name.endswith(INV_FREQ):
            computed[name] = rotary_frequencies(*place.shape)
        elif name not in computed:
            computed[name] = _write(state, name, place)
    return {name: computed[name].clone().contiguous() for name in layout.places}


def _write(state: Mapping[str, Tensor], name: str, place: Place) -> Tensor:
    written = torch.zeros(place.shape, dtype=torch.int64 if name.endswith(COUNTER) else torch.float32)
    if place.name:
        held = written[: place.rows] if place.shape else written
        held.copy_(state[place.name].detach().reshape(held.shape))
    return written


def _has_codes(layout: Layout) -> bool:
    return CODEBOOK.format(0) + "codebook" in layout.places
