"""No training step of any pair waits for the device, and a step that was skipped leaves no trace."""

import pytest
import torch

from ecg_hf import PAIRS
from ecg_hf.models.objectives.teacher import TeacherObjective
from waiting import as_on_accelerator, no_waiting

TAUGHT = [name for name, pair in PAIRS.items() if issubclass(pair.objective_class, TeacherObjective)]


def make_pair(name, **fields):
    torch.manual_seed(0)
    pair = PAIRS[name]
    return pair(pair.config_class(**{**pair.backbone_class.sizes["20k"], "num_labels": 5, **fields})).train()


def make_batch(seed=0, num_samples=555):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([[1.0, 0, 0, 1, float("nan")], [0, 1, 0, 1, 0]])
    return {"signal": torch.randn(2, 12, num_samples, generator=generator), "labels": labels}


def take_step(pair, batch, moved=None):
    pair(**batch).loss.backward()
    pair.after_step(moved)


def assert_never_waits(pair):
    with as_on_accelerator():
        # The first step of a run may prepare what the others use.
        take_step(pair, make_batch())
        moved = torch.tensor(True)
        for seed in (1, 2):
            batch = make_batch(seed)
            with no_waiting():
                take_step(pair, batch, moved)


@pytest.mark.parametrize("name", PAIRS)
def test_no_step_of_a_pair_makes_the_host_wait(name):
    assert_never_waits(make_pair(name))


FIELDS = [
    ("s4-cpc", {"trainable_dynamics": True}),
    ("s4-cpc", {"negatives": "batch", "normalize": True}),
    ("s4-cpc", {"negatives": "sequence", "loss_reduction": "sum"}),
    ("s4-jepa", {"min_block_tokens": 64, "context_fallback": True, "ema_ramp_steps": 0, "target_norm": "token"}),
    ("s4-jepa", {"teacher": "frozen_random", "teacher_dropout": True}),
    ("s4-dinosr", {"idle_codes": "shrink"}),
    ("s4-hubertpp", {"temperature_steps": 0}),
    ("s4-masked", {"normalize_patches": False}),
    ("s4-supervised", {"head": "attention", "head_num_heads": 2}),
    ("transformer-cpc", {"positions": "rotary", "stem": "conv"}),
    ("transformer-data2vec", {"attn_implementation": "eager"}),
]


@pytest.mark.parametrize(("name", "fields"), FIELDS)
def test_no_choice_makes_the_host_wait(name, fields):
    assert_never_waits(make_pair(name, **fields))


@pytest.mark.parametrize("place", ["forward", "after_step"])
@pytest.mark.parametrize(
    "waits",
    [
        lambda value: value.sum().item(),
        lambda value: bool((value > 0).any()),
        lambda value: value[value > 0],
        lambda value: value.nonzero(),
        lambda value: value.unique(),
        lambda value: torch.masked_select(value, value > 0),
        lambda value: torch.equal(value, value + 1),
        lambda value: value.tolist(),
        lambda value: value.numpy(),
        lambda value: torch.linalg.solve(torch.eye(2, device=value.device), value[:2, :2]),
        lambda value: value.repeat_interleave((value[:, 0] > 0).long(), dim=0),
        lambda value: value.to("meta"),
        lambda value: value[:2, 0] * torch.tensor([1.0, 2.0], device=value.device),
        lambda value: value.sum() + torch.arange(5).sum(),
        lambda value: value.new_zeros(2).copy_(torch.zeros(2)),
    ],
)
def test_what_waits_would_be_seen(place, waits, monkeypatch):
    pair = make_pair("transformer-cpc")
    take_step(pair, make_batch())
    original = getattr(pair, place)

    def planted(*args, **kwargs):
        waits(pair.objective.predictor.weight.detach())
        return original(*args, **kwargs)

    monkeypatch.setattr(pair, place, planted)
    batch = make_batch()
    with pytest.raises(AssertionError, match=r"makes the host wait|hands numbers|runs on"), no_waiting():
        take_step(pair, batch)


def copy_of(pair):
    return {key: value.clone() for key, value in pair.state_dict().items()}


def changed(pair, before):
    return {key for key, value in pair.state_dict().items() if not torch.equal(value, before[key])}


def spoil(pair):
    """Makes all that was collected for the step NaN, as a batch that is not finite does."""
    for key, value in pair.objective.state_dict().items():
        if "pending" in key:
            value.fill_(float("nan"))


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("name", TAUGHT)
def test_a_step_that_did_not_move_the_student_moves_nothing_else(name, broken):
    pair = make_pair(name, ema_start_decay=0.5, ema_decay=0.9)
    take_step(pair, make_batch())
    torch.manual_seed(1)
    with torch.no_grad():
        # Gradient steps, so that teacher and student differ.
        for parameter in pair.backbone.parameters():
            parameter += 0.1 * torch.rand_like(parameter)
    before = copy_of(pair)
    pair(**make_batch(1))
    if broken:
        spoil(pair)
    pair.after_step(torch.tensor(False))
    gathered = {key for key in before if "running" in key or "num_batches_tracked" in key}
    assert changed(pair, before) <= gathered
    assert all(not value.any() for key, value in pair.state_dict().items() if "pending" in key)


@pytest.mark.parametrize("name", TAUGHT)
def test_a_step_that_moved_the_student_is_one_of_which_nothing_was_said(name):
    states = []
    for moved in (None, torch.tensor(True)):
        pair = make_pair(name)
        for seed in (0, 1):
            with torch.no_grad():
                for parameter in pair.backbone.parameters():
                    parameter *= 1.01
            torch.manual_seed(seed)
            take_step(pair, make_batch(seed), moved)
        states.append(copy_of(pair))
    assert [key for key, value in states[0].items() if not torch.equal(value, states[1][key])] == []
    fresh = copy_of(make_pair(name))
    moving = ("teacher.backbone.layers", "num_updates", "num_steps", ".codes", ".counts")
    for part in (part for part in moving if any(part in key for key in fresh)):
        assert any(part in key and not torch.equal(value, fresh[key]) for key, value in states[0].items()), part


@pytest.mark.parametrize("name", TAUGHT)
def test_skipped_steps_leave_a_run_as_if_they_had_not_been(name):
    pairs = make_pair(name), make_pair(name)
    for pair, seeds in zip(pairs, ((0, 1, 2), (0, 2)), strict=True):
        for seed in seeds:
            torch.manual_seed(seed)
            # What batch norms gather is not the objective's, and does not reach a loss in training.
            take_step(pair, make_batch(seed), torch.tensor(seed != 1))
    own = [key for key in pairs[0].objective.state_dict() if "running" not in key and "num_batches" not in key]
    assert not changed(pairs[0].objective, pairs[1].objective.state_dict()).intersection(own)


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in TAUGHT])
def test_a_pair_without_a_teacher_has_nothing_to_do_after_a_step(name):
    pair = make_pair(name)
    before = copy_of(pair)
    for moved in (None, torch.tensor(True), torch.tensor(False)):
        pair.after_step(moved)
    assert not changed(pair, before)
