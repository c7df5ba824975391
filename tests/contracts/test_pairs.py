import copy
import pickle

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
)

from ecg_hf import CLASSIFIERS, PAIRS, EcgFeatureExtractor
from tiny_models import make_config


def make_pair(name, **fields):
    pair = PAIRS[name]
    return pair(make_config(pair, num_labels=5, **fields)).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[1.0, 0, 0, 1, float("nan")], [0, 1, 0, 1, 0]])
    return {"signal": torch.randn(2, 12, 600, generator=generator), "labels": labels}


@pytest.mark.parametrize("name", PAIRS)
def test_pair_survives_save_and_load(name, batch, tmp_path):
    pair = make_pair(name)
    pair.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(loaded) is PAIRS[name]
    assert torch.equal(loaded(**batch).loss, pair(**batch).loss)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_model_gives_the_encoder_of_a_pair_bit_for_bit_at_every_load(name, dtype, batch, tmp_path):
    pair = make_pair(name).to(dtype)
    pair.save_pretrained(tmp_path)
    expected = pair.backbone(batch["signal"].to(dtype), output_hidden_states=True)
    for _ in range(3):
        pollution = [torch.full((1000, 100), float("nan")) for _ in range(10)]
        del pollution
        encoder = AutoModel.from_pretrained(tmp_path, dtype=dtype)
        output = encoder(batch["signal"].to(dtype), output_hidden_states=True)
        assert torch.equal(output.last_hidden_state, expected.last_hidden_state)
        assert torch.equal(output.pooler_output, expected.last_hidden_state.mean(dim=1))
        assert len(output.hidden_states) == len(encoder.layers) + 1
        assert not [key for key in encoder.state_dict() if "objective" in key]


@pytest.mark.parametrize("name", PAIRS)
def test_a_classifier_starts_from_the_backbone_of_a_pair(name, batch, tmp_path):
    pair = make_pair(name)
    pair.save_pretrained(tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    assert type(classifier) is CLASSIFIERS[name]
    for key, value in pair.backbone.state_dict().items():
        assert torch.equal(classifier.backbone.state_dict()[key], value), key
    output = classifier(**batch)
    assert output.logits.shape == (2, 5) and output.loss.isfinite()


@pytest.mark.parametrize("head", ["linear", "attention"])
def test_a_classifier_takes_over_the_readout_of_a_supervised_pair_and_keeps_it(head, batch, tmp_path):
    pair = make_pair("s4-supervised", head=head, head_num_heads=2)
    pair.save_pretrained(tmp_path / "pair")
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pair")
    assert torch.equal(classifier(**batch).loss, pair(**batch).loss)
    classifier.save_pretrained(tmp_path / "classifier")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier")
    assert torch.equal(again(**batch).logits, classifier(**batch).logits)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_survives_save_and_load(name, batch, tmp_path):
    kind = CLASSIFIERS[name]
    labels = {index: f"label {index}" for index in range(5)}
    config = make_config(kind, id2label=labels, head="attention", head_num_heads=2)
    classifier = kind(config).eval()
    classifier.save_pretrained(tmp_path)
    for _ in range(3):
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert loaded.config.id2label == labels
        assert torch.equal(loaded(**batch).logits, classifier(**batch).logits)


@pytest.mark.parametrize("name", PAIRS)
def test_loss_reaches_every_trainable_parameter(name, batch):
    pair = make_pair(name).train()
    pair(**batch).loss.backward()
    assert [key for key, value in pair.named_parameters() if value.requires_grad and value.grad is None] == []
    pair.after_step()


@pytest.mark.parametrize("name", PAIRS)
def test_the_classes_of_a_pair_pickle_and_copy(name, batch):
    config = make_config(PAIRS[name])
    assert pickle.loads(pickle.dumps(config)).to_dict() == config.to_dict()
    pair = make_pair(name)
    assert torch.equal(copy.deepcopy(pair)(**batch).loss, pair(**batch).loss)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_has_a_model_type_of_its_own(name):
    config = PAIRS[name].config_class
    assert config.model_type == f"ecg-{name}"
    assert type(AutoConfig.for_model(config.model_type)) is config


@pytest.mark.parametrize("name", PAIRS)
def test_the_input_contract_loads_from_the_folder_of_a_pair(name, tmp_path):
    make_pair(name).save_pretrained(tmp_path)
    extractor = EcgFeatureExtractor(sampling_rate=100, num_samples=64)
    extractor.save_pretrained(tmp_path)
    assert AutoFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()


def test_config_refuses_a_misspelt_field():
    with pytest.raises(TypeError, match="no field 'hiden_size'; its fields are"):
        PAIRS["s4-cpc"].config_class(hiden_size=8)


@pytest.mark.parametrize("name", PAIRS)
def test_every_buffer_is_saved_and_no_tensor_hides_outside_parameters_and_buffers(name):
    for key, module in make_pair(name).named_modules():
        assert not module._non_persistent_buffers_set, key
        assert not [attribute for attribute, value in vars(module).items() if isinstance(value, torch.Tensor)], key


def test_a_frozen_backbone_stays_in_evaluation_mode_without_gradients(batch):
    kind = CLASSIFIERS["s4-cpc"]
    classifier = kind(make_config(kind, num_labels=5))
    classifier.freeze_backbone()
    before = copy.deepcopy(classifier.backbone.state_dict())
    classifier.train()
    classifier(**batch).loss.backward()
    assert classifier.head.training and not any(module.training for module in classifier.backbone.modules())
    assert all(parameter.grad is None for parameter in classifier.backbone.parameters())
    assert all(torch.equal(value, before[key]) for key, value in classifier.backbone.state_dict().items())
