"""The reference's checkpoints: golden tensors of another implementation of its encoder, and all its pairs in small."""

import itertools
import json
import re
import runpy
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from ecg_hf import PAIRS
from ecg_hf.commands import convert
from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.conversion.convert import (
    convert_study_a,
    convert_study_a_pair,
    describe_study_a,
    diagnose_teacher,
    load_study_a,
    to_study_a,
)
from ecg_hf.models.conversion.objectives import HEADS
from ecg_hf.registry import BACKBONES, load
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD
from places import SHARED

GOLDEN = SHARED / "golden"
FILES = ["s4_causal_w64_n300", "s4_bidirectional_w64_n300"]
KERNEL = "ts_encoder.predictor.predictor.s4_layers.{}.kernel.kernel."


def read(name):
    if not GOLDEN.is_dir():
        pytest.skip("needs shared/data/golden")
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        metadata = file.metadata()
    prefix = "state_dict."
    state_dict = {key.removeprefix(prefix): tensors.pop(key) for key in sorted(tensors) if key.startswith(prefix)}
    return state_dict, tensors, metadata


@pytest.fixture(scope="module", params=FILES)
def golden(request):
    return read(request.param)


@pytest.fixture
def causal():
    return read(FILES[0])[0]


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_converted_backbone_gives_the_reference_tokens_layers_and_last_state(golden):
    state_dict, tensors, _ = golden
    backbone = convert_study_a(state_dict)
    with torch.no_grad():
        output = backbone(tensors["input.signal"], output_hidden_states=True, output_layer_outputs=True)
    assert_close(output.hidden_states[0], tensors["output.tokens"])
    assert len(output.layer_outputs) == 4
    for index, mixed in enumerate(output.layer_outputs):
        assert_close(mixed, tensors[f"output.s4_layer_{index}"])
    assert_close(output.last_hidden_state, tensors["output.last_hidden_state"])


def test_each_layer_alone_gives_the_reference_output_in_both_forms(golden):
    # From the reference's own inputs, so that no layer can hide the error of another.
    state_dict, tensors, _ = golden
    backbone = convert_study_a(state_dict)
    tokens = tensors["output.tokens"]
    for index, layer in enumerate(backbone.layers):
        expected = tensors[f"output.s4_layer_{index}"]
        with torch.no_grad():
            assert_close(layer.mix(tokens), expected)
            layer.state_space.chunked = layer.state_space.spectral
            assert_close(layer.mix(tokens), expected)
            tokens = layer.norm(tokens + expected)
    assert_close(tokens, tensors["output.last_hidden_state"])


def test_converted_backbone_has_the_reference_config_and_trainable_parameters(golden):
    state_dict, _, metadata = golden
    backbone = convert_study_a(state_dict)
    config = backbone.config
    assert (config.hidden_size, config.num_layers, config.num_leads) == (int(metadata["width"]), 4, 12)
    assert (str(config.causal), config.state_size) == (metadata["causal"], int(metadata["state_size"]))
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == int(metadata["trainable_parameters"])
    assert not backbone.training


def test_converted_backbone_takes_longer_signals_than_its_c_was_made_for(causal):
    backbone = convert_study_a(causal)
    signal = torch.randn(1, 12, 1200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        short, long = (backbone(signal[..., :samples]).last_hidden_state for samples in (600, 1200))
    assert long.shape == (1, 600, 64)
    # The last token of the shorter signal sees padding where the longer one has a sample.
    assert_close(long[:, :299], short[:, :299])


def test_converted_backbone_does_not_share_memory_with_its_source(causal):
    causal = {name: tensor.expand(2, *tensor.shape)[0] for name, tensor in causal.items()}
    backbone = convert_study_a(causal)
    before = backbone.layers[0].state_space.kernel(64)
    for tensor in causal.values():
        tensor.zero_()
    assert torch.equal(backbone.layers[0].state_space.kernel(64), before)


@pytest.mark.parametrize("prefix", ["model.", "model.model."])
def test_wrapped_checkpoint_loads_without_its_heads_teacher_and_masks(causal, prefix):
    wrapped = {prefix + name: tensor for name, tensor in causal.items()}
    others = [
        "ts_encoder.head_ssl.proj.0.weight",
        "ts_encoder.masking.mask_item",
        "ts_encoder.ema.encoder.layers.0.0.D",
    ]
    others += ["ts_encoder.head.proj.0.bias", "head.weight", "head_ssl.s4.s4_layers.0.D", "ema.clustering.0.codebook"]
    wrapped |= {prefix + name: torch.full((3, 5), float("nan")) for name in others}
    found, expected = (convert_study_a(given).state_dict() for given in (wrapped, causal))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_every_single_tensor_is_needed(causal):
    for name in causal:
        with pytest.raises(EcgCheckpointError, match=re.escape(name.removeprefix("ts_encoder."))):
            convert_study_a({key: tensor for key, tensor in causal.items() if key != name})


def test_every_shape_and_number_is_checked(causal):
    for name, tensor in causal.items():
        flat = tensor.reshape(1, -1) if tensor.dim() != 2 else tensor.reshape(-1)
        with pytest.raises(EcgCheckpointError):
            convert_study_a({**causal, name: flat})
        if tensor.is_floating_point() and not name.endswith(".z"):
            with pytest.raises(EcgCheckpointError, match="expected finite numbers"):
                convert_study_a({**causal, name: torch.full_like(tensor, float("nan"))})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: {**d, "ts_encoder.encoder.extra": torch.zeros(1)}, r"unknown \['encoder\.extra'\]"),
        (lambda d: {**d, "optimizer.step": torch.zeros(1)}, r"unknown \['optimizer\.step'\]"),
        (
            lambda d: {**d, "model." + KERNEL.format(0) + "C": torch.zeros(1, 64, 4, 2)},
            r"second one under model\.ts_encoder",
        ),
        (
            lambda d: {**d, KERNEL.format(0) + "Q": d[KERNEL.format(0) + "P"]},
            r"conj\(P\), got a difference of",
        ),
        (
            lambda d: {**d, KERNEL.format(1) + "w": -d[KERNEL.format(1) + "w"]},
            r"negative real parts .*up to 0\.5",
        ),
        (lambda d: {**d, KERNEL.format(2) + "omega": d[KERNEL.format(2) + "omega"].flip(0)}, "300-th roots"),
        (lambda d: {**d, KERNEL.format(2) + "z": d[KERNEL.format(2) + "z"] * 1.5}, r"z to be 2 \(1 - omega\)"),
        (lambda d: {}, r"expected a tensor encoder\.layers\.0\.0\.weight"),
    ],
)
def test_converter_refuses_what_it_does_not_know(causal, change, text):
    with pytest.raises(EcgCheckpointError, match=text):
        convert_study_a(change(causal))


# Below: checkpoints of all pairs, made small by the inverse conversion, against names and sums written here by hand.

SMALL = {
    "s4": {"num_layers": 2, "state_size": 4},
    "transformer": {"num_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2},
    "cnn": {"stage_widths": [4, 8], "stage_depths": [1, 2], "kernel_size": 5, "group_width": 2},
}
LEADS, WIDTH, TOKENS = 3, 8, 20
MODES, HEAD_MODES, CODES = 2, 3, 5
STUDY_PAIRS = [f"{trunk}-{objective}" for trunk in SMALL for objective in HEADS if (trunk, objective) != ("cnn", "cpc")]
S4_PAIRS = STUDY_PAIRS[: len(HEADS)]
WITH_TEACHER = [name for name in STUDY_PAIRS if not name.endswith("cpc")]
IDLE = re.compile(r"head\.proj|clustering\.1|\.bn\d\.|first_bn")


def make_pair(name, **fields):
    """A small pair, every tensor of which has values of its own."""
    trunk, _, objective = name.partition("-")
    fields = {"num_leads": LEADS, "hidden_size": WIDTH, **SMALL[trunk], **fields}
    if HEADS[objective].has_teacher:
        fields.setdefault("teacher", "frozen_random")
    if objective in ("jepa", "data2vec", "dinosr"):
        fields["predictor_state_size"] = 2 * HEAD_MODES
    if objective == "dinosr":
        fields |= {"num_codebook_layers": 1, "codebook_size": CODES}
    torch.manual_seed(0)
    pair = PAIRS[name](PAIRS[name].config_class(**fields)).eval()
    draw(pair, objective)
    return pair


def draw(model, objective=""):
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.randint(100, ())
        elif name.endswith(("running_var", "counts")):
            state[name] = torch.rand_like(tensor) + 0.5
        elif name.endswith(("log_decay", "frequency")):
            state[name] = 3 * torch.rand_like(tensor) - 2
        elif name.endswith(
            ("weight", "bias", "running_mean", *(f"state_space.{part}" for part in "BCDP"), "mask_token", "0.codes")
        ):
            state[name] = torch.randn_like(tensor) / 2
    made_anew = HEADS[objective].fresh if objective else ()
    model.load_state_dict(
        {name: tensor for name, tensor in state.items() if not name.startswith(made_anew)}, strict=False
    )


def checkpoint(name, num_tokens=TOKENS, **fields):
    """A file of the reference, whose idle heads are not the zeros that the inverse conversion writes."""
    tensors = to_study_a(make_pair(name, **fields), num_tokens)
    for key, tensor in tensors.items():
        if IDLE.search(key) and "clustering" not in key and tensor.is_floating_point():
            tensors[key] = torch.rand_like(tensor)
    return tensors


def conv(prefix, *shape):
    return {prefix + "weight": shape, prefix + "bias": shape[:1]}


def batch_norm(prefix, width):
    parts = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (width,))
    return {prefix + name: shape for name, shape in {**parts, "num_batches_tracked": ()}.items()}


def s4_layers(stack, num_layers, directions, modes):
    shapes = {}
    for i in range(num_layers):
        kernel = {
            "C": (directions, WIDTH, modes, 2),
            "omega": (TOKENS // 2 + 1, 2),
            "z": (TOKENS // 2 + 1, 2),
            "log_dt": (WIDTH,),
            "w": (WIDTH, modes, 2),
            **dict.fromkeys("BPQ", (1, WIDTH, modes, 2)),
        }
        shapes |= {f"{stack}s4_layers.{i}.kernel.kernel.{name}": shape for name, shape in kernel.items()}
        shapes[f"{stack}s4_layers.{i}.D"] = (1, WIDTH)
        shapes[f"{stack}s4_layers.{i}.output_linear.0.weight"] = (2 * WIDTH, WIDTH)
        shapes[f"{stack}s4_layers.{i}.output_linear.0.bias"] = (2 * WIDTH, 1)
        shapes |= conv(f"{stack}norms.{i}.", WIDTH)
    return shapes


def encoder(trunk, causal):
    """The names and shapes of notes 7.1 and 7.2."""
    shapes, stack = {}, "predictor.predictor."
    for i in range(4):
        shapes[f"encoder.layers.{i}.0.weight"] = (WIDTH, LEADS, 3) if i == 0 else (WIDTH, WIDTH, 1)
        shapes |= batch_norm(f"encoder.layers.{i}.1.", WIDTH)
    if trunk == "s4":
        return shapes | s4_layers(stack, 2, 1 if causal else 2, MODES)
    if trunk == "transformer":
        for j in range(2):
            layer = f"{stack}layers.{j}."
            for name in "qkv":
                shapes |= conv(f"{layer}attn.{name}_proj.", WIDTH, WIDTH)
            shapes |= conv(layer + "attn.out_proj.", WIDTH, WIDTH)
            shapes |= conv(layer + "ff.linear1.", 2 * WIDTH, WIDTH) | conv(layer + "ff.linear2.", WIDTH, 2 * WIDTH)
            shapes |= conv(layer + "norm1.", WIDTH) | conv(layer + "norm2.", WIDTH)
        return shapes | conv(stack + "final_norm.", WIDTH) | {stack + "pos_encoding.inv_freq": (2,)}
    shapes |= conv(stack + "first_conv.conv.", 4, WIDTH, 5) | batch_norm(stack + "first_bn.", 4)
    for s, b, width_in, width in ((0, 0, 4, 4), (1, 0, 4, 8), (1, 1, 8, 8)):
        block = f"{stack}stage_list.{s}.block_list.{b}."
        shapes |= conv(block + "conv1.conv.", width, width_in, 1) | conv(block + "conv2.conv.", width, 2, 5)
        shapes |= conv(block + "conv3.conv.", width, width, 1)
        shapes |= conv(block + "se_fc1.", width // 2, width) | conv(block + "se_fc2.", width, width // 2)
        shapes |= batch_norm(block + "bn1.", width_in)
        shapes |= batch_norm(block + "bn2.", width) | batch_norm(block + "bn3.", width)
    return shapes


def layout(name):
    trunk, _, objective = name.partition("-")
    shapes = encoder(trunk, causal=objective == "cpc")
    if objective == "cpc":
        return shapes | {"head_ssl.proj.0.weight": (WIDTH, WIDTH)}
    shapes |= {f"ema.{key}": shape for key, shape in shapes.items()}
    mask, mask_shape = ("mask_token", (WIDTH,)) if objective == "jepa" else ("mask_item", (1, WIDTH))
    shapes["masking." + mask] = mask_shape
    if objective == "hubertpp":
        return shapes | conv("head_ssl.proj.0.", WIDTH, WIDTH) | conv("head_ssl.proj.2.", 384, WIDTH)
    outputs = 2 * CODES if objective == "dinosr" else WIDTH
    shapes |= s4_layers("head_ssl.s4.", 1, 2, HEAD_MODES) | conv("head_ssl.s4.decoder.", outputs, WIDTH)
    shapes |= conv("head.proj.0.", WIDTH, WIDTH) | conv("ema.head.proj.0.", WIDTH, WIDTH)
    for i in range(2) if objective == "dinosr" else ():
        book = {"codebook": (CODES, WIDTH), "code_sum": (CODES, WIDTH), "code_cnt": (CODES,)}
        shapes |= {f"ema.clustering.{i}.{key}": shape for key, shape in book.items()}
    return shapes


@pytest.mark.parametrize("name", STUDY_PAIRS)
def test_a_pair_is_written_with_exactly_the_names_and_shapes_of_the_reference(name):
    written = {key: tuple(tensor.shape) for key, tensor in to_study_a(make_pair(name), TOKENS).items()}
    assert written == {f"ts_encoder.{key}": shape for key, shape in layout(name).items()}


def test_the_papers_cpc_has_77_tensors_and_its_other_pairs_as_many_as_counted_by_hand():
    found = {}
    for objective in HEADS:
        pair = PAIRS[f"s4-{objective}"]
        fields = {"num_codebook_layers": 1} if objective == "dinosr" else {}
        found[objective] = len(to_study_a(pair(pair.config_class(hidden_size=8, **fields))))
    s4_head, idle = 15, 4
    assert found["cpc"] == 76 + 1
    assert found["jepa"] == found["data2vec"] == 2 * 76 + 1 + s4_head + idle
    assert found["dinosr"] == found["jepa"] + 6
    assert found["hubertpp"] == 2 * 76 + 1 + 4


@pytest.mark.parametrize("name", STUDY_PAIRS)
def test_a_pair_comes_back_from_the_names_of_the_reference(name):
    pair = make_pair(name)
    found = convert_study_a_pair(to_study_a(pair, TOKENS))
    assert type(found) is PAIRS[name] and not found.training
    fresh = HEADS[name.partition("-")[2]].fresh
    for key, tensor in pair.state_dict().items():
        if not key.startswith(fresh):
            torch.testing.assert_close(found.state_dict()[key], tensor, rtol=2e-6, atol=2e-6, msg=key)


@pytest.mark.parametrize("name", STUDY_PAIRS)
def test_a_checkpoint_comes_back_from_our_names_but_for_what_it_is_reported_to_lose(name):
    tensors = checkpoint(name)
    content = describe_study_a(tensors)
    assert content.pair == name
    assert content.num_tokens == (TOKENS if any("omega" in key for key in tensors) else None)
    found = to_study_a(convert_study_a_pair(tensors), TOKENS)
    for key, tensor in tensors.items():
        lost = IDLE.search(key) or ("decoder" in key and name.endswith("dinosr"))
        assert not lost or key.removeprefix("ts_encoder.") in content.left_out, key
        if not lost:
            torch.testing.assert_close(found[key], tensor, rtol=2e-6, atol=2e-6, msg=key)


SPANS = {"mask_fraction": pytest.approx(1 - 0.9935**10), "mask_span": 10}
SETTINGS = {
    "cpc": {"prediction_offset": 14, "negatives": "sampled", "num_negatives": 128, "loss_reduction": "sum"},
    "jepa": {"num_target_blocks": 4, "min_block_tokens": 64, "context_fallback": True, "predictor_dropout": 0.2},
    "data2vec": {**SPANS, "average_top_k_layers": 2, "feature_reduction": "sqrt", "predictor": "s4"},
    "dinosr": {**SPANS, "codebook_size": CODES, "codebook_decay": 0.9, "target_norm": "token", "idle_codes": "shrink"},
    "hubertpp": {**SPANS, "codebook_sizes": [128, 256], "prototype_decay": 0.99, "temperature_steps": 200},
}


@pytest.mark.parametrize("name", STUDY_PAIRS)
def test_a_converted_pair_computes_its_loss_with_the_settings_of_the_study(name):
    pair = convert_study_a_pair(checkpoint(name))
    with torch.no_grad():
        output = pair(torch.randn(2, LEADS, 160, generator=torch.Generator().manual_seed(0)))
    assert output.loss.isfinite()
    settings = SETTINGS[name.partition("-")[2]]
    if name in WITH_TEACHER:
        settings = {**settings, "ema_decay": 0.9996, "ema_ramp_steps": 0, "teacher_dropout": True}
    assert {key: getattr(pair.config, key) for key in settings} == settings


def complex_recurrence(tensors, kernel, num_tokens, made_for):
    """The kernel of the reference's own tensors, one token after the other, over modes and their conjugates."""
    read = {
        key: torch.view_as_complex(tensors[kernel + key].double().contiguous()) for key in ("w", "P", "Q", "B", "C")
    }
    w, p, q, b, c = (torch.cat((read[key], read[key].conj()), -1) for key in ("w", "P", "Q", "B", "C"))
    step = tensors[kernel + "log_dt"].double().exp()[:, None, None]
    state = torch.diag_embed(w) - p[0][:, :, None] * q[0][:, None, :]
    identity = torch.eye(state.shape[-1], dtype=state.dtype)
    left = torch.linalg.inv(identity - step / 2 * state)
    transition, drive = left @ (identity + step / 2 * state), left @ (step * b[0][:, :, None])
    correction = identity - torch.linalg.matrix_power(transition, made_for)
    c = torch.linalg.solve(correction.mT, c[..., None])[..., 0]
    weights, response = [], drive
    for _ in range(num_tokens):
        weights.append(torch.einsum("cdn,dnk->cd", c, response))
        response = transition @ response
    return torch.stack(weights, -1).real


@pytest.mark.parametrize("num_tokens", [TOKENS, 3 * TOKENS + 1])
@pytest.mark.parametrize("name", ["s4-cpc", "s4-jepa"])
def test_every_kernel_is_that_of_the_references_recurrence_at_any_length(name, num_tokens):
    tensors = {key.removeprefix("ts_encoder."): tensor for key, tensor in checkpoint(name).items()}
    tensors = {key: torch.randn_like(value) if key.endswith(".C") else value for key, value in tensors.items()}
    pair = convert_study_a_pair(tensors)
    spaces = {f"predictor.predictor.s4_layers.{i}.": pair.backbone.layers[i].state_space for i in range(2)}
    if name == "s4-jepa":
        spaces |= {"ema." + key: pair.objective.teacher.backbone.layers[i].state_space for i, key in enumerate(spaces)}
        spaces["head_ssl.s4.s4_layers.0."] = pair.objective.predictor.state_space
    for prefix, space in spaces.items():
        expected = complex_recurrence(tensors, prefix + "kernel.kernel.", num_tokens, made_for=TOKENS)
        torch.testing.assert_close(space.kernel(num_tokens).double(), expected, rtol=1e-4, atol=1e-5)


def test_the_s4_head_gives_what_the_references_tensors_give_one_token_after_the_other():
    tensors = {key.removeprefix("ts_encoder."): tensor for key, tensor in checkpoint("s4-data2vec").items()}
    tokens = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(1))
    layer = "head_ssl.s4.s4_layers.0."
    forward, backward = complex_recurrence(tensors, layer + "kernel.kernel.", 7, made_for=TOKENS).float()
    mixed = tensors[layer + "D"] * tokens
    for n, m in itertools.product(range(7), range(7)):
        mixed[:, n] += tokens[:, m] * (forward[:, n - m] if n >= m else backward[:, m - n - 1])
    weight, bias = (tensors[f"{layer}output_linear.0.{part}"] for part in ("weight", "bias"))
    values, gates = (functional.gelu(mixed) @ weight.T + bias[:, 0]).chunk(2, dim=-1)
    norm = [tensors[f"head_ssl.s4.norms.0.{part}"] for part in ("weight", "bias")]
    summed = functional.layer_norm(tokens + values * gates.sigmoid(), (WIDTH,), *norm)
    expected = summed @ tensors["head_ssl.s4.decoder.weight"].T + tensors["head_ssl.s4.decoder.bias"]
    with torch.no_grad():
        assert_close(convert_study_a_pair(tensors).objective.predictor(tokens), expected)


def stem_of(tensors, signal):
    for i in range(4):
        conv1d = {"stride": 2, "padding": 1} if i == 0 else {}
        signal = functional.conv1d(signal, tensors[f"encoder.layers.{i}.0.weight"], **conv1d)
        norm = [tensors[f"encoder.layers.{i}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        signal = functional.batch_norm(signal, *norm).relu()
    return signal


def transformer_of(tensors, signal, causal):
    """Study A's transformer under the reference's names, one head and one query at a time."""
    x = stem_of(tensors, signal).transpose(1, 2)
    num_tokens, half = x.shape[1], WIDTH // 4
    angles = torch.arange(num_tokens)[:, None] * tensors["predictor.predictor.pos_encoding.inv_freq"]

    def linear(name, values):
        return values @ tensors[name + ".weight"].T + tensors[name + ".bias"]

    def norm(name, values):
        return functional.layer_norm(values, (WIDTH,), tensors[name + ".weight"], tensors[name + ".bias"])

    def turn(v):
        a, b = v[..., :half], v[..., half:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)

    for j in range(2):
        layer, gathered = f"predictor.predictor.layers.{j}", torch.zeros_like(x)
        y = norm(layer + ".norm1", x)
        q, k, v = (linear(f"{layer}.attn.{name}_proj", y) for name in "qkv")
        for head in (slice(0, WIDTH // 2), slice(WIDTH // 2, WIDTH)):
            for n in range(num_tokens):
                seen = n + 1 if causal else num_tokens
                scores = torch.einsum("bc,bnc->bn", turn(q[..., head])[:, n], turn(k[..., head])[:, :seen])
                gathered[:, n, head] = torch.einsum(
                    "bn,bnc->bc", (scores / half**0.5 / 2**0.5).softmax(-1), v[:, :seen, head]
                )
        x = x + linear(layer + ".attn.out_proj", gathered)
        x = x + linear(layer + ".ff.linear2", functional.gelu(linear(layer + ".ff.linear1", norm(layer + ".norm2", x))))
    return norm("predictor.predictor.final_norm", x)


def net1d_of(tensors, signal):
    """Study A's Net1D under the reference's names."""

    def conv1d(name, values, **options):
        return functional.conv1d(values, tensors[name + ".weight"], tensors[name + ".bias"], **options)

    stack = "predictor.predictor."
    x = functional.silu(conv1d(stack + "first_conv.conv", functional.pad(stem_of(tensors, signal), (2, 2))))
    for s, b in ((0, 0), (1, 0), (1, 1)):
        block, y = f"{stack}stage_list.{s}.block_list.{b}.", x
        y = conv1d(block + "conv1.conv", y if (s, b) == (0, 0) else functional.silu(y))
        y = functional.pad(functional.silu(y), (2, 2))
        y = functional.silu(conv1d(block + "conv2.conv", y, groups=y.shape[1] // 2))
        y = conv1d(block + "conv3.conv", y)
        squeezed = functional.silu(y.mean(2) @ tensors[block + "se_fc1.weight"].T + tensors[block + "se_fc1.bias"])
        scale = (squeezed @ tensors[block + "se_fc2.weight"].T + tensors[block + "se_fc2.bias"]).sigmoid()
        added = (y.shape[1] - x.shape[1]) // 2
        x = functional.pad(x, (0, 0, added, added)) + y * scale[..., None]
    return x.transpose(1, 2)


@pytest.mark.parametrize("name", ["transformer-cpc", "transformer-hubertpp", "cnn-jepa"])
def test_a_converted_trunk_gives_what_the_references_tensors_give(name):
    tensors = {key.removeprefix("ts_encoder."): tensor for key, tensor in checkpoint(name).items()}
    signal = torch.randn(2, LEADS, 30, generator=torch.Generator().manual_seed(2))
    expected = net1d_of(tensors, signal) if "cnn" in name else transformer_of(tensors, signal, name.endswith("cpc"))
    pair = convert_study_a_pair(tensors)
    with torch.no_grad():
        assert_close(pair.backbone(signal).last_hidden_state, expected)
        assert_close(convert_study_a(tensors)(signal).last_hidden_state, expected)
        if name in WITH_TEACHER:
            teacher = {key.removeprefix("ema."): tensor for key, tensor in tensors.items() if key.startswith("ema.")}
            expected = net1d_of(teacher, signal) if "cnn" in name else transformer_of(teacher, signal, causal=False)
            assert_close(pair.objective.teacher(signal).last_hidden_state, expected)


@pytest.mark.parametrize("name", [*S4_PAIRS, "transformer-hubertpp", "cnn-hubertpp"])
def test_every_tensor_of_a_pair_is_needed(name):
    tensors = checkpoint(name)
    for key in tensors:
        with pytest.raises(EcgCheckpointError, match=r"expected .*(got|missing)"):
            convert_study_a_pair({other: tensor for other, tensor in tensors.items() if other != key})


@pytest.mark.parametrize("name", [*S4_PAIRS, "transformer-hubertpp", "cnn-hubertpp"])
def test_every_shape_type_and_number_of_a_pair_is_checked(name):
    tensors = checkpoint(name)
    # The teachers of the larger trunks are checked as those of s4 are.
    keys = [key for key in tensors if name in S4_PAIRS or "ema." not in key]
    for key, tensor in ((key, tensors[key]) for key in keys):
        flat = tensor.reshape(1, -1) if tensor.dim() != 2 else tensor.reshape(-1)
        bad = [flat, tensor[:0] if tensor.dim() else tensor[None]]
        bad += (
            [torch.full_like(tensor, float("nan")), tensor.long()] if tensor.is_floating_point() else [tensor.float()]
        )
        for wrong in bad:
            with pytest.raises(EcgCheckpointError, match=re.escape(key.removeprefix("ts_encoder."))):
                convert_study_a_pair({**tensors, key: wrong})


@pytest.mark.parametrize("name", S4_PAIRS)
@pytest.mark.parametrize("extra", ["head_ssl.extra", "ema.extra", "masking.extra", "head.extra", "loss.weight"])
def test_a_tensor_that_a_pair_does_not_have_is_refused(name, extra):
    tensors = {**checkpoint(name), f"ts_encoder.{extra}": torch.zeros(1)}
    with pytest.raises(EcgCheckpointError, match=re.escape(extra)):
        convert_study_a_pair(tensors)


def test_what_has_no_place_in_ours_is_named_in_the_log(caplog):
    convert_study_a_pair(checkpoint("s4-dinosr"))
    text = caplog.text
    assert "left out of s4-dinosr, head that enters no loss: head.proj.*.* (2), ema.head.proj.*.* (2)" in text
    assert "codebook that study A's code builds and never uses: ema.clustering.*.* (3)" in text
    assert "rows 5 to 9 predict a codebook that is never used: head_ssl.s4.decoder.* (2)" in text
    assert "newly initialised in s4-dinosr, as the checkpoint does not have it: objective.codebooks.*.* (2), " in text


def plant(tensors, noise):
    """Gives the teacher the student's values, and noise of a share of their deviation but for the frozen dynamics."""
    generator = torch.Generator().manual_seed(3)
    planted = dict(tensors)
    for key in tensors:
        own = tensors.get(key.replace("ema.", ""))
        if "ema." in key and own is not None and own.is_floating_point() and "head" not in key:
            frozen = key.endswith((".log_dt", ".B", ".P", ".Q", ".w", ".omega", ".z", "inv_freq"))
            drawn = torch.randn(own.shape, generator=generator) * (own.std() if own.numel() > 1 else 0)
            planted[key] = own if frozen else own.lerp(drawn, noise) if "running_var" not in key else own
    return planted


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_a_teacher_that_follows_is_told_from_one_that_never_did(name):
    tensors = checkpoint(name)
    assert diagnose_teacher(tensors).verdict == "independent"
    assert convert_study_a_pair(tensors).config.teacher == "frozen_random"
    followed = plant(tensors, noise=0.1)
    diagnosis = diagnose_teacher(followed)
    assert diagnosis.verdict == "follows" and min(diagnosis.correlations.values()) > 0.95
    pair = convert_study_a_pair(followed)
    assert pair.config.teacher == "ema" and describe_study_a(followed).teacher == diagnosis
    assert torch.equal(
        pair.objective.teacher.backbone.stem.convs[0].weight, followed["ts_encoder.ema.encoder.layers.0.0.weight"]
    )


def test_the_correlations_of_a_diagnosis_are_numpys():
    tensors = checkpoint("s4-hubertpp")
    steps = [
        torch.cat(
            [tensors[f"ts_encoder.{prefix}predictor.predictor.s4_layers.{i}.kernel.kernel.log_dt"] for i in range(2)]
        )
        for prefix in ("ema.", "")
    ]
    diagnosis = diagnose_teacher(tensors)
    assert diagnosis.correlations["log_dt"] == pytest.approx(np.corrcoef(*steps)[0, 1], abs=1e-6)
    assert list(diagnosis.num_values.items()) == [
        ("C", 128),
        ("D", 16),
        ("log_dt", 16),
        ("weights", 24 * 3 + 3 * 64 + 2 * 128),
    ]
    assert str(diagnosis).startswith("independent: the teacher is another random network")


def test_a_teacher_that_only_half_follows_is_unclear_and_has_to_be_named():
    tensors = plant(checkpoint("s4-jepa"), noise=0.6)
    assert diagnose_teacher(tensors).verdict == "unclear"
    with pytest.raises(EcgCheckpointError, match=r"unclear: .*log_dt \+1\.000 .*say which by teacher='ema'"):
        convert_study_a_pair(tensors)
    assert convert_study_a_pair(tensors, teacher="ema").config.teacher == "ema"
    with pytest.raises(ValueError, match=r"one of \['ema', 'frozen_random'\], got 'slow'"):
        convert_study_a_pair(tensors, teacher="slow")


def test_cpc_has_no_teacher_to_diagnose():
    tensors = checkpoint("s4-cpc")
    with pytest.raises(EcgCheckpointError, match="got none; cpc has no teacher"):
        diagnose_teacher(tensors)
    with pytest.raises(ValueError, match="must be left out for s4-cpc"):
        convert_study_a_pair(tensors, teacher="ema")
    assert describe_study_a(tensors).teacher is None


def test_codes_without_members_shrink_in_ours_as_in_the_reference():
    tensors = checkpoint("s4-dinosr")
    codebook, total, counts = (f"ts_encoder.ema.clustering.0.{part}" for part in ("codebook", "code_sum", "code_cnt"))
    tensors[counts] = torch.tensor([1.0, 1e-6, 1e-9, 1e-12, 0.0])
    tensors[total] = tensors[counts][:, None] * torch.randn(CODES, WIDTH, generator=torch.Generator().manual_seed(4))
    tensors[codebook] = tensors[total] / tensors[counts].clamp(min=1e-8)[:, None]
    pair = convert_study_a_pair(tensors)
    tokens = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(5)) / 10
    expected = torch.cdist(tokens, tensors[codebook]).argmin(dim=1)
    assert len(set(expected.tolist())) > 2
    assert torch.equal(pair.objective.codebooks[0].nearest(tokens), expected)
    for key, tensor in to_study_a(pair, TOKENS).items():
        if "clustering.0" in key:
            torch.testing.assert_close(tensor, tensors[key], rtol=1e-5, atol=1e-12)


def test_codes_at_odds_with_their_sums_and_a_second_codebook_in_use_are_refused():
    tensors = checkpoint("s4-dinosr")
    first, second = (f"ts_encoder.ema.clustering.{index}." for index in range(2))
    with pytest.raises(EcgCheckpointError, match=r"expected ema\.clustering\.0\.codebook to be code_sum / code_cnt"):
        convert_study_a_pair({**tensors, first + "codebook": tensors[first + "codebook"] + 1})
    with pytest.raises(EcgCheckpointError, match=r"second codebook never to have been used.* counts of 3 to 3"):
        convert_study_a_pair({**tensors, second + "code_cnt": torch.full((CODES,), 3.0)})


def test_a_backbone_of_cpc_that_looks_ahead_converts_alone():
    tensors = {key: tensor for key, tensor in checkpoint("cnn-jepa").items() if re.search(r"encoder\.(enc|pred)", key)}
    tensors["ts_encoder.head_ssl.proj.0.weight"] = torch.zeros(WIDTH, WIDTH)
    with pytest.raises(EcgCheckpointError, match="one of cnn-cpc that sees the tokens which it must predict"):
        convert_study_a_pair(tensors)
    bidirectional = to_study_a(make_pair("s4-jepa").backbone) | {"head_ssl.proj.0.weight": torch.zeros(WIDTH, WIDTH)}
    with pytest.raises(EcgCheckpointError, match="one of s4-cpc that sees the tokens"):
        convert_study_a_pair(bidirectional)
    assert not convert_study_a(tensors, causal=False).config.causal
    with pytest.raises(ValueError, match="causal must be False, as the tensors say, got True"):
        convert_study_a(tensors, causal=True)


def test_a_transformer_without_its_head_has_to_be_said_to_be_causal_or_not():
    tensors = checkpoint("transformer-cpc")
    tensors["head.weight"] = tensors.pop("ts_encoder.head_ssl.proj.0.weight")
    with pytest.raises(ValueError, match="causal must be given for a transformer alone"):
        convert_study_a(tensors)
    assert [convert_study_a(tensors, causal=causal).config.causal for causal in (False, True)] == [False, True]
    with pytest.raises(EcgCheckpointError, match="got no head_ssl"):
        convert_study_a_pair(tensors)
    frequencies = "ts_encoder.predictor.predictor.pos_encoding.inv_freq"
    with pytest.raises(EcgCheckpointError, match="rotary positions with base 10000, got"):
        convert_study_a({**tensors, frequencies: tensors[frequencies] / 2}, causal=True)


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("s4-jepa", {"low_rank": False}, r"differs in fields \[\] and tensors \[.*state_space\.P"),
        ("s4-cpc", {"stem": "linear"}, r"tensors \['backbone\.stem\.conv\.bias'"),
        ("s4-jepa", {"predictor": "linear"}, r"tensors \['objective\.predictor\."),
        ("s4-hubertpp", {"codebook_sizes": [256, 128]}, r"fields \['codebook_sizes'\]"),
        ("transformer-jepa", {"positions": "sinusoidal"}, r"fields \['positions'\]"),
        ("transformer-jepa", {"rope_theta": 100}, r"fields \['rope_theta'\]"),
        ("cnn-jepa", {"causal": True}, r"fields \['causal'\]"),
    ],
)
def test_a_model_that_the_reference_cannot_name_is_not_written(name, fields, text):
    with pytest.raises(ValueError, match=text):
        to_study_a(make_pair(name, **fields), TOKENS)


def test_only_pairs_of_the_study_are_written_for_an_even_number_of_tokens():
    kind = PAIRS["s4-supervised"]
    with pytest.raises(ValueError, match="got a EcgS4ForSupervised"):
        to_study_a(kind(kind.config_class(hidden_size=8)))
    for num_tokens in (0, 301):
        with pytest.raises(ValueError, match=f"even and at least 2, got {num_tokens}"):
            to_study_a(make_pair("s4-cpc"), num_tokens)


@pytest.mark.parametrize("name", ["s4-dinosr", "cnn-jepa"])
def test_what_was_written_shares_no_memory_with_its_model(name):
    pair = make_pair(name)
    before = {key: tensor.clone() for key, tensor in pair.state_dict().items()}
    for tensor in to_study_a(pair, TOKENS).values():
        tensor.zero_()
    assert all(torch.equal(tensor, before[key]) for key, tensor in pair.state_dict().items())


@pytest.mark.parametrize("trunk", SMALL)
def test_a_backbone_alone_comes_back(trunk):
    backbone = make_pair(f"{trunk}-jepa").backbone
    found = convert_study_a(to_study_a(backbone, TOKENS), causal=False)
    assert type(found) is load(BACKBONES, trunk)
    for key, tensor in backbone.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], tensor, rtol=2e-6, atol=2e-6, msg=key)


class Trap:
    """What touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_file_that_needs_code_is_refused_with_two_lines_that_help(tmp_path):
    tensors, trap, file = checkpoint("s4-cpc"), tmp_path / "sprung", tmp_path / "cpc_e10.ckpt"
    torch.save({"state_dict": tensors, "hyper_parameters": Trap(trap), "epoch": 10}, file)
    with pytest.raises(
        EcgCheckpointError, match=r"objects of \['builtins\.getattr', 'pathlib.*\], which could run any code"
    ) as error:
        load_study_a(file)
    assert not trap.exists()
    # The recipe of the message, on a machine that is trusted.
    lines, saved = re.search(r"run `(.*)` and convert (\S+) instead", str(error.value)).groups()
    (tmp_path / "recipe.py").write_text(lines)
    runpy.run_path(str(tmp_path / "recipe.py"))
    assert trap.exists()
    found = load_study_a(saved)
    assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_a_class_that_the_first_look_at_a_file_misses_is_still_not_run(tmp_path, monkeypatch):
    torch.save({"state_dict": {}, "callbacks": Trap(tmp_path / "sprung")}, tmp_path / "file.ckpt")
    monkeypatch.setattr("ecg_hf.models.conversion.file.get_unsafe_globals_in_checkpoint", lambda path: [])
    with pytest.raises(EcgCheckpointError, match="a whole checkpoint of tensors alone"):
        load_study_a(tmp_path / "file.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_every_safe_form_of_a_file_gives_the_same_tensors(tmp_path):
    tensors = checkpoint("s4-hubertpp")
    torch.save(tensors, tmp_path / "bare.ckpt")
    torch.save(OrderedDict(tensors), tmp_path / "ordered.pt")
    torch.save({"state_dict": tensors, "epoch": 10, "hyper_parameters": {"lr": 3e-3}}, tmp_path / "lightning.ckpt")
    save_file(tensors, tmp_path / "tensors.safetensors")
    for path in sorted(tmp_path.iterdir()):
        found = load_study_a(path)
        assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_a_file_that_is_damaged_or_of_something_else_is_refused(tmp_path):
    file = tmp_path / "file.ckpt"
    with pytest.raises(FileNotFoundError, match="where there is no file"):
        load_study_a(file)
    for content, text in (
        ({"state_dict": {"a": 1}}, r"nothing but tensors .*\{'a': 'int'\}"),
        ({"state_dict": {}}, r"expected tensors by name .*got \[\]"),
        ({3: torch.zeros(1)}, r"expected tensors by name .*got \['3'\]"),
        ([torch.zeros(1)], "got list"),
    ):
        torch.save(content, file)
        with pytest.raises(EcgCheckpointError, match=text):
            load_study_a(file)
    torch.save(checkpoint("s4-cpc"), file)
    whole = file.read_bytes()
    for kept in (100, len(whole) // 2, len(whole) - 10):
        file.write_bytes(whole[:kept])
        with pytest.raises(EcgCheckpointError, match=r"copy it again"):
            load_study_a(file)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10")
    with pytest.raises(EcgCheckpointError, match="expected a safetensors file"):
        load_study_a(broken)


@pytest.fixture
def convert_script(capsys):
    def run(*words):
        """Returns what the command prints; SystemExit with its error if it fails."""
        status = convert.main(list(map(str, words)), "ecg-hf convert")
        printed = capsys.readouterr()
        if status:
            raise SystemExit(printed.err)
        return printed.out

    return run


# As they are published, to be applied to I, II, III, aVR, aVL, aVF, V1 to V6.
STUDY_A_MEAN = [-0.00184586, -0.00130277, 0.00017031, -0.00091313, -0.00148835, -0.00174687]
STUDY_A_MEAN += [-0.00077071, -0.00207407, 0.00054329, 0.00155546, -0.00114379, -0.00035649]


@pytest.mark.parametrize(
    ("name", "normalization", "means"),
    [
        ("s4-cpc", "none", None),
        ("s4-jepa", "study_a", STUDY_A_MEAN),
        ("transformer-data2vec", "study_a", STUDY_A_MEAN),
        ("cnn-dinosr", "study_a", STUDY_A_MEAN),
        ("transformer-hubertpp", "study_a", STUDY_A_MEAN),
    ],
)
def test_the_script_writes_a_folder_that_the_auto_classes_load(convert_script, name, normalization, means, tmp_path):
    tensors = checkpoint(name, num_leads=12)
    torch.save({"state_dict": tensors}, tmp_path / "file.ckpt")
    printed = convert_script(tmp_path / "file.ckpt", tmp_path / "model")
    expected = convert_study_a_pair(tensors)
    pair = AutoModelForPreTraining.from_pretrained(tmp_path / "model")
    encoder = AutoModel.from_pretrained(tmp_path / "model")
    signal = torch.randn(2, 12, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = expected.backbone(signal).last_hidden_state
        assert type(pair) is type(expected) and torch.equal(pair.backbone(signal).last_hidden_state, tokens)
        assert torch.equal(encoder(signal).last_hidden_state, tokens)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "model")
    # Without a state space nothing says how long the crops were, and the study's are taken.
    num_samples = 600 if name == "transformer-hubertpp" else 2 * TOKENS
    assert (extractor.sampling_rate, extractor.num_samples) == (240, num_samples)
    assert extractor.mean == (None if means is None else list(means))
    assert f"normalisation: {normalization}, " in printed and ("another lead order" in printed) == (means is not None)
    assert ("independent: the teacher is" in printed) == (name in WITH_TEACHER)
    assert json.loads((tmp_path / "model" / "conversion.json").read_text())["content"]["pair"] == name


def test_the_script_gives_study_as_own_vectors(convert_script, tmp_path):
    save_file(checkpoint("s4-jepa", num_leads=12), tmp_path / "file.safetensors")
    convert_script(tmp_path / "file.safetensors", tmp_path / "asked", "--normalization", "ptbxl")
    asked = AutoFeatureExtractor.from_pretrained(tmp_path / "asked")
    assert (asked.mean, asked.std) == (list(PTBXL_MEAN), list(PTBXL_STD))
    convert_script(tmp_path / "file.safetensors", tmp_path / "model", "--pair", "s4-jepa")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "model")
    std = [0.16401004, 0.1647168, 0.23374124, 0.33767231, 0.33362807, 0.30583013]
    std += [0.2731171, 0.27554379, 0.17128962, 0.14030828, 0.14606956, 0.14656108]
    assert (extractor.mean, extractor.std) == (STUDY_A_MEAN, std)


def test_the_script_converts_a_backbone_alone_and_refuses_what_it_was_not_asked_for(convert_script, tmp_path):
    tensors = checkpoint("s4-jepa", num_leads=12)
    torch.save({f"model.{key}": tensor for key, tensor in tensors.items() if "head" not in key}, tmp_path / "file.ckpt")
    words = [tmp_path / "file.ckpt", tmp_path / "model"]
    with pytest.raises(SystemExit, match="expected a checkpoint of s4-jepa, got None"):
        convert_script(*words, "--pair", "s4-jepa", "--normalization", "none")
    with pytest.raises(SystemExit, match="say --normalization"):
        convert_script(*words, "--pair", "none")
    assert not (tmp_path / "model").exists()
    printed = convert_script(*words, "--pair", "none", "--normalization", "none")
    assert "converted: EcgS4Backbone" in printed and "left out: everything but the backbone" in printed
    found = AutoModel.from_pretrained(tmp_path / "model").state_dict()
    expected = convert_study_a(tensors).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    with pytest.raises(SystemExit, match="which exists"):
        convert_script(*words)
    torch.save(tensors, tmp_path / "whole.ckpt")
    with pytest.raises(SystemExit, match="expected a checkpoint of s4-cpc, got s4-jepa"):
        convert_script(tmp_path / "whole.ckpt", tmp_path / "other", "--pair", "s4-cpc")
    torch.save(checkpoint("s4-cpc"), tmp_path / "narrow.ckpt")
    with pytest.raises(SystemExit, match="expected a model of 12 leads, got one of 3"):
        convert_script(tmp_path / "narrow.ckpt", tmp_path / "other")
    assert not (tmp_path / "other").exists()
