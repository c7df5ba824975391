"""Weights that are sharded over processes (FSDP2) train as whole ones do, and are saved and loaded whole."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from safetensors.torch import save_file
from torch import multiprocessing
from torch.distributed.fsdp import MixedPrecisionPolicy, OffloadPolicy
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from torch.distributed.tensor import DTensor

from ecg_hf import PAIRS, PretrainingArguments
from ecg_hf.training.checkpoints.snapshot import Snapshot, whole
from ecg_hf.training.step import TrainStep
from ecg_hf.training.validation import validation_loss

PAIRS_TRIED = ["s4-jepa", "transformer-data2vec", "cnn-cpc", "resnet-dinosr", "s4-hubertpp", "transformer-masked"]
STEPS = 3


class Sharding(Accelerator):
    """Shards on the CPU by Accelerate's own function, which it keeps to accelerators."""

    def prepare(self, model, optimizer):
        names = {parameter: name for name, parameter in model.named_parameters()}
        plugin = SimpleNamespace(
            set_auto_wrap_policy=lambda model: None,
            auto_wrap_policy=transformer_auto_wrap_policy,
            transformer_cls_names_to_wrap=None,
            reshard_after_forward=True,
            cpu_offload=OffloadPolicy(),
            cpu_ram_efficient_loading=False,
            ignored_modules=None,
            mixed_precision_policy=MixedPrecisionPolicy(),
        )
        stand_in = SimpleNamespace(
            state=SimpleNamespace(fsdp_plugin=plugin),
            torch_device_mesh=None,
            parallelism_config=SimpleNamespace(fsdp_dim_names=[]),
            mixed_precision=self.mixed_precision,
            is_main_process=self.is_main_process,
        )
        model = fsdp2_prepare_model(stand_in, model)
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


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def join(rank, port):
    """Becomes one of two processes on the CPU."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ.update(rendezvous | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    torch.set_num_threads(1)


def compare(rank, port, name, folder):
    join(rank, port)
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
    layers = [part for part in sharded.pair.modules() if type(part).__name__.startswith("FSDP")]
    assert len(layers) > 1, "only the whole was wrapped, not its layers"
    before = {key: whole(value).clone() for key, value in sharded.pair.state_dict().items()}
    poison(sharded, rank)
    for key, value in sharded.pair.state_dict().items():
        assert torch.equal(whole(value), before[key]), key
    check_checkpoint(sharded, name, rank, folder)


def check_checkpoint(sharded, name, rank, folder):
    """A checkpoint that one set of shards has written goes on in another, and with the same numbers."""
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


def compute_in_bf16(rank, port, folder):
    """Weights, gradients and the loss stay in float32 under mixed precision, and validation ends on all ranks."""
    join(rank, port)
    sharded = make_step("resnet-data2vec", Sharding(mixed_precision="bf16"), folder)
    losses = take_steps(sharded, rank, range(STEPS))
    assert {value.dtype for value in sharded.pair.parameters()} == {torch.float32}
    AcceleratorState._reset_state()
    precise = make_step("resnet-data2vec", Sharding(), folder)
    expected = take_steps(precise, rank, range(STEPS))
    assert losses != expected and losses == pytest.approx(expected, rel=0.03)
    records = SimpleNamespace(splits=[Three()], targets=None)
    loss = validation_loss(precise.pair, records, 500, 1, precise.accelerator)
    precise.pair.eval()
    alone = [float(precise.pair(torch.from_numpy(Three().signal(index))[None]).loss) for index in range(3)]
    assert loss == pytest.approx(sum(alone) / 3, rel=1e-5)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


class Three:
    """Three records: two for one process, one for the other."""

    lengths = np.full(3, 500)

    def __len__(self):
        return 3

    def signal(self, index):
        return np.random.default_rng(index).normal(size=(12, 500)).astype(np.float32)


def test_sharded_weights_stay_precise_under_mixed_precision_and_validate_with_unequal_shares(tmp_path):
    multiprocessing.spawn(compute_in_bf16, args=(free_port(), str(tmp_path)), nprocs=2)


@pytest.mark.parametrize(
    "name", [*PAIRS_TRIED[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in PAIRS_TRIED[2:])]
)
def test_a_sharded_pair_trains_as_a_whole_one_and_its_checkpoints_are_whole(tmp_path, name):
    multiprocessing.spawn(compare, args=(free_port(), name, str(tmp_path)), nprocs=2)
