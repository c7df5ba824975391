"""Weights that are sharded over processes (FSDP2) train as whole ones do, and are saved and loaded whole."""

import socket

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import multiprocessing
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ecg_hf import PAIRS, PretrainingArguments
from ecg_hf.snapshot import Snapshot, whole
from ecg_hf.step import TrainStep

PAIRS_TRIED = ["s4-jepa", "transformer-data2vec", "cnn-cpc", "resnet-dinosr", "s4-hubertpp", "transformer-masked"]
STEPS = 3


class Sharding(Accelerator):
    """Shards on the CPU as Accelerate's FSDP2 does on accelerators, to which it keeps it."""

    def prepare(self, model, optimizer):
        names = {parameter: name for name, parameter in model.named_parameters()}
        for module in list(model.modules()):
            if type(module).__name__ in (model._no_split_modules or []):
                fully_shard(module)
        fully_shard(model)
        sharded = dict(model.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [sharded[names[parameter]] for parameter in group["params"]]
        return model, super().prepare(optimizer)


def make_step(name, accelerator, folder):
    torch.manual_seed(0)
    pair = PAIRS[name](PAIRS[name].config_class(**PAIRS[name].backbone_class.sizes["20k"]))
    arguments = PretrainingArguments(output_dir=folder, pair=name, warmup_steps=0, max_steps=10)
    return TrainStep(arguments, accelerator, pair)


def batch(step, rank):
    generator = torch.Generator().manual_seed(100 * step + rank)
    return {"signal": torch.randn(4, 12, 500, generator=generator)}


def take_steps(taken, rank, steps):
    return [taken.run(step, [batch(step, rank)]).read()[0]["loss"] for step in steps]


def poison(taken, rank):
    """A step with a gradient that is not finite, on one rank."""
    backward = taken._backward

    def broken(batches):
        sums = backward(batches)
        if rank == 1:
            gradient = next(parameter.grad for parameter in taken.model.parameters() if parameter.grad is not None)
            (gradient.to_local() if isinstance(gradient, DTensor) else gradient).fill_(float("nan"))
        return sums

    taken._backward = broken
    taken.run(STEPS, [batch(STEPS, rank)])
    taken._backward = backward


def compare(rank, port, name, folder):
    import os

    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
        ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    torch.set_num_threads(1)
    copied = make_step(name, Accelerator(), folder)
    assert copied.accelerator.num_processes == 2
    losses = take_steps(copied, rank, range(STEPS))
    AcceleratorState._reset_state()
    sharded = make_step(name, Sharding(), folder)
    held = [value for value in sharded.pair.parameters() if isinstance(value, DTensor)]
    assert len(held) == len(list(sharded.pair.parameters())) > 10
    assert take_steps(sharded, rank, range(STEPS)) == pytest.approx(losses, rel=1e-4)
    expected = dict(copied.pair.named_parameters())
    for key, value in sharded.pair.named_parameters():
        torch.testing.assert_close(whole(value).detach(), expected[key].detach(), rtol=1e-3, atol=2e-5, msg=key)
    before = {key: whole(value).clone() for key, value in sharded.pair.state_dict().items()}
    poison(sharded, rank)
    for key, value in sharded.pair.state_dict().items():
        assert torch.equal(whole(value), before[key]), key
    check_checkpoint(sharded, name, rank, folder)


def check_checkpoint(sharded, name, rank, folder):
    """A checkpoint that one set of shards has written goes on in another, and with the same numbers."""
    from pathlib import Path

    from safetensors.torch import save_file

    files = Snapshot(sharded.pair, sharded.adam).take()
    if rank == 0:
        for file, tensors in files.items():
            save_file(tensors, Path(folder) / file)
    torch.distributed.barrier()
    again = make_step(name, Sharding(), folder)
    Snapshot(again.pair, again.adam).restore(Path(folder))
    for taken in (sharded, again):
        take_steps(taken, rank, [STEPS])
    other = dict(again.pair.state_dict())
    for key, value in sharded.pair.state_dict().items():
        assert torch.equal(whole(value), whole(other[key])), key
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "name", [*PAIRS_TRIED[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in PAIRS_TRIED[2:])]
)
def test_a_sharded_pair_trains_as_a_whole_one_and_its_checkpoints_are_whole(tmp_path, name):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(compare, args=(port, name, str(tmp_path)), nprocs=2)
