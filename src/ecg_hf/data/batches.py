"""Batches for pretraining: random crops by position, so that one integer resumes a run, and tiles for validation."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ecg_hf.data.crops import crop_draws, crop_starts, tile
from ecg_hf.data.record_order import RecordOrder, positions_of_step
from ecg_hf.data.split import Split
from ecg_hf.errors import EcgIntegrityError


class MixedCrops(Dataset[dict[str, Any]]):
    """A dataset of random crops of the records of several splits, indexed by global position in a run.

    Args:
        splits: One split of each corpus.
        num_samples: Length of the crops, in samples.
        seed: Seed of the order and of the crops, from 0 to 2^64 - 1.
        weights: Sampling weight of each corpus; its number of records, or of patients, if None.
        sample_by: "record": an epoch has one crop of every record; "patient": one crop of every patient.
        targets: Labels of each split, shape (R, C) each, for a supervised objective.

    Raises:
        EcgIntegrityError: If `sample_by` is "patient" and the patient of a record is unknown.
    """

    def __init__(
        self,
        splits: Sequence[Split],
        num_samples: int,
        seed: int,
        *,
        weights: Sequence[float] | None = None,
        sample_by: str = "record",
        targets: Sequence[NDArray[np.float32]] | None = None,
    ):
        self.splits, self.num_samples, self.seed, self.targets = splits, num_samples, seed, targets
        self.patients = [Patients(split) for split in splits] if sample_by == "patient" else None
        self.order = RecordOrder([len(part) for part in self.patients or splits], weights, seed)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([position]).items()}

    def __getitems__(self, positions: list[int]) -> dict[str, Tensor]:
        """Returns the crops at consecutive positions.

        Args:
            positions: Consecutive positions, in increasing order, B of them.

        Returns:
            "signal", shape (B, L, T), and with targets "labels", shape (B, C).

        Raises:
            EcgIntegrityError: If a sample is not finite.
        """
        start, stop = positions[0], positions[-1] + 1
        corpora, records = self.order.take(start, stop)
        draws = crop_draws(self.seed, start, stop)
        signals, labels = [], []
        for corpus in np.unique(corpora):
            chosen, split = corpora == corpus, self.splits[corpus]
            own, own_draws = records[chosen], draws[chosen]
            if self.patients is not None:
                own = self.patients[corpus].draw(own, own_draws)
            crops = split.crops(own, crop_starts(own_draws, split.lengths[own], self.num_samples), self.num_samples)
            if not np.isfinite(sums := crops.sum(axis=(1, 2))).all():
                raise EcgIntegrityError(
                    f"record {split.record_id(int(own[~np.isfinite(sums)][0]))} of {split.corpus} has samples that "
                    "are not finite; verify the corpus and build or prepare it again"
                )
            signals.append(crops)
            if self.targets is not None:
                labels.append(self.targets[corpus][own])
        batch = {"signal": signals} | ({"labels": labels} if labels else {})
        return {name: torch.from_numpy(_put_back(parts, corpora)) for name, parts in batch.items()}

    def first_batches(self, number: int, size: int) -> Iterator[dict[str, Tensor]]:
        """Iterates over the first batches of a run, which are the same in every process.

        Args:
            number: Number of batches.
            size: Crops in a batch.
        """
        for index in range(number):
            yield self.__getitems__(list(range(index * size, (index + 1) * size)))


def _put_back(parts: list[NDArray[Any]], corpora: NDArray[np.int64]) -> NDArray[Any]:
    """Joins arrays that were read corpus by corpus, in the order of the positions."""
    if len(parts) == 1:
        return parts[0]
    joined = np.empty((len(corpora), *parts[0].shape[1:]), parts[0].dtype)
    joined[np.argsort(corpora, kind="stable")] = np.concatenate(parts)
    return joined


class Patients:
    """The patients of a split, and the records of each patient.

    Args:
        split: Split of records whose patients are known.

    Raises:
        EcgIntegrityError: If the patient of a record is unknown.
    """

    def __init__(self, split: Split):
        codes, count = split.patient_codes()
        self.records = np.argsort(codes, kind="stable")
        self.counts = np.bincount(codes, minlength=count)
        self.starts = np.cumsum(self.counts) - self.counts

    def __len__(self) -> int:
        return len(self.counts)

    def draw(self, patients: NDArray[np.int64], draws: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Chooses one record of each of several patients.

        Args:
            patients: Indices of the patients, shape (B,).
            draws: Random words, shape (B,), of which `crop_starts` uses the upper half and this method the lower half.

        Returns:
            Indices of the records, shape (B,).
        """
        low = draws & np.uint64(0xFFFF_FFFF)
        which = (low * self.counts[patients].astype(np.uint64)) >> np.uint64(32)
        records: NDArray[np.int64] = self.records[self.starts[patients] + which.astype(np.int64)]
        return records


class StepBatches(Sampler[list[int]]):
    """A batch sampler: the positions of each micro-batch of one rank, over a range of optimizer steps.

    Args:
        steps: Optimizer steps to load.
        batch_size: Crops of one optimizer step over all ranks and micro-batches.
        rank: Index of this process.
        world_size: Number of processes.
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


class EcgLoader(DataLoader[dict[str, Tensor]]):
    """A data loader of one rank's micro-batches: "signal", shape (B, L, T), and with targets "labels", shape (B, C).

    The batches depend on positions alone: any number of workers loads the same ones, and a run can resume at any step.

    Args:
        crops: Crops by position.
        batches: Positions of each micro-batch.
        num_workers: Number of processes that read; 0 reads in this process.
    """

    def __init__(self, crops: MixedCrops, batches: StepBatches, num_workers: int = 0):
        super().__init__(
            crops,
            batch_sampler=batches,
            collate_fn=_as_is,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            # The loader has its own generator, since drawing from the global one would change a resumed run.
            generator=torch.Generator(),
        )


def _as_is(batch: Any) -> Any:
    return batch


def tile_batches(
    splits: Sequence[Split],
    targets: Sequence[NDArray[np.float32]] | None,
    num_samples: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[dict[str, Tensor]]:
    """Cuts the records of one rank into disjoint tiles and batches the tiles, always in the same order.

    Args:
        splits: Splits to cut.
        targets: Labels of each split, shape (R, C) each; None if the objective uses no labels.
        num_samples: Length of a tile, in samples.
        batch_size: Tiles in a batch; the last batch may have fewer.
        rank: Index of this process, which takes every `world_size`-th record.
        world_size: Number of processes.

    Yields:
        "signal", shape (B, L, T), and with targets "labels", shape (B, C).
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
