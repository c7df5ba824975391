"""That folders which an older version saved load as they did: they name no module of the package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining, AutoModelForSequenceClassification

from ecg_hf import PAIRS

SAVED = Path(__file__).parent / "saved"  # written by version 0.1.0 when its modules lay in one flat folder
EXPECTED = json.loads((SAVED / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def signal():
    time = np.arange(600) / 240
    return np.stack([np.sin(2 * np.pi * (1 + lead / 4) * time) + 0.1 * np.cos(34 * np.pi * time) for lead in range(12)])


@pytest.mark.parametrize("name", ["s4-cpc", "resnet-jepa"])
def test_a_pair_that_an_older_version_saved_gives_the_tokens_it_gave(name, signal):
    assert type(AutoModelForPreTraining.from_pretrained(SAVED / name)) is PAIRS[name]
    features = AutoFeatureExtractor.from_pretrained(SAVED / name)(signal, sampling_rate=240, return_tensors="pt")
    with torch.no_grad():
        tokens = AutoModel.from_pretrained(SAVED / name)(**features).last_hidden_state
    assert np.allclose(tokens[0, :2, :5], EXPECTED[name], atol=1e-5)


def test_a_classifier_that_an_older_version_saved_gives_the_logits_it_gave(signal):
    folder = SAVED / "classifier"
    features = AutoFeatureExtractor.from_pretrained(folder)(signal, sampling_rate=240, return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(folder)(**features).logits
    assert np.allclose(logits, EXPECTED["classifier"], atol=1e-5)
