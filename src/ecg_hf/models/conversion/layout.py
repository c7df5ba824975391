"""Layout of study A's checkpoints: name and shape of each tensor, and the library's tensor that it becomes.

Study A is arXiv:2605.12241; its checkpoints are files that its published code ("study A's code") wrote.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ecg_hf.errors import EcgCheckpointError

MAX_NAMES = 8  # most names that a message lists
# Batch norm's number of batches seen; study A's code counts them and never reads the count.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Place:
    """The place of one tensor of study A's checkpoint in a model of this library.

    Args:
        shape: Shape of the tensor in the checkpoint.
        name: Name of the library's tensor with the same values; None if there is none.
        reason: Reason why the library has no such tensor, or holds only a part of it; empty if it holds all.
        rows: Number of leading rows that the library's tensor holds; None if all.
    """

    shape: tuple[int, ...]
    name: str | None = None
    reason: str = ""
    rows: int | None = None


@dataclass
class Layout:
    """The places of all tensors of a checkpoint, or of a part of a checkpoint.

    Args:
        places: Place of each tensor by its name in the checkpoint.
        kernels: The library's prefix of each state space by its prefix in the checkpoint; the tensors below one are
            computed from those below the other.
    """

    places: dict[str, Place] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)

    def add(self, source: str, target: str | None, shapes: Mapping[str, tuple[int, ...]], reason: str = "") -> None:
        """Places tensors that have the same names below `source` in the checkpoint and below `target` in the model."""
        for name, shape in shapes.items():
            self.places[source + name] = Place(shape, None if target is None else target + name, reason)

    def add_linear(self, source: str, target: str | None, shape: tuple[int, ...], reason: str = "") -> None:
        """Places a linear map or convolution with its bias."""
        self.add(source, target, {"weight": shape, "bias": shape[:1]}, reason)

    def add_norm(self, source: str, target: str | None, width: int, reason: str = "") -> None:
        """Places the weight and bias of a norm over `width` channels."""
        self.add(source, target, {"weight": (width,), "bias": (width,)}, reason)

    def add_batch_norm(self, source: str, target: str | None, width: int, reason: str = "") -> None:
        """Places a batch norm over `width` channels with its statistics."""
        self.add_norm(source, target, width, reason)
        self.add(source, target, {"running_mean": (width,), "running_var": (width,), COUNTER: ()}, reason)

    def add_all(self, other: "Layout") -> None:
        """Adds all places and state spaces of another layout."""
        self.places |= other.places
        self.kernels |= other.kernels

    def left_out(self) -> dict[str, str]:
        """Returns the reason, by name, for each tensor that the library does not hold, or holds only in part."""
        return {name: place.reason for name, place in self.places.items() if place.reason}


def summarise(names: Iterable[str]) -> str:
    """Shortens a list of names: a star stands for numbers and for last parts that differ, a count follows in brackets.

    Example:
        >>> summarise(["norms.0.weight", "norms.0.bias", "norms.1.weight", "head.bias"])
        'norms.*.* (3), head.bias (1)'
    """
    stems: dict[str, list[str]] = {}
    for name in names:
        stem, _, last = re.sub(r"(?<=\.)\d+(?=\.)", "*", name).rpartition(".")
        stems.setdefault(stem, []).append(last)
    parts = [f"{stem}.{lasts[0] if len(set(lasts)) == 1 else '*'} ({len(lasts)})" for stem, lasts in stems.items()]
    return ", ".join(parts)


def plain_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefixes that wrapper classes put before the names.

    Args:
        state_dict: Tensors of study A's checkpoint, with any number of "model." and at most one "ts_encoder." before
            their names.

    Returns:
        The same tensors by their plain names, on the CPU.

    Raises:
        EcgCheckpointError: If two names become the same.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        name = key
        while name.startswith("model."):
            name = name.removeprefix("model.")
        name = name.removeprefix("ts_encoder.")
        if name in tensors:
            raise EcgCheckpointError(f"expected one tensor {name}, got a second one under {key}; remove one of them")
        tensors[name] = tensor.detach().cpu()
    return tensors


def get(tensors: Mapping[str, Tensor], name: str, dim: int) -> Tensor:
    """Returns a tensor that the layout is inferred from.

    Raises:
        EcgCheckpointError: If the tensor is missing, does not have `dim` axes, or has an empty axis.
    """
    if name not in tensors:
        raise EcgCheckpointError(
            f"expected a tensor {name}, got {_some(tensors)}; pass the whole state dict of one of study A's models"
        )
    shape = tuple(tensors[name].shape)
    if len(shape) != dim or 0 in shape:
        raise EcgCheckpointError(f"expected {dim} axes in {name}, got shape {shape}; the file is damaged")
    return tensors[name]


def count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Counts the different parts that follow `prefix` in the names, such as the numbers of the layers."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)})


def check_layout(tensors: Mapping[str, Tensor], layout: Layout, kind: str) -> None:
    """Checks the names, shapes, types and values of all tensors.

    Args:
        tensors: Tensors of the checkpoint by their plain names.
        layout: Layout that the tensors must fit, with none missing and none left over.
        kind: Name of the model for messages, such as "study A's s4-jepa".

    Raises:
        EcgCheckpointError: If a tensor is missing, unknown, of another shape or type, or not finite.
    """
    missing, unknown = layout.places.keys() - tensors.keys(), tensors.keys() - layout.places.keys()
    if missing or unknown:
        raise EcgCheckpointError(
            f"expected the {len(layout.places)} tensors of {kind}, got {len(tensors)}: missing {_some(missing)}, "
            f"unknown {_some(unknown)}; pass the whole state dict of one of study A's models"
        )
    for name, place in layout.places.items():
        tensor = tensors[name]
        if tensor.shape != place.shape:
            raise EcgCheckpointError(
                f"expected shape {place.shape} in {name} of {kind}, got {tuple(tensor.shape)}; the file is damaged or "
                "from another model"
            )
        if tensor.is_floating_point() == name.endswith(COUNTER) or tensor.is_complex():
            kind_of_number = "whole numbers" if name.endswith(COUNTER) else "real numbers"
            raise EcgCheckpointError(f"expected {kind_of_number} in {name}, got {tensor.dtype}; the file is damaged")
        # z is a quotient whose denominator is zero where omega is -1.
        if not name.endswith(".z") and not tensor.isfinite().all():
            raise EcgCheckpointError(f"expected finite numbers in {name}, got NaN or infinity; the file is damaged")


def _some(names: Mapping[str, Tensor] | set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - MAX_NAMES} more" if len(listed) > MAX_NAMES else ""
    return f"{listed[:MAX_NAMES]}{more}"
