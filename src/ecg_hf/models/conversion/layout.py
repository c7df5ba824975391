"""What a complete checkpoint of the reference holds: each tensor's name, its shape, and where it goes in ours."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ecg_hf.errors import EcgCheckpointError

MAX_NAMES = 8  # that a message lists
# Of batch norm; the reference counts batches there and never reads the count.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Place:
    """Where one tensor of the reference belongs.

    Args:
        shape: That it has there.
        name: Of our tensor of the same values; None if there is none.
        reason: Why there is none, or why not all of it is ours.
        rows: How many of its rows, the first ones, ours holds; None if all.
    """

    shape: tuple[int, ...]
    name: str | None = None
    reason: str = ""
    rows: int | None = None


@dataclass
class Layout:
    """All tensors of a checkpoint, or of a part of one.

    Args:
        places: By the reference's name.
        kernels: The reference's prefix of each state space, and ours; their tensors are computed from each other.
    """

    places: dict[str, Place] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)

    def add(self, source: str, target: str | None, shapes: Mapping[str, tuple[int, ...]], reason: str = "") -> None:
        """Places tensors that are called the same in both, below `source` there and below `target` here."""
        for name, shape in shapes.items():
            self.places[source + name] = Place(shape, None if target is None else target + name, reason)

    def add_linear(self, source: str, target: str | None, shape: tuple[int, ...], reason: str = "") -> None:
        """Places a linear map or convolution with its bias."""
        self.add(source, target, {"weight": shape, "bias": shape[:1]}, reason)

    def add_norm(self, source: str, target: str | None, width: int, reason: str = "") -> None:
        """Places weight and bias of a norm over `width` channels."""
        self.add(source, target, {"weight": (width,), "bias": (width,)}, reason)

    def add_batch_norm(self, source: str, target: str | None, width: int, reason: str = "") -> None:
        """Places a batch norm over `width` channels with its statistics."""
        self.add_norm(source, target, width, reason)
        self.add(source, target, {"running_mean": (width,), "running_var": (width,), COUNTER: ()}, reason)

    def add_all(self, other: "Layout") -> None:
        """Places what another layout places."""
        self.places |= other.places
        self.kernels |= other.kernels

    def left_out(self) -> dict[str, str]:
        """Says of each tensor that has no place in ours, or not all of which has, why."""
        return {name: place.reason for name, place in self.places.items() if place.reason}


def summarise(names: Iterable[str]) -> str:
    """Lists names in short: a star for numbers and for last parts that differ, then how many there are."""
    stems: dict[str, list[str]] = {}
    for name in names:
        stem, _, last = re.sub(r"(?<=\.)\d+(?=\.)", "*", name).rpartition(".")
        stems.setdefault(stem, []).append(last)
    parts = [f"{stem}.{lasts[0] if len(set(lasts)) == 1 else '*'} ({len(lasts)})" for stem, lasts in stems.items()]
    return ", ".join(parts)


def plain_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes the wrappers' prefixes off the names.

    Args:
        state_dict: Of a reference checkpoint, with any number of "model." and one "ts_encoder." before its names.

    Returns:
        The same tensors, on the CPU.

    Raises:
        EcgCheckpointError: If two names become one.
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
    """Gives a tensor that the layout is inferred from.

    Raises:
        EcgCheckpointError: If it is not there, or has not `dim` axes, or one of them is empty.
    """
    if name not in tensors:
        raise EcgCheckpointError(
            f"expected a tensor {name}, got {_some(tensors)}; pass the whole state dict of a model of the reference"
        )
    shape = tuple(tensors[name].shape)
    if len(shape) != dim or 0 in shape:
        raise EcgCheckpointError(f"expected {dim} axes in {name}, got shape {shape}; the file is damaged")
    return tensors[name]


def count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Counts the numbers that follow `prefix` in the names."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)})


def check_layout(tensors: Mapping[str, Tensor], layout: Layout, kind: str) -> None:
    """Checks names, shapes, types and numbers of all tensors.

    Args:
        tensors: By their plain names.
        layout: What they must be, no less and no more.
        kind: Of the model, for messages.

    Raises:
        EcgCheckpointError: If a tensor is missing, unknown, misshapen, of another type, or not finite.
    """
    missing, unknown = layout.places.keys() - tensors.keys(), tensors.keys() - layout.places.keys()
    if missing or unknown:
        raise EcgCheckpointError(
            f"expected the {len(layout.places)} tensors of {kind}, got {len(tensors)}: missing {_some(missing)}, "
            f"unknown {_some(unknown)}; pass the whole state dict of a model of the reference"
        )
    for name, place in layout.places.items():
        tensor = tensors[name]
        if tensor.shape != place.shape:
            raise EcgCheckpointError(
                f"expected shape {place.shape} in {name} of {kind}, got {tuple(tensor.shape)}; the file is damaged or "
                "of another model"
            )
        if tensor.is_floating_point() == name.endswith(COUNTER) or tensor.is_complex():
            kind_of_number = "whole numbers" if name.endswith(COUNTER) else "real numbers"
            raise EcgCheckpointError(f"expected {kind_of_number} in {name}, got {tensor.dtype}; the file is damaged")
        # z holds a division by zero where omega is -1
        if not name.endswith(".z") and not tensor.isfinite().all():
            raise EcgCheckpointError(f"expected finite numbers in {name}, got NaN or infinity; the file is damaged")


def _some(names: Mapping[str, Tensor] | set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - MAX_NAMES} more" if len(listed) > MAX_NAMES else ""
    return f"{listed[:MAX_NAMES]}{more}"
