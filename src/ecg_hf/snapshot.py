"""Weights and optimizer of a run as plain tensors on the host, whole on every process however they are sharded."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ecg_hf.errors import EcgCheckpointError

Files = dict[str, dict[str, Tensor]]
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"


class Snapshot:
    """Copies of a model and its optimizer, kept in the same host memory from one to the next.

    Args:
        model: Its parameters may be sharded by FSDP2.
        optimizer: Of these parameters.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        self.model, self.optimizer = model, optimizer
        self._host: Files = {}

    def tensors(self) -> Files:
        """Lists what decides how training goes on, by the file it goes to and its name there."""
        moments = {
            f"{name}.{key}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        return {MODEL: self.model.state_dict(), OPTIMIZER: moments}

    @torch.no_grad()
    def take(self) -> Files:
        """Copies all to the host; the next call overwrites it. All processes must call it.

        Raises:
            EcgCheckpointError: If a weight is not finite.
        """
        files = {file: {name: whole(value) for name, value in part.items()} for file, part in self.tensors().items()}
        require_finite(files[MODEL])
        for file, part in files.items():
            kept = self._host.setdefault(file, {})
            for name, value in part.items():
                if name not in kept:
                    kept[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
                kept[name].copy_(value, non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self._host

    @torch.no_grad()
    def restore(self, folder: Path) -> None:
        """Puts what a checkpoint holds where it came from.

        Raises:
            EcgCheckpointError: If it holds other weights than the model has.
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
    """Gathers a sharded tensor, on all processes at once; any other is already whole."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def require_finite(weights: dict[str, Tensor]) -> None:
    """Refuses weights of which any is not finite, with one look at the device.

    Raises:
        EcgCheckpointError: If there is one.
    """
    names = [name for name, value in weights.items() if value.is_floating_point()]
    finite = torch.stack([weights[name].isfinite().all() for name in names]).tolist()
    if not all(finite):
        raise EcgCheckpointError(
            f"{finite.count(False)} tensors such as {names[finite.index(False)]} are not finite, so no checkpoint is "
            "written; start again with a lower learning_rate"
        )


def _as(like: Tensor, value: Tensor) -> Tensor:
    """Brings a tensor to the device of another one and, if it has its shape, shards it as that is."""
    value = value.to(like.device, copy=True)
    if isinstance(like, DTensor) and value.shape == like.shape:
        return distribute_tensor(value, like.device_mesh, like.placements)
    return value
