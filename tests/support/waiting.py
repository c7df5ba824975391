"""A mode that catches, on a CPU, what would make the host wait for an accelerator or hand it data in a step."""

import contextlib
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READING = {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "_linalg_check_errors", "_assert_async"}
# The size of what these give depends on values.
SHAPED_BY_VALUES = {"nonzero", "masked_select", "unique", "unique2", "bincount", "_unique", "_unique2", "unique_dim"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class NoWaiting(TorchDispatchMode):
    """Raises at every operation of which an accelerator's result, or its size, would have to be known to the host.

    It raises as well at data that comes from the host: numbers written out in Python, and tensors that a function
    makes without saying where, since inside `no_waiting` these are made on the meta device.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in READING | SHAPED_BY_VALUES or (name == "repeat_interleave" and "Tensor" in func._overloadname):
            raise AssertionError(f"{func} makes the host wait")
        if name in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1]):
            raise AssertionError(f"{func} with a mask makes the host wait")
        if name == "lift_fresh":
            raise AssertionError(f"{func} hands numbers of the host to the device")
        result = func(*args, **(kwargs or {}))
        given = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.Tensor)]
        devices = {value.device.type for value in (*given, result) if isinstance(value, torch.Tensor)}
        if devices - {"cpu"}:
            raise AssertionError(f"{func} runs on {sorted(devices)}, not on the device of the pair")
        return result


def _refuse(tensor, *args, **kwargs):
    raise AssertionError("reading all values makes the host wait")


def as_on_accelerator():
    """Lets code that asks whether a tensor is on the CPU take the way of an accelerator."""
    return mock.patch.object(torch.Tensor, "is_cpu", property(lambda _: False))


@contextlib.contextmanager
def no_waiting():
    """Lets a step run that takes place on the device of its tensors, here the CPU, and nowhere else."""
    # On a CPU these do not pass through a mode.
    reading = {"tolist": _refuse, "numpy": _refuse, "__array__": _refuse}
    with torch.device("meta"), mock.patch.multiple(torch.Tensor, **reading), NoWaiting():
        yield
