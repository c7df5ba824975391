"""Masked reconstruction, which predicts the samples of hidden patches of a signal."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.objectives.base import Objective, ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.health import feature_health
from ecg_hf.models.objectives.masking import evaluation_generator, masked_mean

EPSILON = 1e-6  # added to a patch's variance, in the input's unit squared; that of He et al. 2022


@dataclass
class MaskedFields(ObjectiveFields):
    """Config fields of masked reconstruction.

    Args:
        mask_patch_size: Samples of a patch, which is hidden in all leads at once.
        mask_share: Fraction of the patches that is hidden on average.
        mask_max_patches: Largest number of patches in a hidden block; blocks have 1 patch at least and may overlap.
        normalize_patches: Whether a patch is predicted relative to its own mean and standard deviation.
    """

    mask_patch_size: int = 32
    mask_share: float | int = 0.5
    mask_max_patches: int = 8
    normalize_patches: bool = True

    def validate_masked(self) -> None:
        """Checks that something is hidden and something is left."""
        if not 0 < self.mask_share < 1:
            raise ValueError(f"mask_share must lie in (0, 1), got {self.mask_share}")
        if self.mask_patch_size < 1 or self.mask_max_patches < 1:
            raise ValueError(
                "mask_patch_size and mask_max_patches must be at least 1, got "
                f"{self.mask_patch_size} and {self.mask_max_patches}"
            )


class Masked(Objective):
    """Replaces hidden patches of the signal by one learned value per lead and predicts their samples.

    Hidden patches are replaced, not dropped, so any backbone will do. One linear map turns each output token into the
    samples that it covers; only errors of hidden samples count.

    Source:
        Study B (arXiv:2605.17276) does not say which objective it used; this is our reading of what it needs, after
        Xie et al. 2022 (SimMIM, arXiv:2111.09886) and, for normalised targets, He et al. 2022 (arXiv:2111.06377).
    """

    fields: ClassVar[type[ObjectiveFields]] = MaskedFields
    config: Any

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.mask_values = nn.Parameter(torch.empty(config.num_leads))
        self.probability = block_probability(self.config.mask_share, self.config.mask_max_patches)
        self.decoder = nn.Linear(config.hidden_size, config.num_leads * backbone.stride)

    def initialise(self, backbone: Backbone) -> None:
        """Draws the values that replace hidden samples from N(0, 0.02^2), in the input's unit."""
        init.normal_(self.mask_values, std=0.02)

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T), the mean squared error of hidden samples; labels are not used."""
        hidden = self.draw_mask(signal)
        masked = torch.where(hidden[:, None], self.mask_values[:, None].to(signal.dtype), signal)
        tokens = backbone(masked, return_dict=True)["last_hidden_state"]
        errors = (self.reconstruct(tokens, signal.shape[-1]).float() - self.target(signal)).square().mean(dim=1)
        return PretrainingOutput(
            loss=masked_mean(errors, hidden), metrics={"mask_fraction": hidden.float().mean(), **feature_health(tokens)}
        )

    def draw_mask(self, signal: Tensor) -> Tensor:
        """Draws which samples of signals (B, L, T) are hidden, (B, T)."""
        config, (batch, _, num_samples) = self.config, signal.shape
        patches = sample_patch_blocks(
            batch,
            -(-num_samples // config.mask_patch_size),
            probability=self.probability,
            max_patches=config.mask_max_patches,
            device=signal.device,
            generator=evaluation_generator(self.training, signal.device),
        )
        return patches.repeat_interleave(config.mask_patch_size, dim=1)[:, :num_samples]

    def reconstruct(self, tokens: Tensor, num_samples: int) -> Tensor:
        """Decodes tokens (B, N, D) to signals (B, L, T) of `num_samples` samples T."""
        samples = self.decoder(tokens).unflatten(2, (self.config.num_leads, -1))
        signal: Tensor = samples.permute(0, 2, 1, 3).flatten(2)
        return signal[..., :num_samples]

    def target(self, signal: Tensor) -> Tensor:
        """Computes the target of signals (B, L, T), in the same shape.

        With `normalize_patches`, each patch is relative to its mean and standard deviation over leads and samples.
        """
        if not self.config.normalize_patches:
            return signal.float()
        size, num_samples = self.config.mask_patch_size, signal.shape[-1]
        padding = -num_samples % size
        patches = nn.functional.pad(signal.float(), (0, padding)).unflatten(2, (-1, size))
        # The last patch may be incomplete; its padding is left out of the statistics.
        inside = nn.functional.pad(torch.ones_like(signal[0, 0]), (0, padding)).float().view(-1, size)
        count = inside.sum(dim=1) * signal.shape[1]
        mean = patches.sum(dim=(1, 3)) / count
        centred = (patches - mean[:, None, :, None]) * inside
        deviation = (centred.square().sum(dim=(1, 3)) / count + EPSILON).sqrt()
        relative: Tensor = (centred / deviation[:, None, :, None]).flatten(2)
        return relative[..., :num_samples]


def sample_patch_blocks(
    num_crops: int,
    num_patches: int,
    *,
    probability: float,
    max_patches: int,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws a mask of blocks of 1 to `max_patches` patches; all lengths are equally likely, and blocks may overlap.

    A block may also start before the crop, so that only its end lies inside: every patch is hidden equally often.

    Args:
        num_crops: Number of crops B.
        num_patches: Number of patches of a crop.
        probability: Probability that a block starts at a patch, see `block_probability`.
        max_patches: Number of patches of the longest block.
        device: Device of the mask.
        generator: Generator of the random draws; torch's default generator if None.

    Returns:
        True where a patch is hidden, shape (B, num_patches).
    """
    size = (num_crops, num_patches + max_patches - 1)
    starts = torch.rand(size, device=device, generator=generator) < probability
    lengths = torch.randint(1, max_patches + 1, size, device=device, generator=generator)
    position = torch.arange(size[1], device=device)
    ends = torch.where(starts, position + lengths, 0).cummax(dim=1).values
    return (ends > position)[:, max_patches - 1 :]


def block_probability(share: float, max_patches: int) -> float:
    """Computes the probability p that a block starts at a patch, given the fraction of patches that blocks cover.

    A patch is free if no block starts at it, or starts d < `max_patches` patches before it and is long enough. The
    fraction of free patches, the product over d of 1 - p (1 - d / max_patches), must be 1 - `share`; bisection finds p.

    Args:
        share: Fraction of the patches to cover, in (0, 1).
        max_patches: Number of patches of the longest block.

    Returns:
        The probability p.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle, free = (low + high) / 2, 1.0
        for distance in range(max_patches):
            free *= 1 - middle * (1 - distance / max_patches)
        low, high = (middle, high) if free > 1 - share else (low, middle)
    return low
