import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ecg_hf import CLASSIFIERS
from ecg_hf.registry import BACKBONES, load

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
NAMES = sorted(BACKBONES)


def make(name):
    backbone = load(BACKBONES, name)
    torch.manual_seed(0)
    return CLASSIFIERS[name](backbone.config_class(**backbone.sizes["20k"], num_labels=3))


def adapt(classifier):
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=classifier.backbone.adapter_modules(), modules_to_save=["head"]
    )
    return peft.get_peft_model(classifier, config)


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(4, 12, 300, generator=generator)
    return {"signal": signal, "labels": torch.randint(2, (4, 3), generator=generator).float()}


def learn(model, num_steps=3):
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=1.0)
    model.train()
    for seed in range(num_steps):
        model(**draw(seed)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
def test_adapter_modules_are_the_plain_linear_maps_and_convolutions_of_the_layers(name):
    backbone = make(name).backbone
    chosen = backbone.adapter_modules()
    plain = {
        key
        for key, module in backbone.named_modules()
        if key.startswith("layers.") and type(module) in (torch.nn.Linear, torch.nn.Conv1d)
    }
    assert chosen and set(chosen) == {key for key in plain if getattr(backbone.get_submodule(key), "groups", 1) == 1}


@pytest.mark.parametrize("name", NAMES)
def test_only_the_adapter_and_the_head_learn(name):
    classifier = make(name)
    before = {key: value.clone() for key, value in classifier.backbone.state_dict().items()}
    num_targets = len(classifier.backbone.adapter_modules())
    adapted = adapt(classifier)
    names = [key for key, value in adapted.named_parameters() if value.requires_grad]
    assert all(".lora_" in key or ".head.modules_to_save." in key for key in names)
    assert len([key for key in names if ".lora_B." in key]) == num_targets
    start = {key: value.detach().clone() for key, value in adapted.named_parameters()}
    learn(adapted)
    moved = {key for key, value in adapted.named_parameters() if not torch.equal(value, start[key])}
    assert moved <= set(names) and {key for key in names if ".lora_A." not in key} <= moved
    after = classifier.backbone.state_dict()
    kept = {key.replace(".base_layer", ""): value for key, value in after.items() if ".lora_" not in key}
    assert kept.keys() == before.keys()
    assert [key for key, value in before.items() if not torch.equal(value, kept[key])] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_merged_adapter_gives_the_same_logits(name):
    classifier, batch = make(name).eval(), draw(9)
    with torch.no_grad():
        plain = classifier(**batch).logits
    adapted = learn(adapt(classifier))
    with torch.no_grad():
        logits = adapted(**batch).logits
        merged = adapted.merge_and_unload()
        assert type(merged) is CLASSIFIERS[name]
        assert not [key for key in merged.state_dict() if "lora" in key]
        torch.testing.assert_close(merged(**batch).logits, logits, rtol=1e-4, atol=1e-5)
    assert (logits - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_is_saved_alone_and_loads_onto_its_model(name, tmp_path):
    classifier, batch = make(name), draw(9)
    classifier.save_pretrained(tmp_path / "model")
    adapted = learn(adapt(classifier))
    adapted.save_pretrained(tmp_path / "adapter")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    loaded = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, adapted(**batch).logits, rtol=1e-5, atol=1e-6)
