"""The transformer backbone against slow loops, closed forms and the counts of both studies."""

import cmath
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ecg_hf import CLASSIFIERS, PAIRS
from ecg_hf.models.backbones.stem import ConvStem, LinearStem, PatchStem, make_stem
from ecg_hf.models.backbones.transformer import (
    SIZES,
    EcgTransformerBackbone,
    EcgTransformerConfig,
    position_angles,
    rotate,
    sinusoids,
)

TINY = {"hidden_size": 24, "num_layers": 2, "num_attention_heads": 3, "stem": "patch", "patch_size": 16}
# Study B's table for crops of 4096 samples, as it is printed: parameters, in thousands or millions, and GFLOPs.
STUDY_B = {
    "20k": ("19.3", "0.009"),
    "63k": ("63.2", "0.024"),
    "200k": ("199", "0.066"),
    "632k": ("652", "0.201"),
    "2m": ("2.01", "0.576"),
    "6.3m": ("6.42", "1.77"),
    "20m": ("19.7", "5.32"),
    "63m": ("64.0", "17.0"),
    "200m": ("202", "52.7"),
}


def make_backbone(implementation="sdpa", **fields):
    torch.manual_seed(0)
    config = EcgTransformerConfig(**{**TINY, **fields}, attn_implementation=implementation)
    backbone = EcgTransformerBackbone(config).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():  # a bias of zero or a gain of one would hide where it belongs
            parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def make_empty(size):
    with torch.device("meta"):
        return EcgTransformerBackbone(EcgTransformerConfig(**SIZES[size]))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def round_like(value, text):
    return f"{value:.{len(text.partition('.')[2])}f}"


def normalise(vector, norm):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def turn(vector, position):
    """Turns the complex numbers whose real and imaginary parts are the halves of a vector."""
    half = len(vector) // 2
    turned = [
        complex(vector[i], vector[half + i]) * cmath.exp(1j * position * 10000 ** (-2 * i / len(vector)))
        for i in range(half)
    ]
    return torch.tensor([z.real for z in turned] + [z.imag for z in turned], dtype=torch.float64)


def attend_slowly(attention, tokens, causal, rotary):
    """Attention of one crop (N, D), head by head and token by token."""
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    query, key, value = (tokens @ p.weight.T + p.bias for p in projections)
    gathered = torch.zeros_like(tokens)
    for head in range(3):
        part = slice(8 * head, 8 * head + 8)
        for n in range(len(tokens)):
            seen = range(n + 1 if causal else len(tokens))
            place = turn if rotary else lambda vector, _: vector
            scores = [place(query[n, part], n) @ place(key[m, part], m) / math.sqrt(8) for m in seen]
            exponentials = [math.exp(score) for score in scores]
            for m in seen:
                gathered[n, part] += exponentials[m] / sum(exponentials) * value[m, part]
    return gathered @ attention.out_proj.weight.T + attention.out_proj.bias


def apply_slowly(layer, tokens, causal, rotary):
    normed = torch.stack([normalise(token, layer.attention_norm) for token in tokens])
    tokens = tokens + attend_slowly(layer.attention, normed, causal, rotary)
    normed = torch.stack([normalise(token, layer.mlp_norm) for token in tokens])
    hidden = normed @ layer.mlp_in.weight.T + layer.mlp_in.bias
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    mixed = hidden @ layer.mlp_out.weight.T + layer.mlp_out.bias
    return tokens + mixed, mixed


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_encoder_is_what_a_slow_loop_over_heads_and_tokens_gives(positions, causal, implementation):
    backbone = make_backbone(implementation, positions=positions, causal=causal).double()
    tokens = draw(2, 11, 24).double()
    with torch.no_grad():
        output = backbone.encode(tokens, output_hidden_states=True, output_layer_outputs=True)
        for crop in range(2):
            state = tokens[crop]
            if positions == "sinusoidal":
                state = state + sinusoids(position_angles(11, 12, 10000.0)).double()
            for index, layer in enumerate(backbone.layers):
                state, mixed = apply_slowly(layer, state, causal, positions == "rotary")
                torch.testing.assert_close(output.hidden_states[index + 1][crop], state, rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(output.layer_outputs[index][crop], mixed, rtol=1e-5, atol=1e-5)
            last = torch.stack([normalise(token, backbone.norm) for token in state])
            torch.testing.assert_close(output.last_hidden_state[crop], last, rtol=1e-5, atol=1e-5)


def test_scores_of_rotary_positions_depend_on_distance_alone():
    angles = position_angles(200, 8, 10000.0).double()
    query, key = draw(2, 1, 16).double()
    scores = rotate(query.expand(200, 16), angles) @ rotate(key.expand(200, 16), angles).T
    for distance in (-150, -7, 0, 1, 60):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-4)
    assert scores[0].std() > 0.1
    assert torch.equal(rotate(query, angles[:1]), query)


def test_sinusoidal_positions_are_sines_and_cosines_in_turn():
    waves = sinusoids(position_angles(300, 8, 10000.0))
    for n in (0, 1, 17, 299):
        for i in range(8):
            angle = n / 10000 ** (2 * i / 16)
            assert abs(waves[n, 2 * i] - math.sin(angle)) < 1e-4
            assert abs(waves[n, 2 * i + 1] - math.cos(angle)) < 1e-4


def test_a_token_that_stands_for_another_has_its_position_too():
    backbone = make_backbone(positions="sinusoidal")
    output = backbone.encode(torch.ones(1, 20, 24)).last_hidden_state
    assert (output[0, 1:] - output[0, :-1]).abs().amax(dim=1).min() > 1e-2


def test_rope_theta_sets_the_longest_wave():
    short, long = position_angles(2, 4, 100.0), position_angles(2, 4, 10000.0)
    torch.testing.assert_close(short[1], torch.tensor([1, 100**-0.25, 100**-0.5, 100**-0.75]))
    torch.testing.assert_close(long[1], torch.tensor([1, 0.1, 0.01, 0.001]))
    tokens = draw(1, 20, 24)
    for positions in ("rotary", "sinusoidal"):
        outputs = [
            make_backbone(positions=positions, rope_theta=theta).encode(tokens).last_hidden_state
            for theta in (100, 10000)
        ]
        assert (outputs[0] - outputs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("num_tokens", [1, 2, 37])
def test_causal_attention_is_that_under_a_lower_triangular_mask_in_every_implementation(num_tokens):
    tokens = draw(2, num_tokens, 24)
    masks = {True: torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril(), False: None}
    for causal, mask in masks.items():
        eager, sdpa = (make_backbone(kind, causal=causal).layers[0].attention for kind in ("eager", "sdpa"))
        angles = position_angles(num_tokens, 4, 10000.0)
        split = (p(tokens).view(2, num_tokens, 3, 8).transpose(1, 2) for p in (sdpa.q_proj, sdpa.k_proj, sdpa.v_proj))
        query, key, value = split
        turned = rotate(query, angles), rotate(key, angles)
        gathered = nn.functional.scaled_dot_product_attention(*turned, value, attn_mask=mask)
        expected = sdpa.out_proj(gathered.transpose(1, 2).reshape(2, num_tokens, 24))
        for attention in (eager, sdpa):
            torch.testing.assert_close(attention(tokens), expected, rtol=1e-5, atol=1e-6)


def test_attention_goes_through_the_interface_of_transformers(monkeypatch):
    seen, real = [], ALL_ATTENTION_FUNCTIONS["sdpa"]

    def spy(module, *args, **kwargs):
        seen.append((module.is_causal, kwargs["dropout"]))
        return real(module, *args, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", spy)
    backbone, signal = make_backbone(causal=True, dropout=0.25), draw(1, 12, 320)
    expected = backbone(signal).last_hidden_state
    assert seen == [(True, 0.0)] * 2
    backbone.train()(signal)
    assert seen[2:] == [(True, 0.25)] * 2
    backbone.eval().set_attn_implementation("eager")
    torch.testing.assert_close(backbone(signal).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    assert len(seen) == 4


@pytest.mark.parametrize("kind", [PAIRS["transformer-cpc"], CLASSIFIERS["transformer"]])
def test_a_model_on_the_backbone_attends_as_the_backbone_can(kind, tmp_path):
    model = kind(kind.config_class(**SIZES["20k"]))
    assert model.backbone.config._attn_implementation == "sdpa"
    model.save_pretrained(tmp_path)
    for implementation in ("eager", "sdpa"):
        loaded = kind.from_pretrained(tmp_path, attn_implementation=implementation)
        assert loaded.backbone.layers[0].attention.config._attn_implementation == implementation


def test_the_size_of_study_a_has_its_parameters_and_flops():
    backbone = make_empty("paper-a")
    assert sum(p.numel() for p in backbone.parameters()) == 19_724_288
    assert sum(p.numel() for p in backbone.stem.parameters()) == 808_960
    assert {sum(p.numel() for p in layer.parameters()) for layer in backbone.layers} == {3_152_384}
    assert round_like(backbone.forward_flops(600) / 1e9, "12.91") == "12.91"
    default = EcgTransformerConfig()
    assert all(getattr(default, field) == value for field, value in SIZES["paper-a"].items())


@pytest.mark.parametrize("size", STUDY_B)
def test_a_size_of_study_b_has_its_parameters_and_flops(size):
    backbone = make_empty(size)
    num_parameters = sum(p.numel() for p in backbone.parameters()) / (1e3 if size.endswith("k") else 1e6)
    parameters, flops = STUDY_B[size]
    assert round_like(num_parameters, parameters) == parameters
    assert round_like(backbone.forward_flops(4096) / 1e9, flops) == flops


@pytest.mark.parametrize("size", STUDY_B)
def test_every_size_takes_rotary_positions(size):
    config = EcgTransformerConfig(**{**SIZES[size], "positions": "rotary"})
    assert 16 <= config.hidden_size // config.num_attention_heads <= 82


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("causal", [False, True])
def test_flops_are_those_of_a_hand_count(implementation, causal):
    backbone = make_backbone(implementation, causal=causal, mlp_ratio=3)
    num_tokens, width = 7, 24
    stem = num_tokens * 12 * 16 * width
    linear = num_tokens * (4 * width**2 + 2 * 3 * width**2)
    attention = 2 * num_tokens**2 * width  # scores and averages; a causal mask is not counted as a saving
    assert backbone.forward_flops(100) == 2 * (stem + 2 * (linear + attention))


@pytest.mark.parametrize("num_samples", [96, 100, 127, 128, 129, 5])
def test_patch_stem_is_one_linear_map_of_each_patch_with_zeros_at_the_end(num_samples):
    stem, signal = PatchStem(num_leads=3, hidden_size=10, patch_size=32), draw(2, 3, num_samples)
    tokens = stem(signal)
    assert tokens.shape == (2, math.ceil(num_samples / 32), 10)
    padded = torch.cat((signal, torch.zeros(2, 3, 32)), dim=2)
    for n in range(tokens.shape[1]):
        patch = padded[:, :, 32 * n : 32 * n + 32].reshape(2, 96)
        torch.testing.assert_close(tokens[:, n], patch @ stem.linear.weight.T + stem.linear.bias)
    conv = nn.functional.conv1d(
        padded[:, :, : 32 * tokens.shape[1]], stem.linear.weight.view(10, 3, 32), stem.linear.bias, stride=32
    )
    torch.testing.assert_close(tokens, conv.transpose(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind", "stride"), [("conv", ConvStem, 2), ("linear", LinearStem, 1), ("patch", PatchStem, 16)]
)
def test_every_stem_serves_the_backbone(name, kind, stride):
    assert type(make_stem(name, 12, 24, 16)) is kind
    backbone = make_backbone(stem=name)
    assert type(backbone.stem) is kind and backbone.embed_stride == backbone.stride == stride
    output = backbone(draw(2, 12, 67))
    assert output.last_hidden_state.shape == (2, backbone.num_tokens(67), 24)
    assert output.last_hidden_state.isfinite().all()


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
def test_evaluation_is_deterministic_and_training_is_not(positions):
    backbone, signal = make_backbone(positions=positions), draw(2, 12, 320)
    assert torch.equal(backbone(signal).last_hidden_state, backbone(signal).last_hidden_state)
    backbone.train()
    assert not torch.equal(backbone(signal).last_hidden_state, backbone(signal).last_hidden_state)


def test_dropout_falls_on_positions_and_hidden_values_and_on_what_each_block_adds():
    backbone = make_backbone(dropout=0.5, positions="sinusoidal", hidden_size=48).train()
    layer, seen, tokens = backbone.layers[0], {}, 3 + draw(8, 30, 48)
    for name, module in layer.named_children():
        module.register_forward_hook(lambda _, args, out, name=name: seen.update({name: (args[0], out)}))
    output, mixed = layer(tokens)
    assert torch.equal(mixed, seen["mlp_out"][1])
    between = seen["mlp_norm"][0]
    pairs = {
        "positions": (tokens + sinusoids(position_angles(30, 24, 10000.0)), seen["attention_norm"][0]),
        "attention": (seen["attention"][1], between - seen["attention_norm"][0]),
        "hidden": (nn.functional.gelu(seen["mlp_in"][1]), seen["mlp_out"][0]),
        "mlp": (mixed, output - between),
    }
    for name, (before, after) in pairs.items():
        kept = after.abs() > 1e-5
        assert 0.45 < kept[before.abs() > 1e-3].float().mean() < 0.55, name
        torch.testing.assert_close(after[kept], 2 * before[kept], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_dropout_falls_on_attention_weights_and_keeps_their_mean(implementation):
    attention = make_backbone(implementation, dropout=0.5).layers[0].attention
    tokens = draw(1, 9, 24)
    expected = attention(tokens)
    drawn = attention.train()(tokens.expand(4000, 9, 24))
    assert drawn.std(dim=0).min() > 0.05
    torch.testing.assert_close(drawn.mean(dim=0), expected[0], rtol=0, atol=0.1)


def assert_xavier(backbone):
    linears = {name: module for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    assert len(linears) == 1 + 6 * len(backbone.layers)
    for name, linear in linears.items():
        bound = math.sqrt(6 / (linear.in_features + linear.out_features))
        assert 0.9 * bound < linear.weight.abs().max() <= bound, name
        assert abs(linear.weight.std() / (bound / math.sqrt(3)) - 1) < 0.1, name
        assert not linear.bias.any(), name
    for name, norm in backbone.named_modules():
        if isinstance(norm, nn.LayerNorm):
            assert (norm.weight == 1).all() and not norm.bias.any(), name


@pytest.mark.parametrize("kind", [EcgTransformerBackbone, PAIRS["transformer-cpc"], CLASSIFIERS["transformer"]])
def test_weights_are_drawn_as_xavier_says_and_those_that_a_checkpoint_holds_are_kept(kind, tmp_path):
    torch.manual_seed(0)
    model = kind(kind.config_class(**SIZES["63k"], num_labels=5))
    assert_xavier(getattr(model, "backbone", model))
    kept = {key: value + 7 for key, value in model.state_dict().items() if "layers.1." in key}
    model.config.save_pretrained(tmp_path)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = kind.from_pretrained(tmp_path)
    assert kept and all(torch.equal(loaded.state_dict()[key], value) for key, value in kept.items())
    loaded.load_state_dict({key: value - 7 for key, value in kept.items()}, strict=False)
    assert_xavier(getattr(loaded, "backbone", loaded))
    for other in (model, loaded):  # the other parts keep torch's own initialisation
        for name, module in other.named_modules():
            if isinstance(module, nn.Linear) and name.startswith(("head", "objective")):
                assert 0.8 < module.weight.abs().max() * math.sqrt(module.in_features) <= 1
                assert module.bias is None or module.bias.any()


def test_stem_of_convolutions_keeps_torch_s_initialisation():
    torch.manual_seed(0)
    conv = EcgTransformerBackbone(EcgTransformerConfig(hidden_size=64, num_layers=1)).stem.convs[1]
    assert 0.99 / 8 < conv.weight.abs().max() <= 1 / 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fields", [{}, {"positions": "sinusoidal", "causal": True}, {"stem": "conv"}])
def test_saved_backbone_loads_bit_equal_on_a_dirty_heap(tmp_path, dtype, fields):
    backbone, signal = make_backbone(**fields).to(dtype), draw(2, 12, 200)
    expected = backbone(signal).last_hidden_state
    backbone.save_pretrained(tmp_path)
    for _ in range(3):
        junk = [torch.full((size,), float("nan")) for size in (8, 16, 64, 128, 768, 4096)]
        del junk
        loaded = EcgTransformerBackbone.from_pretrained(tmp_path, dtype=dtype)
        assert torch.equal(loaded(signal).last_hidden_state, expected)
        assert {**loaded.config.to_dict(), "_name_or_path": ""} == {**backbone.config.to_dict(), "_name_or_path": ""}


def test_positions_stay_in_single_precision_whatever_the_model_is_in():
    vectors, angles = draw(3, 900, 16).bfloat16(), position_angles(900, 8, 10000.0)
    assert torch.equal(rotate(vectors, angles), rotate(vectors.float(), angles).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(position_angles(900, 8, 10000.0), angles)


def test_every_tensor_is_a_parameter_or_belongs_to_a_batch_norm():
    backbone = make_backbone()
    assert set(backbone.state_dict()) == {name for name, _ in backbone.named_parameters()}
    assert not list(backbone.buffers())


@pytest.mark.parametrize("fields", [{}, {"positions": "sinusoidal", "causal": True}, {"stem": "linear"}])
def test_every_parameter_gets_a_gradient(fields):
    backbone = make_backbone(**fields).train()
    backbone(draw(4, 12, 100)).last_hidden_state.pow(3).sum().backward()
    without = {name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == set()


def test_gradient_checkpointing_draws_the_same_dropout_twice():
    signal, gradients = draw(2, 12, 100), []
    for checkpointing in (False, True):
        backbone = make_backbone(dropout=0.3, positions="sinusoidal").train()
        if checkpointing:
            older = backbone.gradient_checkpointing_enable
            getattr(backbone, "activation_checkpointing_enable", older)({"use_reentrant": False})
        torch.manual_seed(3)
        backbone(signal).last_hidden_state.pow(3).sum().backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("fields", [{"causal": True}, {"positions": "sinusoidal"}, {"stem": "conv"}])
def test_exported_for_one_length_it_serves_another(fields):
    backbone, signal = make_backbone(**fields), draw(2, 12, 517)
    shapes = {"signal": {2: torch.export.Dim.AUTO}}
    exported = torch.export.export(backbone, (draw(2, 12, 400),), dynamic_shapes=shapes).module()
    torch.testing.assert_close(exported(signal).last_hidden_state, backbone(signal).last_hidden_state)


def assert_compiles(backbone, *lengths, **options):
    compiled = torch.compile(backbone, fullgraph=True, **options)
    for num_samples in lengths:
        signal = draw(2, 12, num_samples)
        expected = backbone(signal).last_hidden_state
        torch.testing.assert_close(compiled(signal).last_hidden_state, expected, rtol=1e-3, atol=1e-4)
    backbone.train()
    compiled(signal).last_hidden_state.pow(3).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch's compiler, about itself
@pytest.mark.parametrize("fields", [{"causal": True, "stem": "conv"}, {"positions": "sinusoidal"}])
def test_it_is_one_graph_for_crops_of_any_length(fields):
    assert_compiles(make_backbone(**fields, num_layers=1), 400, 517, 64, dynamic=True, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_with_rotary_positions_it_gives_the_same():
    assert_compiles(make_backbone(num_layers=1, causal=True, dropout=0.0), 400)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"stem": "patches"}, r"stem must be one of \('conv', 'linear', 'patch'\), got 'patches'"),
        ({"positions": "learned"}, r"positions must be one of \('rotary', 'sinusoidal'\), got 'learned'"),
        ({"patch_size": 0}, "patch_size must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_attention_heads": 0}, "num_attention_heads must be at least 1, got 0"),
        ({"mlp_ratio": 0}, "mlp_ratio must be at least 1, got 0"),
        ({"rope_theta": 0.5}, "rope_theta must be at least 1, got 0.5"),
        ({"dropout": 1}, r"dropout must lie in \[0, 1\), got 1"),
        ({"num_attention_heads": 5}, "must divide hidden_size=24, got 5"),
        ({"num_attention_heads": 8}, "rotary positions with num_attention_heads=8 need .* multiple of 16, got 24"),
        ({"hidden_size": 27, "positions": "sinusoidal"}, "sinusoidal positions .* multiple of 2, got 27"),
        ({"hiden_size": 4}, "has no field 'hiden_size'"),
    ],
)
def test_config_refuses_what_it_cannot_mean(fields, text):
    with pytest.raises(Exception, match=text):
        EcgTransformerConfig(**{**TINY, **fields})


def test_an_attention_that_cannot_be_causal_is_refused():
    with pytest.raises(ValueError, match="does not support"):
        make_backbone("flex_attention")
