import math

import pytest
import torch

from ecg_hf import PAIRS
from ecg_hf.models.objectives import cpc
from ecg_hf.models.objectives.cpc import batch_info_nce, draw_negatives, sampled_info_nce, sequence_info_nce

NUM_TOKENS, OFFSET = 20, 3


@pytest.fixture
def context_and_tokens():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, NUM_TOKENS, 8, generator=generator, dtype=torch.float64)
    return torch.randn(4, NUM_TOKENS - OFFSET, 8, generator=generator, dtype=torch.float64), tokens


def make_pair(**fields):
    pair = PAIRS["s4-cpc"]
    return pair(pair.config_class(hidden_size=16, num_layers=1, prediction_offset=OFFSET, **fields))


def test_sampled_loss_equals_a_loop_over_positions(context_and_tokens):
    context, tokens = context_and_tokens
    negatives = draw_negatives(context, NUM_TOKENS, 5, torch.Generator().manual_seed(1))
    losses, hits = sampled_info_nce(context, tokens, negatives)
    for crop in range(4):
        for position in range(NUM_TOKENS - OFFSET):
            positive = context[crop, position] @ tokens[crop, position + OFFSET]
            others = torch.stack([context[crop, position] @ tokens[crop, n] for n in negatives[crop, position]])
            expected = -torch.log(positive.exp() / (positive.exp() + others.exp().sum()))
            assert losses[crop, position].item() == pytest.approx(expected.item(), rel=1e-5)
            assert hits[crop, position] == (positive > others.max())


def test_sequence_loss_is_the_sampled_loss_with_every_other_token_as_negative(context_and_tokens):
    context, tokens = context_and_tokens
    others = [[n for n in range(NUM_TOKENS) if n != t + OFFSET] for t in range(NUM_TOKENS - OFFSET)]
    negatives = torch.tensor(others).expand(4, -1, -1)
    ours, expected = sequence_info_nce(context, tokens), sampled_info_nce(context, tokens, negatives)
    assert torch.allclose(ours[0], expected[0], atol=1e-5)
    assert torch.equal(ours[1], expected[1])


@pytest.mark.parametrize("max_scores", [1, 3000, 2**24])
def test_batch_loss_tells_a_token_from_all_of_the_batch_whatever_the_chunk(context_and_tokens, monkeypatch, max_scores):
    monkeypatch.setattr(cpc, "MAX_SCORES", max_scores)
    context, tokens = (value.clone().requires_grad_() for value in context_and_tokens)
    losses, _ = batch_info_nce(context, tokens)
    scores = torch.einsum("btd,cnd->btcn", context, tokens)
    for crop in range(4):
        for position in range(NUM_TOKENS - OFFSET):
            row = scores[crop, position]
            expected = row.logsumexp((0, 1)) - row[crop, position + OFFSET]
            assert losses[crop, position].item() == pytest.approx(expected.item(), rel=1e-5)
    (ours,) = torch.autograd.grad(losses.sum(), tokens, retain_graph=True)
    target = scores[torch.arange(4)[:, None], torch.arange(NUM_TOKENS - OFFSET), torch.arange(4)[:, None]]
    positives = target.diagonal(OFFSET, 1, 2)
    (expected,) = torch.autograd.grad((scores.logsumexp((2, 3)) - positives).sum(), tokens)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_chance_loss_of_the_study_is_286_log_129():
    tokens = torch.zeros(2, 300, 4)
    context = torch.zeros(2, 286, 4)
    negatives = draw_negatives(context, 300, 128)
    losses, _ = sampled_info_nce(context, tokens, negatives)
    assert losses.sum(dim=1).mean().item() == pytest.approx(286 * math.log(129), rel=1e-6)
    assert round(286 * math.log(129), 1) == 1389.9


def test_negatives_are_uniform_over_all_tokens_but_the_positive():
    context = torch.zeros(1, NUM_TOKENS - OFFSET, 2)
    drawn = draw_negatives(context, NUM_TOKENS, 20_000, torch.Generator().manual_seed(0))
    for position in range(NUM_TOKENS - OFFSET):
        counts = drawn[0, position].bincount(minlength=NUM_TOKENS)
        assert counts[position + OFFSET] == 0
        others = counts[torch.arange(NUM_TOKENS) != position + OFFSET] / 20_000
        assert (others - 1 / (NUM_TOKENS - 1)).abs().max() < 0.008


def test_the_loss_vanishes_when_every_token_is_predicted_and_unlike_the_others():
    tokens = 10 * torch.eye(NUM_TOKENS).expand(2, -1, -1)
    losses, hits = sequence_info_nce(tokens[:, OFFSET:], tokens)
    assert losses.max() < 1e-6 and hits.all()


@pytest.mark.parametrize("negatives", cpc.NEGATIVES)
def test_sum_reduction_is_the_mean_times_the_number_of_positions(negatives):
    signal = torch.randn(3, 12, 2 * NUM_TOKENS, generator=torch.Generator().manual_seed(0))
    mean = make_pair(negatives=negatives).eval()
    total = make_pair(negatives=negatives, loss_reduction="sum").eval()
    total.load_state_dict(mean.state_dict())
    assert total(signal).loss.item() == pytest.approx((NUM_TOKENS - OFFSET) * mean(signal).loss.item(), rel=1e-5)


def test_the_stem_learns_from_positives_and_negatives(context_and_tokens):
    context, tokens = context_and_tokens
    tokens = tokens.clone().requires_grad_()
    losses, _ = sequence_info_nce(context, tokens)
    losses[:, 0].sum().backward()
    assert (tokens.grad.abs().sum(dim=2) > 0).all()


def test_evaluation_draws_the_same_negatives_every_time_and_leaves_the_global_generator_alone():
    pair, signal = make_pair(num_negatives=4).eval(), torch.randn(2, 12, 64)
    state = torch.get_rng_state()
    assert torch.equal(pair(signal).loss, pair(signal).loss)
    assert torch.equal(torch.get_rng_state(), state)


def test_cpc_refuses_a_backbone_that_sees_the_future():
    with pytest.raises(ValueError, match="set causal=True"):
        make_pair(causal=False)


def test_cpc_refuses_a_crop_shorter_than_its_offset():
    with pytest.raises(ValueError, match="more than 3 tokens, got 3"):
        make_pair()(torch.randn(1, 12, 6))


@pytest.mark.parametrize(
    "fields, message",
    [({"negatives": "none"}, "negatives must be one of"), ({"loss_reduction": "max"}, "loss_reduction must be")],
)
def test_cpc_config_refuses_an_unknown_choice(fields, message):
    with pytest.raises(Exception, match=message):
        make_pair(**fields)
