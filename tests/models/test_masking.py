import pytest
import torch

from ecg_hf.models.objectives.masking import (
    SpanFields,
    draw_spans,
    evaluation_generator,
    expand_mask,
    masked_mean,
    replace_tokens,
    sample_spans,
    start_probability,
)

CPU = torch.device("cpu")
# 150 tokens of two samples give 10 output tokens of 16, of which the last covers only 6, or 4, or all.
REDUCED = [(10, 145, 16), (10, 150, 16), (10, 160, 16), (7, 7, 1), (1, 3, 5)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spans(num_crops, num_tokens, probability, span, seed=0):
    return sample_spans(
        num_crops, num_tokens, probability=probability, span=span, device=CPU, generator=generator(seed)
    )


@pytest.mark.parametrize("num_tokens, span", [(30, 4), (5, 10), (7, 1)])
def test_spans_equal_a_loop_over_their_starts(num_tokens, span):
    mask = spans(20, num_tokens, 0.1, span)
    starts = torch.rand(20, num_tokens + span - 1, generator=generator()) < 0.1
    expected = torch.zeros(20, num_tokens, dtype=torch.bool)
    for crop, shifted in starts.nonzero().tolist():
        for token in range(shifted - span + 1, shifted + 1):
            if 0 <= token < num_tokens:
                expected[crop, token] = True
    assert torch.equal(mask, expected) and mask.any() and not mask.all()


@pytest.mark.parametrize("fraction, span", [(0.05, 10), (0.49, 10), (0.65, 1), (0.8, 25)])
def test_every_token_is_masked_equally_often_and_as_often_as_asked(fraction, span):
    mask = spans(20_000, 40, start_probability(fraction, span), span).float()
    # Five standard deviations of a binomial share.
    assert (mask.mean(dim=0) - fraction).abs().max() < 5 * (fraction * (1 - fraction) / 20_000) ** 0.5


def test_a_start_is_as_likely_as_the_closed_form_of_its_fraction_says():
    assert start_probability(1 - (1 - 0.0065) ** 10, 10) == pytest.approx(0.0065, rel=1e-12)
    assert start_probability(0.3, 1) == pytest.approx(0.3)


def test_the_study_s_setting_masks_six_percent_and_leaves_an_eighth_of_the_crops_whole():
    mask = spans(20_000, 300, 0.0065, 10)
    assert mask.float().mean().item() == pytest.approx(0.062, abs=0.002)
    empty = 1 - mask.any(dim=1).float().mean().item()
    assert empty == pytest.approx((1 - 0.0065) ** 309, abs=0.01)


def test_a_span_is_cut_by_the_ends_of_a_crop_only():
    for row in spans(200, 60, 0.02, 8).tolist():
        inner = "".join("x" if masked else " " for masked in row).strip("x").split()
        assert all(len(run) >= 8 for run in inner), row


def test_equal_generators_give_equal_masks_and_others_do_not():
    assert torch.equal(spans(4, 50, 0.1, 5), spans(4, 50, 0.1, 5))
    assert not torch.equal(spans(4, 50, 0.1, 5), spans(4, 50, 0.1, 5, seed=1))


def test_a_config_s_mask_repeats_in_evaluation_and_leaves_the_global_generator_alone():
    config, tokens = SpanFields(mask_fraction=0.3, mask_span=5), torch.zeros(64, 90, 3)
    state = torch.get_rng_state()
    mask = draw_spans(config, tokens, training=False)
    assert torch.equal(mask, draw_spans(config, tokens, training=False))
    assert torch.equal(torch.get_rng_state(), state)
    assert mask.shape == (64, 90) and mask.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert not torch.equal(draw_spans(config, tokens, training=True), draw_spans(config, tokens, training=True))


def test_training_draws_from_the_default_generator():
    assert evaluation_generator(True, CPU) is None
    torch.manual_seed(3)
    first = sample_spans(4, 50, probability=0.1, span=5, device=CPU)
    torch.manual_seed(3)
    assert torch.equal(first, sample_spans(4, 50, probability=0.1, span=5, device=CPU))


@pytest.mark.parametrize("num_tokens, num_embedded, reduction", REDUCED)
def test_a_stretched_mask_hides_just_what_an_output_token_covers(num_tokens, num_embedded, reduction):
    mask = torch.rand(3, num_tokens, generator=generator()) < 0.5
    stretched = expand_mask(mask, num_embedded, reduction)
    assert stretched.shape == (3, num_embedded)
    for crop in range(3):
        for token in range(num_embedded):
            assert stretched[crop, token] == mask[crop, token // reduction]


@pytest.mark.parametrize("num_tokens, num_embedded, reduction", REDUCED)
def test_replaced_tokens_equal_a_loop(num_tokens, num_embedded, reduction):
    mask = torch.rand(3, num_tokens, generator=generator()) < 0.5
    tokens, learned = torch.randn(3, num_embedded, 4), torch.randn(4)
    replaced = replace_tokens(tokens, mask, learned, reduction)
    for crop in range(3):
        for token in range(num_embedded):
            expected = learned if mask[crop, token // reduction] else tokens[crop, token]
            assert torch.equal(replaced[crop, token], expected)


def test_replaced_tokens_keep_their_precision():
    tokens = torch.zeros(1, 4, 2, dtype=torch.bfloat16)
    assert replace_tokens(tokens, torch.tensor([[True, False, True, True]]), torch.ones(2)).dtype == torch.bfloat16


def test_a_masked_mean_equals_a_loop():
    values = torch.randn(3, 8, dtype=torch.float64, generator=generator())
    mask = torch.rand(3, 8, generator=generator(1)) < 0.4
    chosen = [values[crop, token].item() for crop in range(3) for token in range(8) if mask[crop, token]]
    assert masked_mean(values, mask).item() == pytest.approx(sum(chosen) / len(chosen))


def test_a_masked_mean_over_nothing_is_zero_with_a_zero_gradient():
    values = torch.randn(2, 5, requires_grad=True)
    mean = masked_mean(values, torch.zeros(2, 5, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0 and torch.equal(values.grad, torch.zeros(2, 5))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"mask_fraction": 0}, r"mask_fraction must lie in \(0, 1\), got 0"),
        ({"mask_fraction": 1.0}, r"mask_fraction must lie in \(0, 1\), got 1.0"),
        ({"mask_span": 0}, "mask_span must be at least 1, got 0"),
    ],
)
def test_a_mask_of_nothing_or_of_everything_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SpanFields(**fields).validate_mask()
