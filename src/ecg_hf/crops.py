"""Crops of fixed length: random ones for training, disjoint tiles for evaluation, and the collator of batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def crop_rng(seed: int, position: int) -> np.random.Generator:
    """Gives the random numbers of one position of a run: the same wherever, whenever and in whatever order it is read.

    Args:
        seed: From 0 to 2^64 - 1.
        position: The global position of the crop in the run, from 0 (see `ecg_hf.order`).

    Returns:
        A fresh generator; two different (seed, position) never share a stream.
    """
    return np.random.Generator(np.random.Philox(key=[seed, position]))


def random_crop(signal: NDArray[np.float32], num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Takes a crop whose start is uniform over all that fit, the first and the last included.

    Args:
        signal: Shape (..., T).
        num_samples: Length of the crop, in samples.
        rng: Where the start is drawn from.

    Returns:
        A view of shape (..., num_samples).

    Raises:
        ValueError: If the signal is shorter than the crop.
    """
    _require_length(signal, num_samples)
    start = int(rng.integers(signal.shape[-1] - num_samples + 1))
    return signal[..., start : start + num_samples]


def tile(signal: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    """Cuts a signal into crops that follow each other; what is left at the end, less than one crop, is dropped.

    Args:
        signal: Shape (L, T).
        num_samples: Length of each crop, in samples.

    Returns:
        A view of shape (T // num_samples, L, num_samples).

    Raises:
        ValueError: If the signal is shorter than one crop.
    """
    _require_length(signal, num_samples)
    num_leads, length = signal.shape
    num_tiles = length // num_samples
    return signal[:, : num_tiles * num_samples].reshape(num_leads, num_tiles, num_samples).swapaxes(0, 1)


def _require_length(signal: NDArray[np.float32], num_samples: int) -> None:
    if num_samples < 1:
        raise ValueError(f"a crop must have at least 1 sample, got {num_samples}")
    if signal.shape[-1] < num_samples:
        raise ValueError(
            f"a crop of {num_samples} samples does not fit a signal of {signal.shape[-1]}; "
            "leave the record out or ask for a shorter crop"
        )


def average_by_record(
    scores: NDArray[np.floating[Any]], record_ids: Sequence[str] | Sequence[int] | NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Averages the scores of the tiles of each record.

    Args:
        scores: One row for each tile, shape (num_tiles, C); probabilities or regression values, not logits.
        record_ids: The record that each tile comes from, in any order.

    Returns:
        The records in the order of their first tile, and their mean scores, shape (num_records, C).

    Raises:
        ValueError: If there is not one record for each row of scores.
    """
    if len(scores) != len(record_ids):
        raise ValueError(f"there must be one record for each row of scores, got {len(record_ids)} for {len(scores)}")
    unique, first, inverse = np.unique(np.asarray(record_ids), return_index=True, return_inverse=True)
    sums = np.zeros((len(unique), *scores.shape[1:]))
    np.add.at(sums, inverse, scores)
    counts = np.bincount(inverse, minlength=len(unique))
    order = np.argsort(first)
    return unique[order], (sums / counts.reshape(-1, *[1] * (scores.ndim - 1)))[order]


@dataclass(frozen=True)
class CropCollator:
    """Makes a training batch: one random crop of each row, the same whichever process or batch the row falls into.

    A row is a dict with `signal` (L, T), `position` (its global position in the run) and, if there are any, `labels`;
    other entries, such as `record_id`, only serve to name the row in an error and do not reach the batch.

    Args:
        num_samples: Length of the crops, in samples.
        seed: The seed of the run, from 0 to 2^64 - 1.
    """

    num_samples: int
    seed: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collates rows.

        Args:
            rows: As described above, at least one.

        Returns:
            `signal`, shape (B, L, num_samples), float32, and `labels`, shape (B, ...), float32 or int64, if given.

        Raises:
            KeyError: If a row lacks its position.
            ValueError: If a signal is too short or not finite, or the rows do not agree in leads or in labels.
        """
        crops = [self._crop(row) for row in rows]
        if len({len(crop) for crop in crops}) != 1:
            raise ValueError(f"all rows of a batch must have the same leads, got {[len(crop) for crop in crops]} leads")
        batch = {"signal": torch.from_numpy(np.stack(crops))}
        num_labelled = sum("labels" in row for row in rows)
        if num_labelled not in (0, len(rows)):
            raise ValueError(f"either all rows or none must have labels, got {num_labelled} of {len(rows)}")
        if num_labelled:
            labels = np.stack([np.asarray(row["labels"]) for row in rows])
            batch["labels"] = torch.from_numpy(labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float32))
        return batch

    def _crop(self, row: dict[str, Any]) -> NDArray[np.float32]:
        name = row.get("record_id", "without record_id")
        if "position" not in row:
            raise KeyError(f"row {name} has no 'position', which its crop is a function of; its keys are {sorted(row)}")
        signal = np.asarray(row["signal"], dtype=np.float32)
        crop = random_crop(signal, self.num_samples, crop_rng(self.seed, int(row["position"])))
        if not np.isfinite(crop).all():
            raise ValueError(
                f"the signal of row {name} has NaN or infinite samples; pass it through an EcgFeatureExtractor first"
            )
        return crop
