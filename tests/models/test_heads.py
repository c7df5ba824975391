import math

import pytest
import torch

from ecg_hf.models.backbones.s4 import EcgS4Config
from ecg_hf.models.heads import AttentionHead, LinearHead, masked_loss


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("num_labels", [1, 5, 71])
def test_heads_have_the_parameter_counts_of_study_a(num_labels):
    config = EcgS4Config(hidden_size=512, num_labels=num_labels)
    assert count(AttentionHead(config)) == 786_944 + 512 * num_labels
    assert count(LinearHead(config)) == 513 * num_labels


def test_attention_head_equals_attention_written_out():
    torch.manual_seed(0)
    head = AttentionHead(EcgS4Config(hidden_size=8, head_num_heads=2, num_labels=3))
    head.reset()
    tokens = torch.randn(2, 5, 8)
    query, keys, values = head.q_proj(head.query)[0, 0], head.k_proj(tokens), head.v_proj(tokens)
    for record in range(2):
        pooled = []
        for part in (slice(0, 4), slice(4, 8)):
            weights = (keys[record, :, part] @ query[part] / math.sqrt(4)).softmax(dim=0)
            pooled.append(weights @ values[record, :, part])
        expected = head.out_proj(torch.cat(pooled))
        assert torch.allclose(head(tokens)[record], expected, atol=1e-6)


@pytest.mark.parametrize("kind", [AttentionHead, LinearHead])
def test_a_head_does_not_care_for_the_order_of_tokens(kind):
    torch.manual_seed(0)
    head = kind(EcgS4Config(hidden_size=16, num_labels=3))
    if kind is AttentionHead:
        head.reset()
    tokens = torch.randn(2, 7, 16)
    assert torch.allclose(head(tokens), head(tokens[:, torch.randperm(7)]), atol=1e-6)


def test_unknown_labels_neither_count_nor_pull():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[1.0, 0, float("nan"), 1], [float("nan")] * 4, [0, 0, 1, float("nan")]])
    loss = masked_loss(logits, labels, None)
    known = [(logits[r, c], labels[r, c]) for r in range(3) for c in range(4) if not labels[r, c].isnan()]
    expected = sum(-(y * p.sigmoid().log() + (1 - y) * (1 - p.sigmoid()).log()) for p, y in known) / len(known)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert (logits.grad[labels.isnan()] == 0).all() and (logits.grad[~labels.isnan()] != 0).all()


def test_no_known_label_gives_no_loss_and_no_gradient():
    logits = torch.randn(2, 3).requires_grad_()
    loss = masked_loss(logits, torch.full((2, 3), float("nan")), "regression")
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_regression_loss_is_the_mean_distance():
    assert masked_loss(torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0, 3.5]]), "regression").item() == 1.25


def test_single_labels_give_cross_entropy():
    loss = masked_loss(torch.zeros(2, 4), torch.tensor([1, 3]), "single_label_classification")
    assert loss.item() == pytest.approx(math.log(4))


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape of the logits, \(2, 3\), got \(2, 4\)"):
        masked_loss(torch.zeros(2, 3), torch.zeros(2, 4), None)


def test_an_unknown_problem_type_is_refused():
    with pytest.raises(ValueError, match="got 'ranking'"):
        masked_loss(torch.zeros(2, 3), torch.zeros(2, 3), "ranking")


def test_attention_heads_must_divide_the_width():
    with pytest.raises(Exception, match="head_num_heads must divide hidden_size=30"):
        EcgS4Config(hidden_size=30, head="attention")
