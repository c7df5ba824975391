"""The list of skips, and what keeps it true."""

import unittest
from fnmatch import fnmatch

import pytest
from families import families
from skips import ABSTENTIONS, EXEMPTIONS, Abstention, audit, exempt
from transformers_tests.test_modeling_common import ModelTesterMixin
from transformers_tests.test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin

NAMES = [*families(), "FeatureExtractorTest"]
TESTS = [*dir(ModelTesterMixin), *dir(SequenceFeatureExtractionTestMixin)]
LISTED = (Abstention("^no GPU$", "", by_machine=True), Abstention("^no text$", ""))


class Example(unittest.TestCase):
    __test__ = False

    def test_that_fails(self):
        with self.subTest("part"):
            self.fail()

    def test_that_passes(self):
        pass

    def test_that_skips(self):
        self.skipTest("no GPU")


@pytest.mark.parametrize("one", EXEMPTIONS, ids=lambda one: f"{one.test}-{one.families[0]}")
def test_an_exemption_names_a_test_and_families_that_exist_and_says_why(one):
    assert any(fnmatch(test, one.test) for test in TESTS)
    for pattern in one.families:
        assert any(fnmatch(name, pattern) for name in NAMES), pattern
    assert one.why


@pytest.mark.parametrize("one", ABSTENTIONS, ids=lambda one: one.message)
def test_an_abstention_says_why(one):
    assert one.message and one.why


def test_a_test_that_is_exempt_has_to_fail():
    with pytest.raises(unittest.SkipTest, match="exempt: no vocabulary"):
        exempt(Example.test_that_fails, "no vocabulary")(Example())
    for test in (Example.test_that_passes, Example.test_that_skips):
        with pytest.raises(AssertionError, match="take it off the list"):
            exempt(test, "no vocabulary")(Example())


def test_a_skip_that_is_not_listed_and_an_entry_that_skips_nothing_are_found():
    assert audit(["no text", "exempt: no vocabulary"], LISTED) == []
    assert audit(["no text", "no luck"], LISTED) == ["skipped for a reason that is not on the list: no luck"]
    assert audit(["no GPU"], LISTED) == ["on the list, but nothing was skipped for it: ^no text$"]
