"""What transformers asks of a model and its common tests leave out."""

import pytest
import torch
from families import SignalTester

from ecg_hf import CLASSIFIERS, PAIRS

MODELS = {f"{name}-pair": kind for name, kind in PAIRS.items()} | CLASSIFIERS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("by_config", [False, True])
def test_a_tuple_holds_what_the_output_holds(name, by_config):
    tester = SignalTester(MODELS[name], {})
    config, inputs = tester.prepare_config_and_inputs_for_common()
    inputs["labels"] = torch.zeros(tester.batch_size, config.num_labels)
    torch.manual_seed(0)
    model = MODELS[name](config).eval()
    output = model(**inputs)
    config.return_dict = not by_config
    values = model(**inputs) if by_config else model(**inputs, return_dict=False)
    assert isinstance(values, tuple) and len(values) == len(output.to_tuple())
    assert torch.equal(values[0], output.loss)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_attends_as_its_backbone_can(name):
    config, _ = SignalTester(MODELS[name], {}).prepare_config_and_inputs_for_common()
    with torch.device("meta"):
        model = MODELS[name](config)
        alone = MODELS[name].backbone_class(SignalTester(MODELS[name], {}).get_config())
    assert model.backbone.config._attn_implementation == alone.config._attn_implementation
