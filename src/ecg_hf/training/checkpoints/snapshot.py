"""Snapshots of a run: its weights and optimizer state as plain tensors in host memory, gathered from all shards."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ecg_hf.errors import EcgCheckpointError

Files = dict[str, dict[str, Tensor]]
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"


class Snapshot:
    """A copy of a model and its optimizer in host memory, which is reused from one copy to the next.

    Args:
        model: Model, whose parameters may be sharded by FSDP2.
        optimizer: Optimizer of these parameters.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        self.model, self.optimizer = model, optimizer
        self._host: Files = {}

    def tensors(self) -> Files:
        """Returns the tensors that a run resumes from, by file and by name in the file."""
        moments = {
            f"{name}.{key}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        return {MODEL: self.model.state_dict(), OPTIMIZER: moments}

    @torch.no_grad()
    def take(self, *, keep: bool = True) -> Files:
        """Copies all tensors to the host, one after the other; the next call overwrites the copies.

        All processes must call it.

        Args:
            keep: Whether this process keeps the copies; a process that does not only contributes its shards.

        Returns:
            The copies, by file and by name in the file.

        Raises:
            EcgCheckpointError: If a weight is not finite.
        """
        finite = {}
        for file, part in self.tensors().items():
            kept = self._host.setdefault(file, {})
            for name, shards in part.items():
                value = whole(shards)
                if file == MODEL and value.is_floating_point():
                    finite[name] = value.isfinite().all()
                if keep and name not in kept:
                    kept[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
                if keep:
                    kept[name].copy_(value, non_blocking=True)
        _require(finite)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self._host

    @torch.no_grad()
    def restore(self, folder: Path) -> None:
        """Loads a checkpoint into the model and the optimizer.

        Raises:
            EcgCheckpointError: If the checkpoint and the model have different weights.
        """
        weights, own = load_file(folder / MODEL), self.model.state_dict()
        if odd := sorted(set(weights) ^ set(own)):
            raise EcgCheckpointError(
                f"{folder} and the model differ in {len(odd)} tensors such as {odd[0]}; resume with the version of "
                "ecg_hf that wrote it"
            )
        for name, value in weights.items():
            own[name].copy_(_as(own[name], value))
        moments = load_file(folder / OPTIMIZER)
        for name, parameter in self.model.named_parameters():
            own_moments = {
                key: _as(parameter, moments[f"{name}.{key}"])
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}.{key}" in moments
            }
            if own_moments:
                self.optimizer.state[parameter] = own_moments


def whole(value: Tensor) -> Tensor:
    """Gathers a sharded tensor, which all processes must do at once; returns any other tensor as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def require_finite(weights: dict[str, Tensor]) -> None:
    """Checks that all weights are finite, with one transfer from the device.

    Raises:
        EcgCheckpointError: If a weight is not finite.
    """
    _require({name: value.isfinite().all() for name, value in weights.items() if value.is_floating_point()})


def _require(finite: dict[str, Tensor]) -> None:
    flags = torch.stack(list(finite.values())).tolist()
    if not all(flags):
        raise EcgCheckpointError(
            f"{flags.count(False)} tensors such as {list(finite)[flags.index(False)]} are not finite, so no checkpoint "
            "is written; start again with a lower learning_rate"
        )


def _as(like: Tensor, value: Tensor) -> Tensor:
    """Moves a tensor to the device of another tensor and, if their shapes are equal, shards it in the same way."""
    value = value.to(like.device, copy=True)
    if isinstance(like, DTensor) and value.shape == like.shape:
        return distribute_tensor(value, like.device_mesh, like.placements)
    return value
