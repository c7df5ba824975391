"""Examples of fine-tuning: one random crop of each record per epoch for training, all its tiles for scoring."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ecg_hf.data.crops import crop_draws, crop_starts, tile
from ecg_hf.data.targets import LabelledSplit

Batch = dict[str, Tensor]


class Examples(torch.utils.data.Dataset[Batch], ABC):
    """A dataset of examples that are read a batch at a time."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, indices: list[int]) -> Batch: ...

    def scoring_batch(self, batch_size: int) -> int:
        """Returns the number of examples in a batch for scoring, given the `batch_size` for training."""
        return batch_size

    def __getitem__(self, index: int) -> Batch:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}


class OnePerRecord(Examples):
    """One example of every record, drawn again in each epoch as a function of seed, epoch and record.

    Args:
        split: Records with their targets.
        seed: Seed of the draws.
    """

    def __init__(self, split: LabelledSplit, seed: int):
        self.split, self.seed = split, seed
        self._drawn: tuple[int, NDArray[np.uint64]] | None = None
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.split.records)

    def draws(self) -> NDArray[np.uint64]:
        """Draws one random number for each record in this epoch, shape (R,)."""
        if self._drawn is None or self._drawn[0] != self.epoch:
            self._drawn = self.epoch, crop_draws(self.seed, self.epoch * len(self), (self.epoch + 1) * len(self))
        return self._drawn[1]


class RandomCrops(OnePerRecord):
    """One random crop of every record in each epoch.

    Args:
        split: Records with their targets.
        num_samples: Length of a crop, in samples.
        seed: Seed of the crop positions.
    """

    def __init__(self, split: LabelledSplit, num_samples: int, seed: int):
        super().__init__(split, seed)
        self.num_samples = num_samples

    def __getitems__(self, indices: list[int]) -> Batch:
        which, records = np.array(indices), self.split.records
        starts = crop_starts(self.draws()[which], records.lengths[which], self.num_samples)
        crops = records.crops(which, starts, self.num_samples)
        return {"signal": torch.from_numpy(crops), "labels": torch.from_numpy(self.split.targets[which])}


class Tiles(Examples):
    """The disjoint tiles of every record, each with the index of its record.

    Args:
        split: Records with their targets.
        num_samples: Length of a tile, in samples.
    """

    def __init__(self, split: LabelledSplit, num_samples: int):
        self.split, self.num_samples = split, num_samples
        self.record, self.tile = number_tiles(split.records.lengths // num_samples)

    def __len__(self) -> int:
        return len(self.record)

    def __getitems__(self, indices: list[int]) -> Batch:
        records, places = np.unique(self.record[indices], return_inverse=True)
        tiles = [tile(self.split.records.signal(int(record)), self.num_samples) for record in records]
        chosen = [tiles[place][number] for place, number in zip(places, self.tile[indices], strict=True)]
        return {"signal": torch.from_numpy(np.stack(chosen)), **told(self.split, self.record[indices])}


def number_tiles(counts: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers the tiles of all records, record by record.

    Args:
        counts: Number of tiles of each record, shape (R,).

    Returns:
        The record of each tile, and the tile's number within its record; shape (num_tiles,) each.

    Example:
        >>> number_tiles(np.array([2, 3]))
        (array([0, 0, 1, 1, 1]), array([0, 1, 0, 1, 2]))
    """
    record = np.repeat(np.arange(len(counts)), counts)
    return record, np.arange(len(record)) - np.repeat(np.cumsum(counts) - counts, counts)


def told(split: LabelledSplit, record: NDArray[np.int64]) -> Batch:
    """Returns the targets of tiles by their records, shape (B, C), and the indices of these records, shape (B,)."""
    return {"labels": torch.from_numpy(split.targets[record]), "record": torch.from_numpy(record)}


class EpochOfExamples(TrainerCallback):
    """A callback that tells the examples the number of the epoch."""

    def __init__(self, examples: OnePerRecord):
        self.examples = examples

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the epoch before its first batch is drawn."""
        self.examples.epoch = round(state.epoch or 0)
