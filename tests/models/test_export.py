import json
import sys

import numpy as np
import pytest
import torch

from ecg_hf import CLASSIFIERS, PAIRS, EcgFeatureExtractor
from ecg_hf.errors import EcgIntegrityError
from ecg_hf.models.backbones.kernel import StateSpace
from ecg_hf.models.export import FixedStateSpace, export_onnx
from ecg_hf.registry import BACKBONES, load
from ecg_hf.signals.record import LEADS

NAMES = sorted(BACKBONES)
# What the time axis of an exported program may be: a state space unrolls its chunks, a residual network its crop.
ANY_LENGTH = {"cnn", "transformer"}
# torch.onnx copies parts of torch that torch has deprecated.
ONNX = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")


def make(name, kind=None, **fields):
    backbone = load(BACKBONES, name)
    torch.manual_seed(0)
    return (kind or backbone)(backbone.config_class(**{**backbone.sizes["20k"], **fields})).eval()


def draw(batch, num_samples, seed=0):
    return torch.randn(batch, 12, num_samples, generator=torch.Generator().manual_seed(seed))


def run(path, signal):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"signal": signal.numpy()}), strict=True)), session


@pytest.fixture
def contract():
    return EcgFeatureExtractor(sampling_rate=240, num_samples=200, normalization="record")


@pytest.mark.parametrize("num_tokens", [1, 31, 32, 33, 64, 100, 300])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_fixed_state_space_gives_what_the_kernel_does(num_tokens, bidirectional):
    torch.manual_seed(0)
    space = StateSpace(6, 8, bidirectional=bidirectional, low_rank=bidirectional, trainable=bidirectional)
    space.reset()
    signal = torch.randn(6, 2, num_tokens)
    with torch.no_grad():
        expected = space.spectral(signal.double())
        fixed = FixedStateSpace(space, num_tokens)(signal)
    assert fixed.dtype == torch.float32
    torch.testing.assert_close(fixed.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_fixed_state_space_refuses_another_length():
    space = StateSpace(2, 4, bidirectional=False)
    space.reset()
    with pytest.raises(ValueError, match="must have 40 tokens, got 41"):
        FixedStateSpace(space, 40)(torch.zeros(2, 1, 41))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("causal", [False, True])
def test_an_exported_program_gives_the_same_for_any_batch_and_where_it_can_for_any_length(name, causal):
    backbone = make(name, causal=causal)
    axes = {0: torch.export.Dim.DYNAMIC, **({2: torch.export.Dim.DYNAMIC} if name in ANY_LENGTH else {})}
    with torch.no_grad():
        program = torch.export.export(backbone, (), {"signal": draw(2, 600)}, dynamic_shapes={"signal": axes})
        for signal in (draw(5, 600, seed=1), *([draw(3, 777, seed=2)] if name in ANY_LENGTH else [])):
            found, expected = program.module()(signal=signal), backbone(signal)
            torch.testing.assert_close(found["last_hidden_state"], expected.last_hidden_state, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found["pooler_output"], expected.pooler_output, rtol=1e-5, atol=1e-6)


@ONNX
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("causal", [False, True])
def test_onnx_gives_the_tokens_of_a_backbone_for_any_batch(name, causal, contract, tmp_path):
    onnx = pytest.importorskip("onnx")
    backbone = make(name, causal=causal)
    export_onnx(backbone, tmp_path / "model.onnx", 600, contract)
    signal = draw(5, 600, seed=1)
    found, session = run(tmp_path / "model.onnx", signal)
    with torch.no_grad():
        expected = backbone(signal)
    assert session.get_inputs()[0].shape == ["batch", 12, 600]
    for key in ("last_hidden_state", "pooler_output"):
        np.testing.assert_allclose(found[key], expected[key].numpy(), rtol=1e-5, atol=1e-5)
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert not operators & {"DFT", "STFT", "If", "Loop", "Scan"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@ONNX
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_onnx_gives_the_logits_of_a_classifier(name, contract, tmp_path):
    labels = {0: "MI", 1: "NORM", 2: "STTC"}
    few = {"num_layers": 1} if "num_layers" in CLASSIFIERS[name].config_class.__dataclass_fields__ else {}
    classifier = make(name, CLASSIFIERS[name], id2label=labels, head="attention", head_num_heads=2, **few)
    export_onnx(classifier, tmp_path / "model.onnx", 600, contract)
    signal = draw(5, 600, seed=1)
    found, _ = run(tmp_path / "model.onnx", signal)
    with torch.no_grad():
        expected = classifier(signal).logits
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], expected.numpy(), rtol=1e-5, atol=1e-5)


@ONNX
@pytest.mark.slow
def test_an_onnx_file_says_what_to_feed_it(contract, tmp_path):
    pytest.importorskip("onnxscript")
    labels = {0: "MI", 1: "NORM"}
    classifier = make("s4", CLASSIFIERS["s4"], num_layers=1, id2label=labels).train().to(torch.bfloat16)
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    export_onnx(classifier, tmp_path / "model.onnx", 240, contract)
    assert classifier.training and classifier.dtype == torch.bfloat16
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    found, session = run(tmp_path / "model.onnx", draw(1, 240))
    facts = session.get_modelmeta().custom_metadata_map
    assert found["logits"].shape == (1, 2)
    assert (facts["sampling_rate"], facts["unit"], facts["num_samples"]) == ("240.0", "mV", "240")
    assert facts["leads"].split(",") == list(LEADS)
    assert json.loads(facts["id2label"]) == {"0": "MI", "1": "NORM"}
    assert facts["problem_type"] == "multi_label_classification"
    read = EcgFeatureExtractor.from_dict(json.loads(facts["preprocessor_config"]))
    assert read.to_dict() == contract.to_dict()


def test_a_model_and_a_contract_that_do_not_fit_are_refused(contract, tmp_path):
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    backbone = make("s4", num_layers=1)
    with pytest.raises(TypeError, match=r"got EcgS4ForSupervised; for a pair, export pair\.backbone"):
        export_onnx(make("s4", PAIRS["s4-supervised"], num_layers=1), path, 240, contract)
    with pytest.raises(ValueError, match="at least the contract's 200, got 199"):
        export_onnx(backbone, path, 199, contract)
    with pytest.raises(ValueError, match=r"must have the model's 12 leads, got \['II'\]"):
        export_onnx(backbone, path, 240, EcgFeatureExtractor(leads=["II"]))
    assert list(tmp_path.iterdir()) == []


@ONNX
@pytest.mark.slow
def test_a_file_that_gives_something_else_is_not_written(contract, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(FixedStateSpace, "_sum_before", lambda self, entering: torch.zeros_like(entering))
    with pytest.raises(EcgIntegrityError, match="last_hidden_state of the file must equal the model's to 1e-05, got"):
        export_onnx(make("s4", num_layers=1), tmp_path / "model.onnx", 240, contract)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_error_names_it(contract, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'ecg_hf\[export\]'"):
        export_onnx(make("s4", num_layers=1), tmp_path / "model.onnx", 240, contract)
