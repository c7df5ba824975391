"""The one list of what transformers' tests do not ask of our models, with the reason for each."""

import functools
import re
import unittest
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from unittest import mock


@dataclass(frozen=True)
class Exemption:
    """A test that we skip. It is run all the same, and has to fail: else it is to be taken off this list.

    Args:
        test: Its name.
        families: Patterns of the names of the test classes for which it is skipped.
        why: It says nothing about these models.
    """

    test: str
    families: tuple[str, ...]
    why: str


_ENCODERS, _PAIRS = ("*EncoderTest",), ("*PairTest",)
_MODELS = (*_ENCODERS, *_PAIRS)

EXEMPTIONS = (
    Exemption(
        "test_model_get_set_embeddings",
        _MODELS,
        "it wants an nn.Embedding, and a signal needs none",
    ),
    Exemption(
        "test_load_save_without_tied_weights",
        _MODELS,
        "it writes a field into the config that ours refuses",
    ),
    Exemption("test_load_with_mismatched_shapes", _ENCODERS, "it changes the size of a vocabulary"),
    Exemption(
        "test_reverse_loading_mapping",
        _ENCODERS,
        "a classifier takes over a pair's readout by a renaming, and saves it under its own name",
    ),
    Exemption(
        "test_init_weights_can_init_buffers",
        ("S4*", "*Data2vecPairTest", "*DinosrPairTest", "*HubertppPairTest", "*JepaPairTest"),
        "state spaces and codebooks draw their buffers; test_can_init_all_missing_weights compares them seeded",
    ),
    Exemption("test_torch_save_load", ("*HubertppPairTest",), "it fails by itself where a buffer is boolean"),
    Exemption("test_num_layers_is_small", ("Cnn*", "Resnet*"), "a stage is a layer at least"),
    Exemption("test_attention_outputs", ("TransformerEncoderTest",), "attention's weights are not returned"),
    Exemption(
        "test_retain_grad_hidden_states_attentions",
        ("TransformerEncoderTest",),
        "attention's weights are not returned",
    ),
    Exemption("test_hidden_states_output", _PAIRS, "a pair gives a loss; its backbone gives hidden states"),
    Exemption(
        "test_retain_grad_hidden_states_attentions",
        _PAIRS,
        "a pair gives a loss; its backbone gives hidden states",
    ),
    Exemption(
        "test_model_outputs_equivalence",
        _PAIRS,
        "it asks for hidden states; suite_contract.py compares a pair's tuple with its output",
    ),
    Exemption(
        "test_attention_mask*",
        ("FeatureExtractorTest",),
        "signals are never padded: there is no such field",
    ),
)


@dataclass(frozen=True)
class Abstention:
    """Tests that skip themselves.

    Args:
        message: Regular expression of what they say.
        why: They are right, and what looks at the same instead.
        by_machine: Whether it depends on the machine and on what is installed, so that it need not occur.
    """

    message: str
    why: str
    by_machine: bool = False


ABSTENTIONS = (
    Abstention("^test requires ", "hardware or a package that we do not ask for", by_machine=True),
    Abstention("^test is slow$", "RUN_SLOW=1 runs it; test_backbones.py compiles every backbone", by_machine=True),
    Abstention("not supported on", "a type that the processor lacks", by_machine=True),
    Abstention("^test_resize_embeddings is set to `False`$", "there is no vocabulary"),
    Abstention("^This model doesn't use `inputs_embeds`$", "embed and encode are two methods"),
    Abstention("^No model with a differentiable loss was available to verify enable_input", "no input embeddings"),
    Abstention("^No (decoder-only|sequence-to-sequence) language modeling head", "there is no language"),
    Abstention("^Model does not have position embeddings$", "positions are not learned"),
    Abstention("no axial RoPE layer|does not support RoPE scaling|does not have RoPE$", "a signal has one axis"),
    Abstention("^This model has no `base_model_class` defined in tester", "it is for rope_scaling, of long texts"),
    Abstention("^Model does not output attentions$|not support output_attentions$", "no weights of attention"),
    Abstention("^Model architecture does not support attentions$", "no attention, or its backbone's family runs it"),
    Abstention("^Parts of this model don't support sdpa$", "no attention"),
    Abstention("^Model does not support sliding window mask$", "a crop is short"),
    Abstention("does not support grouped_mm$|no sparse experts|`output_router_logits`", "no mixture of experts"),
    Abstention("^(This model|Model) is not (a )?composite|^No subconfigs|does not support SDPA$", "configs are flat"),
    Abstention("^Model does not have a TP plan", "models are small enough for one device"),
    Abstention("has no _keep_in_fp32_modules", "only state spaces must stay in float32"),
    Abstention("^No conversion found for", "only classifiers take over weights under another name"),
    Abstention("`capture_outputs`|^Cannot capture hidden states", "layers return their states; nothing is hooked"),
    Abstention("^Could not locate the classification Linear", "the readout is a module of its own"),
)


def exempt(test, why):
    """Wraps a test such that it is skipped if it fails, and fails if it passes."""

    @functools.wraps(test)
    def run(self):
        try:
            # A part that skips itself does not speak for the others.
            with mock.patch.object(self, "subTest", lambda *_, **__: suppress(unittest.SkipTest)):
                test(self)
        except unittest.SkipTest as skipped:
            raise AssertionError(f"{test.__name__} skips itself, saying {skipped}: take it off the list") from skipped
        except Exception as error:
            raise unittest.SkipTest(f"exempt: {why}") from error
        self.fail(f"{test.__name__} passes: take it off the list")

    return run


def exempted(family, mixin):
    """Lists the tests of a family that are exempt, wrapped, by name."""
    return {
        test: exempt(getattr(mixin, test), one.why)
        for one in EXEMPTIONS
        if any(fnmatch(family, pattern) for pattern in one.families)
        for test in dir(mixin)
        if fnmatch(test, one.test)
    }


def audit(messages: Iterable[str], abstentions: Iterable[Abstention]) -> list[str]:
    """Compares why tests were skipped with the list.

    Args:
        messages: What the skipped tests of a whole run said.
        abstentions: That are listed.

    Returns:
        What is wrong: messages that are not on the list, and entries that no test said.
    """
    said = {message for message in messages if not message.startswith("exempt: ")}
    unlisted = [message for message in said if not any(re.search(one.message, message) for one in abstentions)]
    unsaid = [
        one.message
        for one in abstentions
        if not one.by_machine and not any(re.search(one.message, message) for message in said)
    ]
    return [
        *(f"skipped for a reason that is not on the list: {message}" for message in sorted(unlisted)),
        *(f"on the list, but nothing was skipped for it: {message}" for message in unsaid),
    ]
