"""What the benchmarks of steps and layers measure with."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn


def clock(device: str) -> float:
    """Reads the clock once the device is done; with one CPU thread that thread's own, which other work moves little."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.thread_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def kept_memory(model: nn.Module, call: Callable[[], object]) -> float:
    """Measures what autograd keeps of a forward pass, without the model's own tensors, in MB."""
    own = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # Held until the end, or what is freed would give its place to another.
        result = call()
    del result
    return sum(kept.values()) / 1e6
