"""The convolutional backbone against slow loops, prefixes, and the study's published counts."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, pad, silu

from ecg_hf.corpora.examples import example_samples
from ecg_hf.models.backbones.cnn import SIZES, EcgCNNBackbone, EcgCNNBlock, EcgCNNConfig, SqueezeExcite, running_mean
from ecg_hf.models.backbones.convolution import PaddedConv1d

TINY = {"hidden_size": 12, "stage_widths": [4, 7, 12], "stage_depths": [1, 1, 2], "group_width": 1, "kernel_size": 4}


def make_backbone(seed=0, **fields):
    torch.manual_seed(seed)
    return EcgCNNBackbone(EcgCNNConfig(**{**TINY, **fields})).eval()


def make_block(width_in, width, seed=0, activated=False, **fields):
    torch.manual_seed(seed)
    config = EcgCNNConfig(hidden_size=width, stage_widths=[width], stage_depths=[1], **fields)
    return EcgCNNBlock(config, width_in, width, activated=activated).double().eval()


def swish(value):
    return value / (1 + math.exp(-value))


def slow_pointwise(signal, conv):
    """One number at a time: signal and result are lists of channels, each a list of tokens."""
    return [
        [
            sum(float(conv.weight[o, i, 0]) * signal[i][n] for i in range(len(signal))) + float(conv.bias[o])
            for n in range(len(signal[0]))
        ]
        for o in range(conv.out_channels)
    ]


def slow_grouped(signal, conv, first_tap):
    """Output n is the sum over taps t of weight[t] * input[n + first_tap + t], within a group of channels."""
    per_group_in = len(signal) // conv.groups
    per_group_out = conv.out_channels // conv.groups
    result = []
    for o in range(conv.out_channels):
        start, row = o // per_group_out * per_group_in, []
        for n in range(len(signal[0])):
            total = float(conv.bias[o])
            for i in range(per_group_in):
                for tap in range(conv.weight.shape[2]):
                    at = n + first_tap + tap
                    if 0 <= at < len(signal[0]):
                        total += float(conv.weight[o, i, tap]) * signal[start + i][at]
            row.append(total)
        result.append(row)
    return result


def slow_squeeze_excite(signal, module, causal):
    result = [[0.0] * len(signal[0]) for _ in signal]
    for n in range(len(signal[0])):
        until = n + 1 if causal else len(signal[0])
        mean = [[sum(row[:until]) / until] for row in signal]
        hidden = [[swish(row[0])] for row in slow_pointwise(mean, module.squeeze)]
        for channel, (gate,) in enumerate(slow_pointwise(hidden, module.excite)):
            result[channel][n] = signal[channel][n] / (1 + math.exp(-gate))
    return result


def slow_branch(signal, block, causal, first_tap):
    def activate(rows):
        return [[swish(value) for value in row] for row in rows]

    rows = signal if block.activated else activate(signal)
    rows = activate(slow_pointwise(rows, block.conv_in))
    rows = activate(slow_grouped(rows, block.conv_time, first_tap))
    return slow_squeeze_excite(slow_pointwise(rows, block.conv_out), block.squeeze_excite, causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("width_in", "width", "fields"),
    [
        (6, 6, {"group_width": 3, "kernel_size": 4}),
        (4, 6, {"group_width": 2, "kernel_size": 5}),
        (3, 6, {"group_width": 4, "kernel_size": 2, "expansion": 2.0, "activated": True}),
    ],
)
def test_block_equals_a_loop_over_every_number(width_in, width, fields, causal):
    block = make_block(width_in, width, causal=causal, **fields)
    tokens = torch.randn(2, width_in, 7, dtype=torch.float64)
    kernel_size = fields["kernel_size"]
    first_tap = -(kernel_size - 1) if causal else -((kernel_size - 1) // 2)
    with torch.no_grad():
        found, mixed = block(tokens)
        for crop in range(2):
            expected = torch.tensor(slow_branch(tokens[crop].tolist(), block, causal, first_tap), dtype=torch.float64)
            torch.testing.assert_close(mixed[crop], expected)
            expected[(width - width_in) // 2 :][:width_in] += tokens[crop]
            torch.testing.assert_close(found[crop], expected)


def test_sixteen_taps_are_padded_with_seven_zeros_before_and_eight_after_or_with_fifteen_before():
    signal = torch.randn(2, 6, 30, dtype=torch.float64)
    for causal, padding in ((False, (7, 8)), (True, (15, 0))):
        conv = PaddedConv1d(6, 8, 16, groups=2, causal=causal).double()
        expected = conv1d(pad(signal, padding), conv.weight, conv.bias, groups=2)
        assert torch.equal(conv(signal), expected)


@pytest.mark.parametrize("num_tokens", [1, 2, 19])
def test_causal_squeeze_excite_equals_the_other_one_on_each_prefix(num_tokens):
    torch.manual_seed(0)
    causal, whole = SqueezeExcite(6, causal=True).double(), SqueezeExcite(6, causal=False).double()
    whole.load_state_dict(causal.state_dict())
    values = 3 * torch.randn(2, 6, num_tokens, dtype=torch.float64)
    for n in range(num_tokens):
        torch.testing.assert_close(causal(values)[..., n], whole(values[..., : n + 1])[..., n])


def test_running_mean_of_bfloat16_does_not_stall():
    # Summed in bfloat16, ones stop at 256: the last means would be 0.03.
    mean = running_mean(torch.ones(1, 1, 8192, dtype=torch.bfloat16))
    assert mean.dtype == torch.bfloat16 and torch.equal(mean, torch.ones_like(mean))


@pytest.mark.parametrize(("width_in", "width", "below", "above"), [(4, 10, 3, 3), (4, 9, 2, 3), (4, 4, 0, 0)])
def test_skip_path_gains_as_many_zero_channels_below_as_above(width_in, width, below, above):
    block = make_block(width_in, width, group_width=1)
    nn.init.zeros_(block.conv_out.weight)
    nn.init.zeros_(block.conv_out.bias)
    tokens = torch.randn(2, width_in, 20, dtype=torch.float64)
    zeros = [torch.zeros(2, added, 20, dtype=torch.float64) for added in (below, above)]
    assert torch.equal(block(tokens)[0], torch.cat([zeros[0], tokens, zeros[1]], dim=1))


def test_trunk_is_a_convolution_then_swish_then_the_blocks():
    backbone = make_backbone(kernel_size=16)
    tokens = torch.randn(2, 40, 12)
    channels = silu(conv1d(pad(tokens.mT, (7, 8)), backbone.first_conv.weight, backbone.first_conv.bias))
    for block in backbone.layers:
        channels, _ = block(channels)
    output = backbone.encode(tokens)
    torch.testing.assert_close(output.last_hidden_state, channels.mT)
    torch.testing.assert_close(output.pooler_output, channels.mean(dim=2))
    assert [block.activated for block in backbone.layers] == [True, False, False, False]


@pytest.mark.parametrize("stem", ["conv", "linear"])
def test_one_token_reaches_no_earlier_output_and_every_later_one(stem):
    backbone, num_tokens = make_backbone(causal=True, stem=stem).double(), 24
    tokens = torch.randn(num_tokens, num_tokens, 12, dtype=torch.float64)
    own = torch.arange(num_tokens)
    spoilt, changed = tokens.clone(), tokens.clone()
    spoilt[own, own] = math.nan  # in crop n token n
    changed[own, own] += 1e-3
    with torch.no_grad():
        before, after, broken = (backbone.encode(t).last_hidden_state for t in (tokens, changed, spoilt))
    later = (own >= own[:, None])[..., None].expand(-1, -1, 12)
    assert torch.equal(before[~later], after[~later])
    assert torch.equal((before != after).any(dim=2), later[..., 0])
    assert torch.equal(broken.isnan(), later)


def test_causal_outputs_of_a_prefix_are_those_of_the_whole():
    backbone, tokens = make_backbone(causal=True).double(), torch.randn(2, 33, 12, dtype=torch.float64)
    whole = backbone.encode(tokens).last_hidden_state
    for length in (1, 2, 5, 32):
        torch.testing.assert_close(backbone.encode(tokens[:, :length]).last_hidden_state, whole[:, :length])


def test_not_causal_every_token_reaches_every_output():
    backbone = make_backbone().double()
    tokens = torch.randn(1, 20, 12, dtype=torch.float64)
    tokens[:, -1] = math.nan
    assert backbone.encode(tokens).last_hidden_state.isnan().all()


def test_study_size_has_the_published_parameters_but_for_norms_that_it_never_uses():
    config = EcgCNNConfig()
    with torch.device("meta"):
        backbone = EcgCNNBackbone(config)
    counts = {
        part: sum(backbone.get_parameter(name).numel() for name in names)
        for part, names in backbone.parameter_groups().items()
    }
    # Net1D builds a norm after its first convolution, and before each of the three of a block.
    normed, width_in = 64, 64
    for width, depth in zip(config.stage_widths, config.stage_depths, strict=True):
        for _ in range(depth):
            normed, width_in = normed + width_in + 2 * width, width
    assert 2 * normed == 36_864
    assert counts == {"stem": 808_960, "trunk": 9_678_464}
    assert sum(counts.values()) == 10_524_288 - 36_864
    assert {**config.to_dict(), **SIZES["paper-a"]} == config.to_dict()
    assert not [m for m in backbone.layers.modules() if isinstance(m, nn.BatchNorm1d)] and len(backbone.layers) == 20


def count_by_hand(config, num_samples):
    """Twice the multiplications of all convolutions, from the table of the study."""
    num_tokens, width_in = math.ceil(num_samples / 2), config.hidden_size
    pooled = num_tokens if config.causal else 1
    total = num_tokens * (3 * config.num_leads + 3 * width_in) * width_in
    total += num_tokens * width_in * config.stage_widths[0] * config.kernel_size
    width_in = config.stage_widths[0]
    for width, depth in zip(config.stage_widths, config.stage_depths, strict=True):
        for _ in range(depth):
            inner = int(width * config.expansion)
            over_time = inner * config.group_width * config.kernel_size
            total += num_tokens * (width_in * inner + over_time + inner * width)
            total += pooled * 2 * width * (width // 2)
            width_in = width
    return 2 * total


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fields", [TINY, {**TINY, "expansion": 2.0, "group_width": 2}, SIZES["2m"]])
def test_flops_equal_a_count_by_hand(fields, causal):
    config = EcgCNNConfig(**fields, causal=causal)
    for num_samples in (600, 77):
        assert EcgCNNBackbone(config).forward_flops(num_samples) == count_by_hand(config, num_samples)


def test_flops_at_600_samples_are_the_published_4_74_giga():
    with torch.device("meta"):
        assert round(EcgCNNBackbone(EcgCNNConfig()).forward_flops(600) / 1e9, 2) == 4.74


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_samples", [1, 2, 3, 16, 63, 64, 65])
def test_any_number_of_samples_gives_half_as_many_tokens_rounded_up(num_samples, causal):
    backbone = make_backbone(kernel_size=16, causal=causal)
    tokens = backbone(torch.randn(2, 12, num_samples)).last_hidden_state
    assert tokens.shape == (2, math.ceil(num_samples / 2), 12) and tokens.isfinite().all()


@pytest.mark.parametrize(("size", "expected"), [("paper-a", 8), ("20k", 4)])
def test_layer_outputs_are_the_branches_of_the_last_blocks_of_full_width(size, expected):
    backbone = EcgCNNBackbone(EcgCNNConfig(**SIZES[size])).eval()
    output = backbone(torch.randn(1, 12, 64), output_hidden_states=True, output_layer_outputs=True)
    states = output.hidden_states
    assert len(output.layer_outputs) == expected == backbone.num_layer_outputs
    assert states[-expected - 1].shape[2] < states[-expected].shape[2] == backbone.config.hidden_size
    for before, after, mixed in zip(
        states[-expected:-1], states[-expected + 1 :], output.layer_outputs[1:], strict=True
    ):
        torch.testing.assert_close(after, before + mixed)


def test_dropout_acts_after_each_activation_of_a_block_in_training_only():
    block = make_block(64, 64, dropout=0.25).train()
    seen = []
    for conv in (block.conv_in, block.conv_time, block.conv_out):
        conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tokens = torch.randn(4, 64, 100, dtype=torch.float64)
    block(tokens)
    for values in seen:
        assert 0.23 < (values == 0).double().mean() < 0.27
    torch.testing.assert_close(seen[0][seen[0] != 0], silu(tokens)[seen[0] != 0] / 0.75)
    seen.clear()
    block.eval()(tokens)
    assert len(seen) == 3 and all((values != 0).all() for values in seen)


@pytest.mark.parametrize("causal", [False, True])
def test_every_parameter_gets_a_gradient(causal):
    backbone = make_backbone(causal=causal).train()
    backbone(torch.randn(4, 12, 100)).last_hidden_state.pow(3).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fields", [{}, {"causal": True, "stem": "linear", "expansion": 2, "dropout": 0.1}])
def test_saved_backbone_loads_bit_equal_on_a_dirty_heap(tmp_path, dtype, fields):
    backbone, signal = make_backbone(**fields).to(dtype), torch.randn(2, 12, 100)
    with torch.no_grad():
        for buffer in backbone.buffers():  # nothing may come from the constructor
            buffer.mul_(1.25 if buffer.is_floating_point() else 3)
    expected = backbone(signal).last_hidden_state
    backbone.save_pretrained(tmp_path)
    for _ in range(3):
        junk = [torch.full((size,), float("nan")) for size in (8, 16, 64, 128, 768, 4096)]
        del junk
        loaded = EcgCNNBackbone.from_pretrained(tmp_path, dtype=dtype)
        assert torch.equal(loaded(signal).last_hidden_state, expected)
        assert loaded.config.stage_widths == TINY["stage_widths"] and loaded.config.stage_depths == [1, 1, 2]


def test_defaults_of_two_configs_are_not_the_same_list():
    first, second = EcgCNNConfig(), EcgCNNConfig()
    first.stage_depths[0] = 9
    assert second.stage_depths == EcgCNNConfig().stage_depths == [2, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"hidden_size": 256}, r"hidden_size must be the last of stage_widths=.*512\], got 256; set it to 512"),
        ({"stage_depths": [2, 2]}, r"one entry per stage.* and \[2, 2\]; give them the same length"),
        ({"stage_depths": [2, 2, 0, 3, 3, 4, 4]}, "depths of at least 1"),
        ({"stage_widths": [], "stage_depths": []}, r"one entry per stage.*got \[\] and \[\]"),
        ({"stage_widths": [64, 32, 512], "stage_depths": [1, 1, 1]}, r"never shrink.*got \[64, 32, 512\]; sort them"),
        ({"stage_widths": [1, 512], "stage_depths": [1, 1]}, "at least 2"),
        ({"group_width": 48}, r"group_width must divide .*\[64, 128, .*got 48; choose a common divisor"),
        ({"group_width": 0}, "got 0; choose a common divisor"),
        ({"expansion": 0.001}, r"inside the blocks, \[0, 0"),
        ({"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
        ({"stem": "convolution"}, r"stem must be one of \['conv', 'linear'\], got 'convolution'"),
        ({"dropout": 1}, r"\[0, 1\), got 1"),
        ({"stage_width": [4]}, "has no field 'stage_width'"),
    ],
)
def test_config_refuses_what_it_cannot_mean(fields, text):
    with pytest.raises(Exception, match=text):
        EcgCNNConfig(**fields)


def test_signals_and_not_positions_are_what_varies_in_the_tokens_of_a_fresh_network():
    crops = np.stack([example_samples(number)[:, ::5][:, :500] for number in range(24)]) / 200.0
    torch.manual_seed(0)
    backbone = EcgCNNBackbone(EcgCNNConfig(**SIZES["20k"])).train()  # its stem's batch norms go by the batch
    with torch.no_grad():
        tokens = backbone(torch.from_numpy(crops).float()).last_hidden_state
    scaled = (tokens - tokens.mean(dim=1, keepdim=True)) / tokens.std(dim=1, keepdim=True)
    # independent signals leave a 24th of the variance to the position
    assert scaled.mean(dim=0).square().mean() < 0.12
