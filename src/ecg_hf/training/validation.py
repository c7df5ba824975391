"""The loss of a pair on records that it does not learn from."""

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
    """Averages the loss over all disjoint tiles of all records, which the processes share.

    Args:
        pair: Which is in training mode again afterwards.
        validation: The records, and their labels if the objective wants them.
        num_samples: Length of a tile.
        batch_size: Tiles in a batch.
        accelerator: Of the run.
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
    """Gives as many batches to each process, each with the number of tiles that count, which may be none.

    Where weights are sharded, a forward pass needs all processes.
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
