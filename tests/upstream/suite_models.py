"""Transformers' common model tests, over every backbone, classifier and pair that is registered."""

import unittest

from families import families
from skips import exempted
from transformers_tests import test_modeling_common
from transformers_tests.test_modeling_common import ModelTesterMixin

# It would write larger epsilons into the config, under names that ours refuses.
test_modeling_common.set_config_for_less_flaky_test = lambda config: None

for _name, (_base, _attributes) in families().items():
    _body = {**_attributes, **exempted(_name, ModelTesterMixin), "__module__": __name__}
    globals()[_name] = type(_name, (_base, ModelTesterMixin, unittest.TestCase), _body)
