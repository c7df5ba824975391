"""What transformers' common tests need to know of a family of models: its classes, a tiny config and a batch."""

import copy
from contextlib import contextmanager
from typing import ClassVar

import torch
from transformers.models.auto import modeling_auto

from ecg_hf import CLASSIFIERS, PAIRS
from ecg_hf.registry import BACKBONES, load
from tiny_models import make_config

NUM_SAMPLES = 300
# Where a config has such a field, something smaller than its smallest size.
SMALLER = {"num_layers": 2, "prediction_offset": 2}


class SignalTester:
    """Makes the config and the batch of a family, under the names that transformers' tests use."""

    is_training = True
    batch_size = 3

    def __init__(self, kind, fields):
        self.kind = kind
        self.fields = fields
        with torch.device("meta"):
            backbone = kind.backbone_class(self.get_config())
        self.hidden_size = backbone.config.embed_size
        self.encoder_seq_length = self.seq_length = -(-NUM_SAMPLES // backbone.embed_stride)
        self.num_hidden_layers = len(backbone.layers)

    def get_config(self):
        known = self.kind.config_class.__dataclass_fields__
        smaller = {field: value for field, value in SMALLER.items() if field in known}
        return make_config(self.kind, **smaller, **self.fields)

    def get_fields(self):
        """Gives the fields of the config that are not at their default."""
        usual, tiny = self.kind.config_class(), self.get_config()
        fields = self.kind.config_class.__dataclass_fields__
        return {field: getattr(tiny, field) for field in fields if getattr(tiny, field) != getattr(usual, field)}

    def prepare_config_and_inputs_for_common(self):
        generator = torch.Generator().manual_seed(0)
        signal = torch.randn(self.batch_size, 12, NUM_SAMPLES, generator=generator)
        return self.get_config(), {"signal": signal}


class Family:
    """A mixin that comes before ModelTesterMixin; `kind` is a pair or a classifier."""

    test_can_init_all_missing_weights_before_2023 = True
    test_resize_embeddings = False
    fields: ClassVar = {}

    @classmethod
    def setUpClass(cls):
        cls.model_tester = SignalTester(cls.kind, cls.fields)

    @contextmanager
    def subTest(self, *about, **values):
        """Reports a part of a test only if it fails or is skipped: there are thousands, one for each parameter."""
        try:
            yield
        except Exception:
            with super().subTest(*about, **values):
                raise


class EncoderFamily(Family):
    """A backbone and its classifier."""

    # The labels that transformers' tests make are class indices.
    fields: ClassVar = {"problem_type": "single_label_classification"}


class PairFamily(Family):
    """A pair alone: it gives a loss."""

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Adds the labels without which a supervised pair has no loss."""
        inputs = copy.deepcopy(inputs_dict)
        inputs["labels"] = torch.zeros(len(inputs["signal"]), self.model_tester.get_config().num_labels)
        return inputs


def families():
    """Lists all families by the name of their test class, and enters their classes in the tables of the tests."""
    found = {}
    for name, classifier in CLASSIFIERS.items():
        encoder = load(BACKBONES, name) if name in BACKBONES else PAIRS[name].backbone_class
        model_type = classifier.config_class.model_type
        modeling_auto.MODEL_MAPPING_NAMES[model_type] = encoder.__name__
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[model_type] = classifier.__name__
        title = "".join(part.capitalize() for part in name.split("-"))
        # Pairs attend with the code of their backbone, of which once is enough.
        attends = {"has_attentions": name in BACKBONES and encoder._supports_sdpa}
        found[f"{title}EncoderTest"] = (
            EncoderFamily,
            {"kind": classifier, "all_model_classes": (encoder, classifier), **attends},
        )
        if name in PAIRS:
            pair = {"kind": PAIRS[name], "all_model_classes": (PAIRS[name],), **attends}
            found[f"{title}PairTest"] = (PairFamily, pair)
    return found
