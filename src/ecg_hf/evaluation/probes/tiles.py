"""Examples of cached features, and a head as a module of its own, which is trained on them."""

from typing import Any

import numpy as np
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from ecg_hf.data.crops import crop_starts
from ecg_hf.data.targets import LabelledSplit
from ecg_hf.evaluation.examples import Batch, Examples, OnePerRecord, number_tiles, told
from ecg_hf.evaluation.probes.frozen_features import FrozenFeatures
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.models.heads import masked_loss

SCORED_VALUES = 2**21  # 8 MB of features at once


class Probe(nn.Module):
    """The head of a classifier as a module that takes features; it shares the parameters of the classifier's head.

    Args:
        model: Classifier whose head is trained.
    """

    accepts_loss_kwargs = False  # see EcgModel

    def __init__(self, model: EcgForSequenceClassification):
        super().__init__()
        self.head, self.problem_type = model.head, model.config.problem_type

    def forward(self, features: Tensor, labels: Tensor | None = None, **_: Any) -> SequenceClassifierOutput:
        """Maps features (B, ...) to logits (B, C), with the loss if labels (B, C) are given."""
        logits = self.head.read(features)
        loss = None if labels is None else masked_loss(logits, labels, self.problem_type)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class RandomTiles(OnePerRecord):
    """The features of one random tile of every record.

    Args:
        split: Records with their targets.
        features: Features of these records.
        seed: Seed of the choice of tiles.
    """

    def __init__(self, split: LabelledSplit, features: FrozenFeatures, seed: int):
        super().__init__(split, seed)
        self.features = features

    def __getitems__(self, indices: list[int]) -> Batch:
        which = np.array(indices)
        number = crop_starts(self.draws()[which], self.features.counts[which], 1)
        batch = told(self.split, which)
        return {"features": self.features.take(self.features.first[which] + number), "labels": batch["labels"]}


class FeatureTiles(Examples):
    """The features of all tiles of every record, each with the index of its record.

    Args:
        split: Records with their targets.
        features: Features of these records.
    """

    def __init__(self, split: LabelledSplit, features: FrozenFeatures):
        self.split, self.features = split, features
        self.record, number = number_tiles(features.counts)
        self.place = features.first[self.record] + number

    def __len__(self) -> int:
        return len(self.record)

    def scoring_batch(self, batch_size: int) -> int:
        """Returns the number of tiles to score at once: more than in training, as pooled features are small."""
        return max(batch_size, SCORED_VALUES // int(np.prod(self.features.values.shape[1:])))

    def __getitems__(self, indices: list[int]) -> Batch:
        return {"features": self.features.take(self.place[indices]), **told(self.split, self.record[indices])}
