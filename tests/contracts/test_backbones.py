"""What every backbone promises, asked of each that is registered."""

import re

import pytest
import torch

from ecg_hf.registry import BACKBONES, load

NAMES = sorted(BACKBONES)
UNITS = {"k": 1e3, "m": 1e6}


def make(name, size="20k", **fields):
    backbone = load(BACKBONES, name)
    torch.manual_seed(0)
    return backbone(backbone.config_class(**{**backbone.sizes[size], **fields})).eval()


def draw(num_samples=400, batch=2, seed=0):
    return torch.randn(batch, 12, num_samples, generator=torch.Generator().manual_seed(seed))


def count(name, size, **fields):
    with torch.device("meta"):
        return sum(p.numel() for p in make(name, size, **fields).parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_size_has_the_parameters_that_its_name_says(name):
    sizes = load(BACKBONES, name).sizes
    assert [size for size in sizes if size != "paper-a"] == "20k 63k 200k 632k 2m 6.3m 20m 63m 200m".split()
    for size in sizes:
        match = re.fullmatch(r"([\d.]+)([km])", size)
        if match:
            target = float(match[1]) * UNITS[match[2]]
            for causal in (False, True):
                assert abs(count(name, size, causal=causal) / target - 1) < 0.1, (size, count(name, size))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_samples", [400, 401, 517])
def test_tokens_are_as_many_and_as_wide_as_promised(name, num_samples):
    backbone = make(name)
    tokens = backbone.embed(draw(num_samples))
    output = backbone.encode(tokens, output_hidden_states=True, output_layer_outputs=True)
    config, last = backbone.config, output.last_hidden_state
    assert tokens.shape == (2, -(-num_samples // backbone.embed_stride), config.embed_size)
    assert last.shape == (2, backbone.num_tokens(num_samples), config.hidden_size)
    assert backbone.num_tokens(num_samples) == -(-num_samples // backbone.stride)
    assert backbone.stride % backbone.embed_stride == 0
    assert len(output.hidden_states) == len(backbone.layers) + 1
    assert torch.equal(output.hidden_states[0], tokens)
    assert 1 <= len(output.layer_outputs) == backbone.num_layer_outputs <= len(backbone.layers)
    for state in (*output.hidden_states[-backbone.num_layer_outputs :], *output.layer_outputs):
        assert state.shape == last.shape
    assert torch.equal(backbone(draw(num_samples)).last_hidden_state, last)
    assert torch.allclose(output.pooler_output, last.mean(dim=1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [160, 161, 240])
def test_a_causal_backbone_does_not_see_tokens_to_come(name, cut):
    backbone = make(name, causal=True)
    signal, changed = draw(), draw()
    changed[..., cut:] = 7 * draw(seed=1)[..., cut:]
    with torch.no_grad():
        before, after = backbone.embed(signal), backbone.embed(changed)
        tokens, other = backbone.encode(before), backbone.encode(after)
    same = (before == after).all(dim=2).all(dim=0)
    # The stem may look one sample ahead, and a token ends with its last sample.
    assert same[: (cut - 1) // backbone.embed_stride].all() and not same.all()
    known = int(same.sum()) * backbone.embed_stride // backbone.stride
    assert known >= 2
    difference = (tokens.last_hidden_state - other.last_hidden_state).abs()
    assert difference[:, :known].max() <= 2e-6 * tokens.last_hidden_state.abs().max()
    assert difference[:, known:].amax(dim=(0, 2)).min() > 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_that_is_not_causal_sees_tokens_to_come(name):
    backbone = make(name, causal=False)
    tokens = backbone.embed(draw())
    changed = tokens.clone()
    changed[:, -1] *= -1  # a constant would not survive a layer norm
    with torch.no_grad():
        before, after = (backbone.encode(t).last_hidden_state for t in (tokens, changed))
    assert (before - after)[:, -2].abs().max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_records_of_a_batch_do_not_meet(name):
    backbone = make(name)
    signal = draw(batch=3)
    with torch.no_grad():
        together, alone = backbone(signal).last_hidden_state[1:2], backbone(signal[1:2]).last_hidden_state
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_changes_no_gradient(name):
    gradients = []
    for checkpointing in (False, True):
        backbone = make(name, **({"dropout": 0.0})).train()
        if checkpointing:
            getattr(backbone, "activation_checkpointing_enable", backbone.gradient_checkpointing_enable)()
            assert all(layer.gradient_checkpointing for layer in backbone.layers)
        backbone(draw()).last_hidden_state.square().mean().backward()
        gradients.append({key: value.grad for key, value in backbone.named_parameters()})
    plain, checkpointed = gradients
    for key, value in plain.items():
        torch.testing.assert_close(value, checkpointed[key], msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_gives_about_the_same_tokens(name):
    backbone, signal = make(name), draw()
    with torch.no_grad():
        exact = backbone(signal).last_hidden_state
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = backbone(signal).last_hidden_state
        rounded = backbone.to(torch.bfloat16)(signal).last_hidden_state
    assert rounded.dtype == torch.bfloat16
    for other in (mixed, rounded):
        assert torch.nn.functional.cosine_similarity(exact.flatten(), other.float().flatten(), dim=0) > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_either_the_stem_s_or_the_trunk_s(name):
    backbone = make(name)
    groups = backbone.parameter_groups()
    assert groups["stem"] and groups["trunk"]
    assert sorted(groups["stem"] + groups["trunk"]) == sorted(key for key, _ in backbone.named_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_flops_grow_with_the_crop(name):
    backbone = make(name)
    assert 1.8 < backbone.forward_flops(1600) / backbone.forward_flops(800) < 2.5


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_of_another_shape_or_type_is_refused(name):
    backbone = make(name)
    with pytest.raises(ValueError, match=r"must have the shape \(B, 12, T\), got \(2, 400, 12\)"):
        backbone(draw().transpose(1, 2))
    with pytest.raises(TypeError, match=r"real numbers in the model's unit, got torch\.int64"):
        backbone(draw().long())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inductor itself uses it, torch 2.13
@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.13's compiler itself does
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("causal", [False, True])
def test_compiled_in_one_graph_it_gives_the_same(name, causal):
    backbone, signal = make(name, causal=causal, dropout=0.0), draw()
    compiled = torch.compile(backbone, fullgraph=True)
    torch.testing.assert_close(
        compiled(signal).last_hidden_state, backbone(signal).last_hidden_state, rtol=1e-3, atol=1e-4
    )
    backbone.train()
    compiled(signal).last_hidden_state.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())
