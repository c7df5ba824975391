"""Our S4 backbone against tensors of another implementation of the study's encoder, and the conversion of its names."""

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ecg_hf.checkpoints import convert_reference
from ecg_hf.errors import EcgCheckpointError

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "golden"
FILES = ["s4_causal_w64_n300", "s4_bidirectional_w64_n300"]
KERNEL = "ts_encoder.predictor.predictor.s4_layers.{}.kernel.kernel."

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs shared/data/golden")


def read(name):
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
    backbone = convert_reference(state_dict)
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
    backbone = convert_reference(state_dict)
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
    backbone = convert_reference(state_dict)
    config = backbone.config
    assert (config.hidden_size, config.num_layers, config.num_leads) == (int(metadata["width"]), 4, 12)
    assert (str(config.causal), config.state_size) == (metadata["causal"], int(metadata["state_size"]))
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == int(metadata["trainable_parameters"])
    assert not backbone.training


def test_converted_backbone_takes_longer_signals_than_its_c_was_made_for(causal):
    backbone = convert_reference(causal)
    signal = torch.randn(1, 12, 1200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        short, long = (backbone(signal[..., :samples]).last_hidden_state for samples in (600, 1200))
    assert long.shape == (1, 600, 64)
    # The last token of the shorter signal sees padding where the longer one has a sample.
    assert_close(long[:, :299], short[:, :299])


def test_converted_backbone_does_not_share_memory_with_its_source(causal):
    causal = {name: tensor.expand(2, *tensor.shape)[0] for name, tensor in causal.items()}
    backbone = convert_reference(causal)
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
    found, expected = (convert_reference(given).state_dict() for given in (wrapped, causal))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_every_single_tensor_is_needed(causal):
    for name in causal:
        with pytest.raises(EcgCheckpointError, match=re.escape(name.removeprefix("ts_encoder."))):
            convert_reference({key: tensor for key, tensor in causal.items() if key != name})


def test_every_shape_and_number_is_checked(causal):
    for name, tensor in causal.items():
        flat = tensor.reshape(1, -1) if tensor.dim() != 2 else tensor.reshape(-1)
        with pytest.raises(EcgCheckpointError):
            convert_reference({**causal, name: flat})
        if tensor.is_floating_point() and not name.endswith(".z"):
            with pytest.raises(EcgCheckpointError, match="expected finite numbers"):
                convert_reference({**causal, name: torch.full_like(tensor, float("nan"))})


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
        (lambda d: {}, r"expected a tensor encoder\.layers\.0\.0\.weight"),
    ],
)
def test_converter_refuses_what_it_does_not_know(causal, change, text):
    with pytest.raises(EcgCheckpointError, match=text):
        convert_reference(change(causal))
