"""The loss of a pair on records that it does not learn from."""

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from ecg_hf.loader import MixedCrops, tile_batches
from ecg_hf.pretraining import Pair


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
    batches = tile_batches(validation.splits, validation.targets, num_samples, batch_size, rank, world)
    sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for batch in batches:
        with accelerator.autocast():
            loss = pair(**send_to_device(batch, accelerator.device)).loss
        size = len(batch["signal"])
        sums += torch.stack([loss.double() * size, torch.full_like(loss, size, dtype=torch.float64)])
    pair.train()
    total, count = accelerator.reduce(sums, "sum").tolist()
    return float(total / count)
