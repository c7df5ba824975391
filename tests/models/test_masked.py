import numpy as np
import pytest
import torch

from ecg_hf.models.objectives.masked import block_probability, sample_patch_blocks
from ecg_hf.models.pairs import PAIRS

CPU = torch.device("cpu")


def make(name="s4-masked", **fields):
    pair = PAIRS[name]
    torch.manual_seed(0)
    return pair(pair.config_class(**{**pair.backbone_class.sizes["20k"], **fields}))


def draw(num_samples=300, batch=3):
    return torch.randn(batch, 12, num_samples, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("share", "max_patches"), [(0.5, 8), (0.2, 3), (0.75, 1), (0.9, 8)])
def test_the_stated_share_of_patches_is_hidden_everywhere_alike(share, max_patches):
    generator = torch.Generator().manual_seed(0)
    mask = sample_patch_blocks(
        20_000,
        19,
        probability=block_probability(share, max_patches),
        max_patches=max_patches,
        device=CPU,
        generator=generator,
    )
    assert mask.float().mean(dim=0).sub(share).abs().max() < 0.02
    assert mask.float().mean().sub(share).abs() < 0.005


def test_blocks_are_what_a_slow_loop_draws():
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    mask = sample_patch_blocks(
        40, 25, probability=block_probability(0.4, 5), max_patches=5, device=CPU, generator=generators[0]
    )
    starts = torch.rand(40, 29, generator=generators[1]) < block_probability(0.4, 5)
    lengths = torch.randint(1, 6, (40, 29), generator=generators[1])
    expected = torch.zeros(40, 40, dtype=torch.bool)
    for crop, start in starts.nonzero().tolist():
        expected[crop, start : start + int(lengths[crop, start])] = True
    assert torch.equal(mask, expected[:, 4:29])


def test_a_single_patch_a_block_needs_the_share_itself():
    assert block_probability(0.3, 1) == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize("num_samples", [300, 320, 31])
def test_a_target_patch_has_mean_zero_and_deviation_one_also_if_cut_short(num_samples):
    signal = draw(num_samples) * 0.3 + 2
    target = make().objective.target(signal).numpy()
    for start in range(0, num_samples, 32):
        patch = signal[..., start : start + 32].numpy().astype(np.float64)
        mean = patch.mean(axis=(1, 2), keepdims=True)
        expected = (patch - mean) / np.sqrt(patch.var(axis=(1, 2), keepdims=True) + 1e-6)
        np.testing.assert_allclose(target[..., start : start + 32], expected, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_the_mean_squared_error_of_hidden_samples(normalize):
    pair, signal = make(normalize_patches=normalize).eval(), draw()
    objective = pair.objective
    mask = objective.draw_mask(signal)
    shown = torch.where(mask[:, None], objective.mask_values[:, None], signal)
    tokens = pair.backbone(shown).last_hidden_state
    errors = []
    target = objective.target(signal)
    for crop in range(3):
        for token in range(tokens.shape[1]):
            predicted = objective.decoder(tokens[crop, token]).view(12, 2)
            for place in range(2):
                sample = 2 * token + place
                if mask[crop, sample]:
                    errors.append((predicted[:, place] - target[crop, :, sample]).square().mean())
    torch.testing.assert_close(pair(signal).loss, torch.stack(errors).mean())


def test_hidden_samples_do_not_reach_the_prediction():
    pair, signal = make().eval(), draw()
    hidden = pair.objective.draw_mask(signal)[:, None].expand_as(signal)
    other = torch.where(hidden, torch.full_like(signal, 9.0), signal)
    seen = []
    pair.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.last_hidden_state))
    pair(signal), pair(other)
    assert torch.equal(*seen)


def test_what_stands_for_hidden_samples_learns():
    pair = make()
    pair(draw()).loss.backward()
    assert pair.objective.mask_values.grad.abs().min() > 0


def test_validation_hides_the_same_and_training_does_not():
    pair, signal = make().eval(), draw()
    assert torch.equal(pair(signal).loss, pair(signal).loss)
    pair.train()
    assert not torch.equal(pair.objective.draw_mask(signal), pair.objective.draw_mask(signal))


def test_odd_settings_are_refused():
    for fields, text in (
        ({"mask_share": 1.0}, r"mask_share must lie in \(0, 1\), got 1.0"),
        ({"mask_patch_size": 0}, "must be at least 1, got 0 and 8"),
    ):
        with pytest.raises(Exception, match=text):
            make(**fields)
