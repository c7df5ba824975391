"""Statistics of batch norms: after pretraining they are those of whole signals under the last weights."""

import pytest
import torch
from torch import nn

from ecg_hf import PAIRS
from ecg_hf.training.batch_norms import regather


def norms_of(module):
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]


@pytest.fixture
def backbone():
    kind = PAIRS["resnet-masked"]
    torch.manual_seed(0)
    pair = kind(kind.config_class(**kind.backbone_class.sizes["20k"], dropout=0.3))
    for _ in range(5):  # as pretraining leaves them
        pair.train()(torch.randn(4, 12, 256))
    return pair.backbone


def test_the_first_norms_statistics_are_the_mean_over_whole_batches(backbone):
    batches = [torch.randn(6, 12, 256) * scale for scale in (1.0, 2.0)]
    seen = []
    norm = norms_of(backbone)[0]
    handle = norm.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    regather(backbone, batches)
    handle.remove()
    assert len(seen) == 2
    means = torch.stack([values.mean(dim=(0, 2)) for values in seen]).mean(dim=0)
    variances = torch.stack([values.transpose(0, 1).flatten(1).var(dim=1) for values in seen]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)


def test_batches_give_in_evaluation_what_they_give_in_training_and_weights_stay(backbone):
    batch = torch.randn(16, 12, 512)
    weights = {name: value.clone() for name, value in backbone.named_parameters()}
    before = backbone.eval()(batch).last_hidden_state
    regather(backbone, [batch])
    after = backbone(batch).last_hidden_state
    for norm in norms_of(backbone):
        norm.train()
    exact = backbone(batch).last_hidden_state
    assert (after - exact).abs().mean() < 0.1 * (before - exact).abs().mean()
    assert all(torch.equal(value, weights[name]) for name, value in backbone.named_parameters())


def test_nothing_is_left_behind(backbone):
    momenta = [norm.momentum for norm in norms_of(backbone)]
    regather(backbone, [torch.randn(4, 12, 256)])
    assert not any(module.training for module in backbone.modules())
    assert [norm.momentum for norm in norms_of(backbone)] == momenta and None not in momenta
    statistics = [norm.running_mean.clone() for norm in norms_of(backbone)]
    regather(backbone, [])
    assert all(torch.equal(norm.running_mean, old) for norm, old in zip(norms_of(backbone), statistics, strict=True))


def test_statistics_can_be_those_of_signals_of_which_a_pair_hides_something():
    kind = PAIRS["resnet-masked"]
    torch.manual_seed(0)
    pair = kind(kind.config_class(**kind.backbone_class.sizes["20k"])).eval()
    batches = [torch.randn(8, 12, 256) for _ in range(3)]
    seen = []
    norm = norms_of(pair.backbone)[0]
    handle = norm.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    regather(pair.backbone, batches, pair)
    handle.remove()
    torch.testing.assert_close(norm.running_mean, torch.stack([each.mean(dim=(0, 2)) for each in seen]).mean(dim=0))
    hidden = [norm.running_var.clone() for norm in norms_of(pair.backbone)]
    regather(pair.backbone, batches)
    assert hidden[0].mean() < 0.8 * norms_of(pair.backbone)[0].running_var.mean()  # half of each signal was flat
    assert not pair.training
