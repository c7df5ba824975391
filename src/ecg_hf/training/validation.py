"""The validation loss of a pair, over all tiles of the validation records."""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor

from ecg_hf.data.batches import MixedCrops, tile_batches
from ecg_hf.models.pairs import Pair


@torch.no_grad()
def validation_loss(
    pair: Pair, validation: MixedCrops, num_samples: int, batch_size: int, accelerator: Accelerator
) -> float:
    """Computes the loss averaged over all disjoint tiles of all records, which are divided among the processes.

    Args:
        pair: Pair to evaluate; it is left in training mode.
        validation: Validation records, with their labels if the objective uses labels.
        num_samples: Length of a tile, in samples.
        batch_size: Tiles in a batch.
        accelerator: Accelerator of the run.

    Returns:
        The mean loss per tile, equal on all processes.
    """
    pair.eval()
    rank, world = accelerator.process_index, accelerator.num_processes
    sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for batch, size in _as_many_batches(validation, num_samples, batch_size, rank, world):
        with accelerator.autocast():
            loss = pair(**send_to_device(batch, accelerator.device)).loss
        if size:
            sums += torch.stack([loss.double() * size, torch.full_like(loss, size, dtype=torch.float64)])
    pair.train()
    total, count = accelerator.reduce(sums, "sum").tolist()
    return float(total / count)


def _as_many_batches(
    validation: MixedCrops, num_samples: int, batch_size: int, rank: int, world: int
) -> Iterator[tuple[dict[str, Tensor], int]]:
    """Yields equally many batches in each process, each with the number of its tiles that count, which may be 0.

    A forward pass of sharded weights needs all processes.
    """
    most = max(
        -(-sum(int((split.lengths[other::world] // num_samples).sum()) for split in validation.splits) // batch_size)
        for other in range(world)
    )
    given = 0
    for batch in tile_batches(validation.splits, validation.targets, num_samples, batch_size, rank, world):
        yield batch, len(batch["signal"])
        given += 1
    if given < most:
        spare = next(tile_batches(validation.splits, validation.targets, num_samples, batch_size))
        yield from [(spare, 0)] * (most - given)
