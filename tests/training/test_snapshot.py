import json

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import save_file

from ecg_hf import PAIRS, PretrainingArguments
from ecg_hf.errors import EcgCheckpointError
from ecg_hf.training.checkpoints.folder import checkpoints_of, verify
from ecg_hf.training.checkpoints.snapshot import Snapshot
from ecg_hf.training.checkpoints.writer import CheckpointWriter
from ecg_hf.training.step import TrainStep


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def make_step(name="s4-dinosr", seed=0):
    torch.manual_seed(seed)
    pair = PAIRS[name](PAIRS[name].config_class(hidden_size=16, num_layers=1))
    return TrainStep(PretrainingArguments("unused", pair=name, warmup_steps=0, max_steps=10), Accelerator(), pair)


def move(taken, steps):
    for step in steps:
        signal = torch.randn(4, 12, 500, generator=torch.Generator().manual_seed(step))
        taken.run(step, [{"signal": signal}])


@pytest.mark.parametrize("name", ["s4-cpc", "s4-jepa", "s4-dinosr", "s4-hubertpp"])
def test_training_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path, name):
    taken, other = make_step(name), make_step(name, seed=1)
    move(taken, range(3))
    with CheckpointWriter(tmp_path, 2) as writer:
        writer.submit(3, Snapshot(taken.pair, taken.adam).take(), {"step": 3})
    Snapshot(other.pair, other.adam).restore(tmp_path / "step-00000003")
    for each in (taken, other):
        move(each, range(3, 5))
    for (key, value), again in zip(taken.pair.state_dict().items(), other.pair.state_dict().values(), strict=True):
        assert torch.equal(value, again), key


def test_a_checkpoint_holds_nothing_that_runs_code(tmp_path):
    taken = make_step()
    move(taken, range(1))
    with CheckpointWriter(tmp_path, 2) as writer:
        writer.submit(1, Snapshot(taken.pair, taken.adam).take(), {"step": 1})
    (folder,) = checkpoints_of(tmp_path)
    verify(folder)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    assert json.loads((folder / "state.json").read_text()) == {"step": 1}


def test_training_may_go_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    taken = make_step()
    move(taken, range(2))
    expected = {name: value.clone() for name, value in taken.pair.state_dict().items()}
    files = Snapshot(taken.pair, taken.adam).take()
    move(taken, range(2, 4))
    assert all(torch.equal(value, expected[name]) for name, value in files["model.safetensors"].items())
    assert not all(torch.equal(value, expected[name]) for name, value in taken.pair.state_dict().items())


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    taken = make_step("s4-cpc")
    save_file({"odd": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(EcgCheckpointError, match=r"differ in \d+ tensors such as backbone"):
        Snapshot(taken.pair, taken.adam).restore(tmp_path)


def test_only_the_newest_checkpoints_stay(tmp_path):
    with CheckpointWriter(tmp_path, 2) as writer:
        for step in (1, 2, 3):
            writer.submit(step, {"model.safetensors": {"a": torch.ones(1)}}, {})
    assert [path.name for path in checkpoints_of(tmp_path)] == ["step-00000003", "step-00000002"]
