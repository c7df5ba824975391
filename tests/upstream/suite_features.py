"""Transformers' common tests of feature extractors, over ours."""

import unittest

import numpy as np
from skips import exempted
from transformers_tests.test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin

from ecg_hf import EcgFeatureExtractor


class SequenceTester:
    """Makes signals of several lengths, time first as `pad` wants them, under the names that the tests use."""

    batch_size = 7
    min_seq_length, max_seq_length = 400, 2000
    seq_length_diff = (max_seq_length - min_seq_length) // (batch_size - 1)
    feature_size = 12

    def prepare_feat_extract_dict(self):
        return {"sampling_rate": 240.0, "num_samples": 400, "normalization": "record"}

    def prepare_inputs_for_common(self, equal_length=False, numpify=False):
        generator = np.random.default_rng(0)
        lengths = [self.min_seq_length + index * self.seq_length_diff for index in range(self.batch_size)]
        lengths = [self.max_seq_length] * self.batch_size if equal_length else lengths
        signals = [generator.standard_normal((length, self.feature_size), np.float32) for length in lengths]
        return signals if numpify else [signal.tolist() for signal in signals]


class _Family:
    feature_extraction_class = EcgFeatureExtractor
    feat_extract_tester = SequenceTester()


_NAME = "FeatureExtractorTest"
_BODY = {**exempted(_NAME, SequenceFeatureExtractionTestMixin), "__module__": __name__}
FeatureExtractorTest = type(_NAME, (_Family, SequenceFeatureExtractionTestMixin, unittest.TestCase), _BODY)
