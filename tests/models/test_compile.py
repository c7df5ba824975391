"""Every pair is one graph for the compiler: no step of it falls back to Python."""

import copy

import pytest
import torch

from ecg_hf import PAIRS


def make_pair(name):
    torch.manual_seed(0)
    pair = PAIRS[name]
    fields = pair.backbone_class.sizes["20k"] | {"num_labels": 5}
    known = pair.config_class.__dataclass_fields__
    # A compiled step may draw in another order than one that is not.
    fields |= {field: 0.0 for field in ("dropout", "predictor_dropout") if field in known}
    return pair(pair.config_class(**fields)).train()


def make_batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[1.0, 0, 0, 1, float("nan")], [0, 1, 0, 1, 0]])
    return {"signal": torch.randn(2, 12, 600, generator=generator), "labels": labels}


def take_step(pair, model):
    torch.manual_seed(1)
    output = model(**make_batch())
    output.loss.backward()
    gradients = {key: value.grad for key, value in pair.named_parameters() if value.grad is not None}
    pair.zero_grad()
    pair.after_step()
    return output.loss.detach(), gradients


def assert_one_graph(name, backend, tolerance):
    pair = make_pair(name)
    # The first step of a run may prepare what the others use.
    take_step(pair, pair)
    plain = copy.deepcopy(pair)
    torch.compiler.reset()
    compiled = torch.compile(pair, fullgraph=True, backend=backend)
    for _ in range(2):
        expected, gradients = take_step(plain, plain)
        loss, found = take_step(pair, compiled)
        torch.testing.assert_close(loss, expected, rtol=tolerance, atol=tolerance)
        assert found.keys() == gradients.keys()
        for key, value in gradients.items():
            torch.testing.assert_close(found[key], value, rtol=100 * tolerance, atol=100 * tolerance, msg=key)


BRIEF = {"s4-jepa", "transformer-cpc", "resnet-masked", "s4-hubertpp"}


@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.13's compiler itself does
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in BRIEF else pytest.mark.slow) for name in PAIRS]
)
def test_a_training_step_is_one_graph(name):
    assert_one_graph(name, "eager", 1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch 2.13's compiler warns of itself in many places
@pytest.mark.parametrize("name", ["s4-cpc", "s4-jepa"])
def test_a_step_of_s4_compiles_to_kernels_of_the_same_numbers(name, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    assert_one_graph(name, "inductor", 1e-4)
