"""What every objective promises, asked of each that is registered."""

import pytest
import torch

from ecg_hf import PAIRS
from ecg_hf.registry import OBJECTIVES

NAMES = sorted(OBJECTIVES)


def make(name, **fields):
    torch.manual_seed(0)
    pair = PAIRS[f"s4-{name}"]
    return pair(pair.config_class(**{**pair.backbone_class.sizes["20k"], "num_labels": 5, **fields})).train()


def without_dropout(name):
    fields = PAIRS[f"s4-{name}"].config_class.__dataclass_fields__
    return make(name, **{field: 0.0 for field in ("dropout", "predictor_dropout") if field in fields})


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (2, 5), generator=generator).float()
    return {"signal": torch.randn(2, 12, 300, generator=generator), "labels": labels}


def take_step(pair, batch, optimizer=None):
    """One training step, as any loop takes it."""
    output = pair(**batch)
    output.loss.backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()
    pair.after_step()
    return output


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_says_how_healthy_the_features_are(name, batch):
    output = make(name)(**batch)
    assert output.loss.ndim == 0 and output.loss.isfinite()
    assert {"feature_std", "effective_rank"} <= output.metrics.keys()
    for key, value in output.metrics.items():
        assert value.ndim == 0 and value.isfinite() and not value.requires_grad, key
    assert 0 < output.metrics["feature_std"] <= 1.01
    assert 1 <= output.metrics["effective_rank"] <= 38


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_evaluation_repeats_and_draws_from_no_global_generator(name, batch):
    pair = make(name)
    take_step(pair, batch)
    pair.eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        losses = [pair(**batch).loss for _ in range(2)]
    assert torch.equal(*losses) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_changes_no_tensor(name, batch):
    pair = make(name)
    take_step(pair, batch)
    pair.eval()
    before = {key: value.clone() for key, value in pair.state_dict().items()}
    pair(**batch)
    assert [key for key, value in pair.state_dict().items() if not torch.equal(value, before[key])] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_training_depends_on_the_draw_where_something_is_drawn(name, batch):
    pair = without_dropout(name)
    take_step(pair, batch)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            losses.append(pair(**batch).loss)
    assert losses[0] == losses[1]
    assert (losses[0] == losses[2]) == (name == "supervised")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_trainable_parameter(name, batch):
    pair = make(name)
    pair(**batch).loss.backward()
    for key, value in pair.named_parameters():
        if value.requires_grad:
            assert value.grad is not None and value.grad.isfinite().all() and value.grad.any(), key
        else:
            assert value.grad is None and "teacher" in key


@pytest.mark.parametrize("name", NAMES)
def test_steps_move_all_that_trains_and_keep_everything_finite(name, batch):
    pair = make(name)
    before = {key: value.clone() for key, value in pair.named_parameters()}
    optimizer = torch.optim.AdamW([value for value in pair.parameters() if value.requires_grad], lr=1e-3)
    outputs = [take_step(pair, batch, optimizer) for _ in range(2)]
    assert all(output.loss.isfinite() for output in outputs)
    assert all(value.isfinite().all() for value in pair.state_dict().values() if value.is_floating_point())
    assert [key for key, value in pair.named_parameters() if torch.equal(value, before[key])] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_step_repeats_after_the_same_seed(name, batch):
    states = []
    for _ in range(2):
        pair = make(name)
        torch.manual_seed(5)
        for _ in range(2):
            take_step(pair, batch, torch.optim.SGD(pair.parameters(), lr=0.01))
        states.append(pair.state_dict())
    assert [key for key, value in states[0].items() if not torch.equal(value, states[1][key])] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_step_under_autocast_gives_about_the_same_loss(name, batch):
    pair = without_dropout(name).eval()
    exact = pair(**batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = pair(**batch).loss
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(exact.item(), rel=0.05)
