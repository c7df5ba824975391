import pytest
import torch

from ecg_hf import CLASSIFIERS, PAIRS
from ecg_hf.training.optimization import LEARNING_RATE_SCALES, learning_rate_factor, parameter_groups


def make_pair():
    pair = PAIRS["s4-cpc"]
    return pair(pair.config_class(hidden_size=16, num_layers=1, trainable_dynamics=True))


def names_of(model, group):
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return [by_id[id(parameter)] for parameter in group["params"]]


@pytest.mark.parametrize("scales", LEARNING_RATE_SCALES)
def test_every_trainable_parameter_is_in_exactly_one_group(scales):
    pair = make_pair()
    groups = parameter_groups(pair, 1.0, 0.1, LEARNING_RATE_SCALES[scales])
    found = [name for group in groups for name in names_of(pair, group)]
    assert sorted(found) == sorted(name for name, _ in pair.named_parameters())


def test_norms_biases_and_the_state_space_do_not_decay():
    pair = make_pair()
    decayed = {
        name
        for group in parameter_groups(pair, 1.0, 0.1, LEARNING_RATE_SCALES["uniform"])
        for name in names_of(pair, group)
        if group["weight_decay"]
    }
    assert decayed == {
        "objective.predictor.weight",
        "backbone.layers.0.output_linear.weight",
        *(f"backbone.stem.convs.{index}.weight" for index in range(4)),
    }


def test_study_a_learns_objective_trunk_and_stem_at_its_three_rates():
    pair = make_pair()
    groups = parameter_groups(pair, 3e-3, 1e-3, LEARNING_RATE_SCALES["study_a"])
    rates = {name: group["lr"] for group in groups for name in names_of(pair, group)}
    assert rates["objective.predictor.weight"] == pytest.approx(3e-3)
    assert rates["backbone.layers.0.output_linear.weight"] == pytest.approx(3e-4)
    assert rates["backbone.stem.convs.0.weight"] == pytest.approx(3e-5)


def test_a_predictor_s_state_space_does_not_decay_and_the_mask_token_learns_as_the_trunk():
    kind = PAIRS["s4-jepa"]
    pair = kind(kind.config_class(**kind.backbone_class.sizes["20k"]))
    groups = parameter_groups(pair, 3e-3, 1e-3, LEARNING_RATE_SCALES["study_a"])
    settings = {name: (group["lr"], group["weight_decay"]) for group in groups for name in names_of(pair, group)}
    assert settings["objective.predictor.state_space.C"] == (pytest.approx(3e-3), 0.0)
    assert settings["objective.predictor.output_linear.weight"] == (pytest.approx(3e-3), 1e-3)
    assert settings["objective.mask_token"] == (pytest.approx(3e-4), 0.0)


def test_a_frozen_backbone_is_in_no_group():
    kind = CLASSIFIERS["s4-cpc"]
    classifier = kind(kind.config_class(hidden_size=16, num_layers=1))
    classifier.freeze_backbone()
    groups = parameter_groups(classifier, 1.0, 0.1, LEARNING_RATE_SCALES["uniform"])
    assert {name for group in groups for name in names_of(classifier, group)} == {
        "head.linear.weight",
        "head.linear.bias",
    }


def test_cosine_equals_torchs_after_a_linear_warm_up():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90, eta_min=0.1)
    factors = [learning_rate_factor(step, max_steps=100, warmup_steps=10, schedule="cosine") for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    for step in range(10, 101):
        assert factors[step] == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        schedule.step()


def test_constant_stays_at_its_peak():
    assert learning_rate_factor(999, max_steps=1000, warmup_steps=10, schedule="constant") == 1
