"""Batches for pretraining: a crop is a function of its position, so a run resumes from one integer."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ecg_hf.crops import CropCollator, tile
from ecg_hf.order import RecordOrder, positions_of_step
from ecg_hf.prepared import PreparedSplit


class PositionedRecords(Dataset[dict[str, Any]]):
    """The records of several splits, by their global position in a run.

    Args:
        splits: One for each corpus.
        targets: Labels of each split, (R, C) each, for a supervised objective.
        weights: How often each corpus is drawn; by its number of records if None.
        seed: Of the order.
    """

    def __init__(
        self,
        splits: Sequence[PreparedSplit],
        targets: Sequence[NDArray[np.float32]] | None,
        weights: Sequence[float] | None,
        seed: int,
    ):
        self.splits = splits
        self.targets = targets
        self.order = RecordOrder([len(split) for split in splits], weights, seed)

    def __getitem__(self, position: int) -> dict[str, Any]:
        corpus, index = self.order[position]
        row = {"signal": self.splits[corpus].signal(index), "position": position}
        if self.targets is not None:
            row["labels"] = self.targets[corpus][index]
        return row


class StepBatches(Sampler[list[int]]):
    """The positions of each micro-batch of one rank, from one optimizer step on.

    Args:
        steps: The optimizer steps to come.
        batch_size: Crops of one optimizer step over all ranks and micro-batches.
        rank: This process.
        world_size: How many processes there are.
        accumulation: Micro-batches of a process in one step.
    """

    def __init__(self, steps: range, batch_size: int, rank: int, world_size: int, accumulation: int):
        self.steps = steps
        self.share = (batch_size, rank, world_size, accumulation)

    def __len__(self) -> int:
        return len(self.steps) * self.share[-1]

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            for positions in positions_of_step(step, *self.share):
                yield list(positions)


def crop_loader(
    records: PositionedRecords, batches: StepBatches, num_samples: int, seed: int, num_workers: int
) -> DataLoader[dict[str, Any]]:
    """Makes the loader of training batches: {"signal": (B, L, T)} and "labels" (B, C) where there are targets."""
    return DataLoader(
        records,
        batch_sampler=batches,
        collate_fn=CropCollator(num_samples, seed),
        num_workers=num_workers,
        # A generator of its own, or else starting the loader would move the global one and a resumed run would differ.
        generator=torch.Generator(),
    )


def tile_batches(
    splits: Sequence[PreparedSplit],
    targets: Sequence[NDArray[np.float32]] | None,
    num_samples: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[dict[str, Tensor]]:
    """Cuts every record into disjoint tiles and batches those of this rank, always in the same order.

    Args:
        splits: The records.
        targets: Labels of each split, (R, C) each, if the objective wants them.
        num_samples: Length of a tile.
        batch_size: Tiles in a batch.
        rank: This process; it takes every `world_size`-th record.
        world_size: How many processes there are.
    """
    signals: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.float32]] = []
    for number, split in enumerate(splits):
        for index in range(rank, len(split), world_size):
            tiles = tile(split.signal(index), num_samples)
            signals.extend(tiles)
            if targets is not None:
                labels.extend([targets[number][index]] * len(tiles))
            while len(signals) >= batch_size:
                yield _batch(signals[:batch_size], labels[:batch_size])
                del signals[:batch_size], labels[:batch_size]
    if signals:
        yield _batch(signals, labels)


def _batch(signals: list[NDArray[np.float32]], labels: list[NDArray[np.float32]]) -> dict[str, Tensor]:
    batch = {"signal": torch.from_numpy(np.stack(signals))}
    return batch | {"labels": torch.from_numpy(np.stack(labels))} if labels else batch
