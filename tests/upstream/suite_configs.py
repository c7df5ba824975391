"""Transformers' common config tests, over the config of every backbone and pair."""

import unittest

import pytest
from families import SignalTester
from transformers_tests.test_configuration_common import ConfigTester

from ecg_hf import CLASSIFIERS


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_config(name):
    fields = SignalTester(CLASSIFIERS[name], {}).get_fields()
    kind = CLASSIFIERS[name].config_class
    shared = ["num_leads", "hidden_size", "causal", "head"]
    tester = ConfigTester(unittest.TestCase(), kind, has_text_modality=False, common_properties=shared, **fields)
    tester.run_common_tests()
