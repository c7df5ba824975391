"""The residual network against a network by hand, prefixes, and the counts of study B."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, pad

from ecg_hf.models.backbones.convolution import PaddedConv1d
from ecg_hf.models.backbones.resnet import SIZES, EcgResNetBackbone, EcgResNetConfig, EcgResNetUnit

TINY = {"hidden_size": 6, "stem_width": 3, "stage_widths": [4, 6], "stage_depths": [1, 2], "strides": [2, 2]}
# Parameters and forward GFLOP of study B's grid, of 12 leads x 4,096 samples at strides of 4.
STUDY_B = {
    "20k": ("21.7K", 0.020),
    "63k": ("60.5K", 0.043),
    "200k": ("202K", 0.132),
    "632k": ("632K", 0.389),  # these widths have 631,484
    "2m": ("2.02M", 1.18),
    "6.3m": ("6.31M", 3.60),
    "20m": ("20.1M", 8.46),
    "63m": ("63.1M", 23.6),
    "200m": ("199M", 70.2),
}


def make_backbone(seed=0, **fields):
    torch.manual_seed(seed)
    backbone = EcgResNetBackbone(EcgResNetConfig(**{**TINY, "kernel_size": 5, **fields})).eval()
    with torch.no_grad():  # norms that do something
        for norm in (m for m in backbone.modules() if isinstance(m, nn.BatchNorm1d)):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    return backbone


def slow_convolution(signal, weight, stride, first_tap):
    """Output m is the sum over taps t of weight[t] * input[m * stride + first_tap + t]; signal is (channels, N)."""
    length = signal.shape[1]
    result = torch.zeros(len(weight), math.ceil(length / stride), dtype=signal.dtype)
    for m in range(result.shape[1]):
        for tap in range(weight.shape[2]):
            at = m * stride + first_tap + tap
            if 0 <= at < length:
                result[:, m] += weight[:, :, tap] @ signal[:, at]
    return result


def slow_norm(signal, norm):
    scaled = (signal - norm.running_mean[:, None]) / (norm.running_var[:, None] + 1e-5).sqrt()
    return norm.weight[:, None] * scaled + norm.bias[:, None]


def slow_pool(signal, stride):
    """The maximum of each `stride` values; of fewer at the end."""
    return torch.stack([signal[:, at : at + stride].amax(1) for at in range(0, signal.shape[1], stride)], 1)


def first_tap(kernel_size, stride, causal):
    return -(kernel_size - stride) if causal else -((kernel_size - stride) // 2)


def slow_network(backbone, signal):
    """Every unit's tokens, skip path and branch for one crop (L, T), in evaluation."""
    config, causal = backbone.config, backbone.config.causal
    conv = backbone.stem.conv
    tokens = slow_convolution(signal, conv.weight, 1, first_tap(config.kernel_size, 1, causal))
    tokens = slow_norm(tokens, backbone.stem.norm).clamp(min=0)
    strides = [s if i == 0 else 1 for s, d in zip(config.strides, config.stage_depths, strict=True) for i in range(d)]
    found, skip = [(tokens, tokens, tokens)], tokens
    for unit, stride in zip(backbone.layers, strides, strict=True):
        branch = slow_convolution(tokens, unit.conv1.weight, 1, first_tap(config.kernel_size, 1, causal))
        branch = slow_norm(branch, unit.norm1).clamp(min=0)
        branch = slow_convolution(branch, unit.conv2.weight, stride, first_tap(config.kernel_size, stride, causal))
        skip = slow_pool(skip, stride)
        if unit.skip_conv is not None:
            skip = unit.skip_conv.weight[:, :, 0] @ skip
        skip = skip + branch  # what is handed on, before norm and ReLU
        tokens = slow_norm(skip, unit.norm2).clamp(min=0)
        found.append((tokens, skip, branch))
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"strides": [3, 1], "kernel_size": 4},
        {"strides": [1, 4], "stage_widths": [3, 3], "hidden_size": 3, "kernel_size": 17},
    ],
)
@pytest.mark.parametrize("num_samples", [24, 29])
def test_network_equals_one_by_hand(fields, causal, num_samples):
    backbone = make_backbone(**fields, causal=causal).double()
    signal = torch.randn(2, 12, num_samples, dtype=torch.float64)
    with torch.no_grad():
        output = backbone(signal, output_hidden_states=True, output_layer_outputs=True)
        for crop in range(2):
            expected = slow_network(backbone, signal[crop])
            for state, (tokens, _, _) in zip(output.hidden_states, expected, strict=True):
                torch.testing.assert_close(state[crop], tokens.mT)
            branches = [branch for _, _, branch in expected[-backbone.num_layer_outputs :]]
            for mixed, branch in zip(output.layer_outputs, branches, strict=True):
                torch.testing.assert_close(mixed[crop], branch.mT)
            torch.testing.assert_close(output.last_hidden_state[crop], expected[-1][0].mT)
            torch.testing.assert_close(output.pooler_output[crop], expected[-1][0].mean(dim=1))


@pytest.mark.parametrize(
    ("stride", "causal", "padding"),
    [
        (1, False, (8, 8)),
        (2, False, (7, 8)),
        (4, False, (6, 7)),
        (1, True, (16, 0)),
        (2, True, (15, 0)),
        (4, True, (13, 0)),
    ],
)
@pytest.mark.parametrize("missing", [0, 1])
def test_seventeen_taps_are_padded_as_same_or_on_the_left_and_to_whole_strides(stride, causal, padding, missing):
    conv = PaddedConv1d(3, 5, 17, stride=stride, causal=causal).double()
    missing = min(missing, stride - 1)
    signal = torch.randn(2, 3, 40 - missing, dtype=torch.float64)
    expected = conv1d(pad(signal, (padding[0], padding[1] + missing)), conv.weight, conv.bias, stride=stride)
    assert expected.shape[2] == 40 // stride
    assert torch.equal(conv(signal), expected)


def test_skip_path_keeps_the_maximum_of_what_a_token_covers_and_what_is_left_at_the_end():
    unit = EcgResNetUnit(EcgResNetConfig(dropout=0.0), 4, 4, 3).eval()
    nn.init.zeros_(unit.conv2.weight)
    skip = -1 - torch.rand(1, 4, 11)  # negative: zeros that fill up would win
    expected = torch.stack([skip[..., 0:3], skip[..., 3:6], skip[..., 6:9]], 2).amax(3)
    expected = torch.cat([expected, skip[..., 9:].amax(2, keepdim=True)], 2)
    tokens, handed_on, mixed = unit(torch.randn(1, 4, 11), skip)
    assert torch.equal(handed_on, expected) and not mixed.any()
    assert not tokens.any(), "norm and ReLU act on the tokens only"


@pytest.mark.parametrize("num_samples", [48, 50])
@pytest.mark.parametrize("strides", [[2, 2], [3, 1], [4, 4]])
def test_one_sample_reaches_the_token_that_covers_it_and_no_earlier_one(strides, num_samples):
    backbone = make_backbone(causal=True, strides=strides, stage_depths=[2, 1]).double()
    signal = torch.randn(num_samples, 12, num_samples, dtype=torch.float64)
    own = torch.arange(num_samples)
    spoilt, changed = signal.clone(), signal.clone()
    spoilt[own, 3, own] = math.nan  # in crop n sample n
    changed[own, 3, own] += 100
    with torch.no_grad():
        before, after, broken = (backbone(s).last_hidden_state for s in (signal, changed, spoilt))
    token = torch.arange(before.shape[1])
    earlier = token < (own // backbone.stride)[:, None]
    assert torch.equal(before[earlier], after[earlier])
    assert broken[earlier].isfinite().all()
    assert broken[own, own // backbone.stride].isnan().all()
    # The same on the tokens between stem and layers, where objectives put their masks.
    embedded = backbone.embed(signal).detach()
    embedded[own, own] = math.nan
    broken = backbone.encode(embedded).last_hidden_state
    assert broken[earlier].isfinite().all() and broken[own, own // backbone.stride].isnan().all()


def test_causal_outputs_of_a_prefix_are_those_of_the_whole():
    backbone = make_backbone(causal=True).double()
    signal = torch.randn(2, 12, 41, dtype=torch.float64)
    whole = backbone(signal).last_hidden_state
    assert whole.shape[1] == 11
    for num_tokens in range(1, 11):
        torch.testing.assert_close(backbone(signal[..., : 4 * num_tokens]).last_hidden_state, whole[:, :num_tokens])


def test_not_causal_it_sees_ahead():
    backbone = make_backbone().double()
    signal = torch.randn(1, 12, 40, dtype=torch.float64)
    signal[..., -1] = math.nan
    missing = backbone(signal).last_hidden_state.isnan().all(dim=2)[0]
    assert missing[-2] and not missing[0]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_have_the_parameters_and_flops_of_study_b(size):
    printed, gigaflops = STUDY_B[size]
    with torch.device("meta"):
        backbone = EcgResNetBackbone(EcgResNetConfig(**SIZES[size], strides=[4, 4, 4, 4]))
    count = sum(p.numel() for p in backbone.parameters())
    unit, digits = {"K": 1e3, "M": 1e6}[printed[-1]], len(printed[:-1].partition(".")[2])
    # To the last digit that is printed: at most one of it away.
    assert abs(count / unit - float(printed[:-1])) < 10**-digits
    assert backbone.forward_flops(4096) / 1e9 == pytest.approx(gigaflops, rel=3e-3, abs=6e-4)


def test_original_widths_have_6_73_million_parameters_and_leave_16_tokens_of_10_s():
    strides = [4, 4, 4, 4]
    with torch.device("meta"):
        backbone = EcgResNetBackbone(EcgResNetConfig(strides=strides))
        assert round(sum(p.numel() for p in backbone.parameters()) / 1e6, 2) == 6.73
        states = backbone(torch.empty(1, 12, 4096), output_hidden_states=True).hidden_states
    assert [state.shape[1] for state in states] == [4096, 1024, 256, 64, 16]
    assert [state.shape[2] for state in states] == [64, 128, 192, 256, 320]
    assert backbone.num_tokens(600) == 3
    assert EcgResNetBackbone(EcgResNetConfig(**SIZES["20k"])).num_tokens(600) == 38


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_samples", [600, 77])
def test_flops_equal_a_count_by_hand(num_samples, causal):
    config = EcgResNetConfig(**{**TINY, "strides": [2, 3]}, causal=causal)
    half, sixth = math.ceil(num_samples / 2), math.ceil(math.ceil(num_samples / 2) / 3)
    multiplications = num_samples * 17 * 12 * 3
    multiplications += num_samples * 17 * 3 * 4 + half * (17 * 4 * 4 + 3 * 4)
    multiplications += half * 17 * 4 * 6 + sixth * (17 * 6 * 6 + 4 * 6)
    multiplications += sixth * 2 * 17 * 6 * 6
    assert EcgResNetBackbone(config).forward_flops(num_samples) == 2 * multiplications


@pytest.mark.parametrize("causal", [False, True])
def test_any_number_of_samples_gives_as_many_tokens_as_promised(causal):
    backbone = make_backbone(strides=[3, 4], kernel_size=17, causal=causal)
    for num_samples in (*range(1, 30), 600, 601):
        tokens = backbone(torch.randn(1, 12, num_samples)).last_hidden_state
        assert tokens.shape == (1, math.ceil(num_samples / 12), 6) and tokens.isfinite().all()
        assert backbone.num_tokens(num_samples) == tokens.shape[1]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 2),
        ({"strides": [2, 1]}, 2),
        ({"strides": [2, 1], "stage_widths": [6, 6]}, 3),
        ({"strides": [1, 1], "stage_widths": [6, 6], "stem_width": 6}, 3),
        ({"strides": [1, 2], "stage_widths": [6, 6], "stem_width": 6}, 2),
        ({"stage_depths": [3, 1]}, 1),
    ],
)
def test_layer_outputs_are_those_of_the_output_s_width_and_stride(fields, expected):
    backbone = make_backbone(**fields)
    output = backbone(torch.randn(2, 12, 50), output_hidden_states=True, output_layer_outputs=True)
    shape = output.last_hidden_state.shape
    assert backbone.num_layer_outputs == len(output.layer_outputs) == expected
    assert {mixed.shape for mixed in output.layer_outputs} == {shape}
    same = [state.shape == shape for state in output.hidden_states[1:]]
    assert sum(same) == expected and all(same[-expected:])


def test_dropout_acts_before_the_second_convolution_and_after_the_last_activation():
    unit = EcgResNetUnit(EcgResNetConfig(dropout=0.25), 64, 64, 1).train()
    for norm in (unit.norm1, unit.norm2):
        nn.init.constant_(norm.bias, 9.0)  # nothing is cut off by ReLU
    nn.init.zeros_(unit.conv2.weight)
    seen = []
    unit.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tokens = torch.randn(4, 64, 100)
    for values in (unit(tokens, tokens)[0], seen[0]):
        assert 0.23 < (values == 0).float().mean() < 0.27
    assert (unit.eval()(tokens, tokens)[0] != 0).all() and (seen[1] != 0).all()


def test_checkpointing_shows_the_norms_of_units_each_batch_twice():
    backbone = make_backbone().train()
    getattr(backbone, "activation_checkpointing_enable", backbone.gradient_checkpointing_enable)()
    backbone(torch.randn(2, 12, 40)).last_hidden_state.sum().backward()
    assert backbone.layers[0].norm1.num_batches_tracked == 2
    assert backbone.stem.norm.num_batches_tracked == 1


@pytest.mark.parametrize("causal", [False, True])
def test_every_parameter_gets_a_gradient(causal):
    backbone = make_backbone(causal=causal).train()
    backbone(torch.randn(4, 12, 100)).last_hidden_state.pow(3).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fields", [{}, {"causal": True, "strides": [4, 3], "dropout": 0}])
def test_saved_backbone_loads_bit_equal_on_a_dirty_heap(tmp_path, dtype, fields):
    backbone, signal = make_backbone(**fields).to(dtype), torch.randn(2, 12, 100)
    expected = backbone(signal).last_hidden_state
    backbone.save_pretrained(tmp_path)
    for _ in range(3):
        junk = [torch.full((size,), float("nan")) for size in (8, 16, 64, 128, 768, 4096)]
        del junk
        loaded = EcgResNetBackbone.from_pretrained(tmp_path, dtype=dtype)
        assert torch.equal(loaded(signal).last_hidden_state, expected)
        assert loaded.config.to_dict()["strides"] == backbone.config.strides


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"hidden_size": 512}, r"hidden_size must be the last of stage_widths=.*320\], got 512; set it to 320"),
        ({"strides": [4, 4]}, r"one entry per stage.* and \[4, 4\]; give them the same length"),
        ({"stage_widths": [], "stage_depths": [], "strides": []}, r"one entry per stage, got \[\]"),
        ({"strides": [2, 2, 0, 2]}, r"must be at least 1, got .*\[2, 2, 0, 2\]"),
        ({"stem_width": 0}, "must be at least 1, got 0"),
        ({"strides": [2, 2, 2, 20]}, r"largest of strides=\[2, 2, 2, 20\], got 17; use a longer kernel"),
        ({"dropout": 1}, r"\[0, 1\), got 1"),
        ({"stride": 4}, "stride"),
    ],
)
def test_config_refuses_what_it_cannot_mean(fields, text):
    with pytest.raises(Exception, match=text):
        EcgResNetConfig(**fields)
