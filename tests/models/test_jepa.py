import numpy as np
import pytest
import torch

from ecg_hf import PAIRS
from ecg_hf.models.objectives.jepa import JEPAFields, sample_blocks

CPU = torch.device("cpu")
STUDY = {"min_block_tokens": 64, "context_fallback": True, "target_norm": "token"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_pair(name="s4-jepa", **fields):
    torch.manual_seed(0)
    pair = PAIRS[name]
    return pair(pair.config_class(**{**pair.backbone_class.sizes["20k"], **fields}))


def draw(num_samples=300, batch=2, seed=0):
    return torch.randn(batch, 12, num_samples, generator=generator(seed))


def loop_over_blocks(num_crops, num_tokens, fields, seed=0):
    """The same draws, put together crop by crop: the target blocks (start, size) and the context of each."""
    random, least = generator(seed), fields.min_block_tokens

    def size(scale):
        share = torch.empty(()).uniform_(*map(float, scale), generator=random).item()
        return min(num_tokens, max(least, int(np.float32(share) * np.float32(num_tokens))))

    target_size = size(fields.target_scale)
    target_draws = torch.rand(num_crops, fields.num_target_blocks, 1, generator=random)
    context_size = size(fields.context_scale)
    context_draws = torch.rand(num_crops, 1, 1, generator=random)
    order = torch.rand(num_crops, num_tokens, generator=random)
    blocks, contexts = [], []
    for crop in range(num_crops):
        starts = [int(value * (num_tokens - target_size + 1)) for value in target_draws[crop, :, 0]]
        targets = {token for start in starts for token in range(start, start + target_size)}
        begin = int(context_draws[crop, 0, 0] * (num_tokens - context_size + 1))
        context = set(range(begin, begin + context_size)) - targets
        if fields.context_fallback and len(context) < least:
            context = set(sorted(range(num_tokens), key=lambda token: order[crop, token])[:least])
        blocks.append([(start, target_size) for start in starts])
        contexts.append(context)
    return blocks, contexts


@pytest.mark.parametrize(
    "num_tokens, fields",
    [
        (300, {}),
        (300, STUDY),
        (25, {}),
        (25, {"min_block_tokens": 7, "context_fallback": True}),
        (6, {"num_target_blocks": 2}),
        (9, {"target_scale": [1, 1], "num_target_blocks": 1}),
    ],
)
def test_masks_equal_a_loop_over_crops_and_blocks(num_tokens, fields):
    fields = JEPAFields(**fields)
    for seed in range(5):
        weights, context = sample_blocks(20, num_tokens, fields, CPU, generator(seed))
        blocks, contexts = loop_over_blocks(20, num_tokens, fields, seed)
        for crop in range(20):
            for token in range(num_tokens):
                covers = sum(start <= token < start + size for start, size in blocks[crop])
                assert weights[crop, token] == covers
                assert context[crop, token] == (token in contexts[crop])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "name, fields", [("s4-jepa", {}), ("s4-jepa", STUDY), ("resnet-jepa", {"num_target_blocks": 6})]
)
def test_the_loss_equals_a_loop_over_blocks_and_positions(name, fields, batch):
    pair = make_pair(name, **fields).eval()
    signal = draw(300 if name == "s4-jepa" else 1000, batch)
    num_tokens = pair.backbone.num_tokens(signal.shape[-1])
    blocks, contexts = loop_over_blocks(batch, num_tokens, pair.config)
    hidden = torch.tensor([[token not in context for token in range(num_tokens)] for context in contexts])
    with torch.no_grad():
        tokens = pair.objective.encode_masked(pair.backbone, signal, hidden)
        predictions = pair.objective.predictor(tokens).double()
        targets = pair.objective.teacher.backbone(signal).last_hidden_state.double()
    over = {"token": 2, "time": 1}[pair.config.target_norm]
    centred = targets - targets.mean(dim=over, keepdim=True)
    targets = centred / (targets.var(dim=over, correction=0, keepdim=True) + 1e-5).sqrt()
    losses = []
    for crop in range(batch):
        for start, size in blocks[crop]:
            for token in range(start, start + size):
                error = (predictions[crop, token] - targets[crop, token]).abs()
                losses.append(torch.where(error < 1, error.square() / 2, error - 0.5).mean().item())
    output = pair(signal)
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert output.metrics["mask_fraction"].item() == pytest.approx(hidden.float().mean().item())


def expected_shares(num_tokens, target_size, context_sizes):
    """The shares of tokens that are targets and that are context, from how many starts reach a token."""
    token = np.arange(num_tokens)

    def reached(size):
        last = num_tokens - size
        return (np.minimum(token, last) - np.maximum(token - size + 1, 0) + 1) / (last + 1)

    free = (1 - reached(target_size)) ** 4
    return 1 - free.mean(), np.mean([(free * reached(size)).mean() for size in context_sizes])


def test_shares_of_targets_and_context_are_those_of_the_closed_form():
    fields = JEPAFields(min_block_tokens=64)
    masks = [sample_blocks(100, 300, fields, CPU, generator(seed)) for seed in range(300)]
    union = np.mean([(weights > 0).float().mean() for weights, _ in masks])
    context = np.mean([context.float().mean() for _, context in masks])
    expected = expected_shares(300, 64, range(255, 300))
    assert (union, context) == pytest.approx(expected, abs=0.004)
    assert expected == pytest.approx((0.589, 0.347), abs=0.001)


def test_the_study_s_shares_are_those_of_the_sizes_that_its_first_batches_draw():
    # The reference seeds the sizes with the number of the iteration; over its first batches they are small.
    union, context, fallback = [], [], []
    for iteration in range(16):
        _, share = torch.rand(2, generator=generator(iteration)).tolist()
        scale = [0.85 + 0.15 * share] * 2
        for reference in (True, False):
            fields = JEPAFields(context_scale=scale, min_block_tokens=64, context_fallback=reference)
            weights, seen = sample_blocks(500, 300, fields, CPU, generator(iteration))
            union.append((weights > 0).float().mean())
            if reference:
                context.append(seen.float().mean())
            else:
                fallback.append((seen.sum(dim=1) < 64).float().mean())
    assert np.mean(union) == pytest.approx(0.589, abs=0.01)
    assert np.mean(context) == pytest.approx(0.333, abs=0.01)
    assert np.mean(fallback) == pytest.approx(0.126, abs=0.01)


@pytest.mark.parametrize("num_tokens, fields", [(300, {"min_block_tokens": 64}), (25, {}), (6, {}), (300, {})])
def test_context_and_targets_never_meet(num_tokens, fields):
    for seed in range(20):
        weights, context = sample_blocks(50, num_tokens, JEPAFields(**fields), CPU, generator(seed))
        assert not (context & (weights > 0)).any()
        assert (weights.sum(dim=1) == weights[0].sum()).all() and weights.max() <= 4


@pytest.mark.parametrize("num_tokens", [6, 7, 25, 300])
def test_at_the_default_scales_every_crop_keeps_some_context(num_tokens):
    masks = [sample_blocks(200, num_tokens, JEPAFields(), CPU, generator(seed)) for seed in range(50)]
    assert all(context.any(dim=1).all() for _, context in masks)


def test_the_fallback_leaves_no_crop_with_less_context_than_asked():
    masks = [sample_blocks(50, 300, JEPAFields(**STUDY), CPU, generator(seed)) for seed in range(20)]
    assert min(int(context.sum(dim=1).min()) for _, context in masks) == 64
    # The random tokens may be targets: the leak that study A has.
    assert any((context & (weights > 0)).any() for weights, context in masks)


def test_a_block_may_start_anywhere_up_to_the_last_place_where_it_fits():
    fields = JEPAFields(num_target_blocks=1, target_scale=[0.5, 0.5])
    weights, _ = sample_blocks(20_000, 10, fields, CPU, generator())
    starts = weights.argmax(dim=1).bincount(minlength=10) / 20_000
    assert (starts[:6] - 1 / 6).abs().max() < 0.02 and starts[6:].sum() == 0


def test_a_batch_shares_its_sizes_and_batches_differ():
    sizes = set()
    for seed in range(20):
        weights, _ = sample_blocks(8, 300, JEPAFields(num_target_blocks=1), CPU, generator(seed))
        assert len(weights.sum(dim=1).unique()) == 1
        sizes.add(int(weights[0].sum()))
    assert len(sizes) > 5 and min(sizes) >= 45 and max(sizes) <= 60


def test_equal_generators_give_equal_masks_and_evaluation_repeats_its_own():
    first, second = (sample_blocks(4, 90, JEPAFields(), CPU, generator(7)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    pair = make_pair().eval()
    state = torch.get_rng_state()
    assert torch.equal(pair(draw()).loss, pair(draw()).loss)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_repeats_its_masks_after_the_same_seed_only():
    pair = make_pair(dropout=0.0, predictor_dropout=0.0).train()
    losses = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        losses.append(pair(draw()).loss)
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("predictor", ["s4", "linear"])
def test_gradients_reach_student_predictor_and_mask_token(predictor):
    pair = make_pair(predictor=predictor).train()
    pair(draw()).loss.backward()
    still = [key for key, value in pair.named_parameters() if value.requires_grad and not value.grad.any()]
    assert still == []


def test_a_config_keeps_its_scales_through_a_file(tmp_path):
    config = PAIRS["s4-jepa"].config_class(target_scale=[0.1, 0.3])
    config.save_pretrained(tmp_path)
    loaded = type(config).from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict() and loaded.target_scale == [0.1, 0.3]
    assert PAIRS["s4-jepa"].config_class(target_scale=(0.1, 0.3)).target_scale == (0.1, 0.3)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"target_scale": [0.2, 0.1]}, r"target_scale must be two fractions .* got \[0.2, 0.1\]"),
        ({"target_scale": [0.2]}, r"target_scale must be two fractions .* got \[0.2\]"),
        ({"context_scale": [0.0, 1.0]}, r"context_scale must be two fractions .* got \[0.0, 1.0\]"),
        ({"context_scale": [0.5, 1.5]}, "0 < low <= high <= 1"),
        ({"num_target_blocks": 0}, "must be at least 1, got 0 and 1"),
        ({"min_block_tokens": 0}, "must be at least 1, got 4 and 0"),
    ],
)
def test_jepa_config_refuses_what_is_out_of_range(fields, message):
    with pytest.raises(Exception, match=message):
        make_pair(**fields)


def test_jepa_refuses_a_crop_that_one_block_fills():
    with pytest.raises(ValueError, match="more tokens in a crop than min_block_tokens=64, got 64; use longer crops"):
        make_pair(min_block_tokens=64)(draw(128))
