"""That a new backbone or objective costs one file and one line: both are added to a copy of the package."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ecg_hf
from ecg_hf.registry import BACKBONES, OBJECTIVES

BACKBONE = '''
"""A toy backbone: one convolution."""

from huggingface_hub.dataclasses import strict
from torch import nn

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.backbones.stem import ConvStem


@strict
class EcgToyConfig(BackboneConfig):
    """No further fields."""

    model_type = "ecg-toy"


class ToyLayer(nn.Module):
    """A map of each token."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, tokens):
        """Gives the next tokens, and what was added to them."""
        mixed = self.linear(tokens)
        return tokens + mixed, mixed


class EcgToyBackbone(Backbone):
    """A toy."""

    config_class = EcgToyConfig
    sizes = {"20k": {"hidden_size": 32}}

    def __init__(self, config):
        super().__init__(config)
        self.stem = ConvStem(config.num_leads, config.hidden_size)
        self.layers = nn.ModuleList([ToyLayer(config.hidden_size), ToyLayer(config.hidden_size)])
        self.post_init()

    @property
    def embed_stride(self):
        """Of the stem."""
        return ConvStem.stride
'''

OBJECTIVE = '''
"""A toy objective: tokens should be small."""

from ecg_hf.models.objectives.base import Objective, PretrainingOutput
from ecg_hf.models.objectives.health import feature_health


class Toy(Objective):
    """A toy."""

    def forward(self, backbone, signal, labels=None):
        """Computes the mean square."""
        tokens = backbone(signal)["last_hidden_state"]
        return PretrainingOutput(loss=tokens.square().mean(), metrics=feature_health(tokens))
'''

CHECK = """
    import tempfile
    import torch
    from transformers import AutoModel, AutoModelForPreTraining, AutoModelForSequenceClassification
    import ecg_hf

    print(len(ecg_hf.PAIRS), len(ecg_hf.CLASSIFIERS))
    for name in (name for name in ecg_hf.PAIRS if "toy" in name):
        kind = ecg_hf.PAIRS[name]
        pair = kind(kind.config_class(**kind.backbone_class.sizes["20k"], num_labels=3))
        pair(torch.randn(2, 12, 600), labels=torch.ones(2, 3)).loss.backward()
        pair.after_step()
        with tempfile.TemporaryDirectory() as folder:
            pair.save_pretrained(folder)
            assert type(AutoModelForPreTraining.from_pretrained(folder)) is kind
            assert AutoModel.from_pretrained(folder)(torch.randn(2, 12, 600)).last_hidden_state.shape[0] == 2
            assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 3
        print(name)
"""


@pytest.mark.parametrize(
    ("table", "folder", "line", "text", "added"),
    [
        (
            "BACKBONES",
            "models/backbones",
            '    "toy": "ecg_hf.models.backbones.toy:EcgToyBackbone",',
            BACKBONE,
            len(OBJECTIVES),
        ),
        (
            "OBJECTIVES",
            "models/objectives",
            '    "toy": "ecg_hf.models.objectives.toy:Toy",',
            OBJECTIVE,
            len(BACKBONES),
        ),
    ],
)
def test_a_new_kind_is_one_file_and_one_line(tmp_path, table, folder, line, text, added):
    package = tmp_path / "ecg_hf"
    shutil.copytree(Path(ecg_hf.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / folder / "toy.py").write_text(text)
    registry = package / "registry.py"
    registry.write_text(registry.read_text().replace(f"{table} = {{\n", f"{table} = {{\n{line}\n"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHECK)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts, *names = done.stdout.splitlines()
    pairs = len(BACKBONES) * len(OBJECTIVES) + added
    backbones = len(BACKBONES) + (table == "BACKBONES")
    assert counts == f"{pairs} {pairs + backbones}"
    assert len(names) == added
