import re

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from ecg_hf import PretrainingArguments
from ecg_hf.training.dry_run import _KeptBytes, forecast
from ecg_hf.training.pretrain import open_run


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def arguments_for(folder, **changes):
    settings = {
        "size": "20k",
        "corpus": ["synthetic", "synthetic"],
        "corpus_weights": [3.0, 1.0],
        "corpus_fields": ["num_records=24", "sampling_rate=100"],
        "sampling_rate": 100.0,
        "max_steps": 50,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
    }
    return PretrainingArguments(output_dir=str(folder), **(settings | changes))


def test_what_a_linear_map_keeps_for_its_backward_pass_is_its_input_and_counts_once():
    first, second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    signal = torch.randn(16, 8)
    kept = _KeptBytes()
    with kept:
        outputs = first(signal), second(signal)
    assert len(outputs) == 2
    assert kept.total == 16 * 8 * 4


def test_a_forecast_says_what_a_run_would_take_and_leaves_nothing_behind(tmp_path):
    opened = open_run(arguments_for(tmp_path / "run"))
    said = forecast(opened)
    pair = opened.trainer.step.pair
    trained = sum(value.numel() for value in pair.parameters() if value.requires_grad)
    assert f"{trained:,} with the objective" in said.numbers["pair"]
    assert said.numbers["step"].startswith("8 crops of 2.5 s, 1 processes")
    flops = 3 * pair.backbone.forward_flops(250) * 8 * 50
    assert said.numbers["run"].endswith(f"{flops:.2e} FLOP") and "400 crops" in said.numbers["run"]
    assert [row[2] for row in said.corpora] == ["share", "75.0%", "25.0%"]
    assert "largest batch:" in str(said)
    assert not (tmp_path / "run").exists()


def test_a_crop_needs_as_much_memory_in_a_batch_of_any_size(tmp_path):
    needs = []
    for size in (16, 32):
        AcceleratorState._reset_state(reset_partial_state=True)
        said = forecast(open_run(arguments_for(tmp_path, batch_size=size))).numbers["memory of a process"]
        needs.append(float(re.search(r"and ([\d.]+) MiB for each crop", said)[1]))
    assert needs[0] == pytest.approx(needs[1], rel=0.2)
