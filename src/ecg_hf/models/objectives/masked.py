"""Masked reconstruction: fill in the patches of a signal that were hidden."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.objectives.base import Objective, ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.health import feature_health
from ecg_hf.models.objectives.masking import evaluation_generator, masked_mean

EPSILON = 1e-6  # of a patch's variance, in the input's unit squared; that of He et al. 2022


@dataclass
class MaskedFields(ObjectiveFields):
    """Config fields of masked reconstruction.

    Args:
        mask_patch_size: Samples of a patch, which is hidden in all leads at once.
        mask_share: Share of the patches that is hidden on average.
        mask_max_patches: A hidden block has 1 to so many patches; blocks may overlap.
        normalize_patches: Whether a patch is predicted relative to its own mean and deviation.
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
    """Hides patches of the signal behind one learned value per lead and predicts their samples.

    The backbone sees the whole grid, so any backbone will do. One linear map turns each output token into the samples
    that it covers; the error counts where the signal was hidden.

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
        """Draws what stands for a hidden sample from N(0, 0.02^2), in the input's unit."""
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
        """Decodes tokens (B, N, D) to a signal (B, L, T)."""
        samples = self.decoder(tokens).unflatten(2, (self.config.num_leads, -1))
        signal: Tensor = samples.permute(0, 2, 1, 3).flatten(2)
        return signal[..., :num_samples]

    def target(self, signal: Tensor) -> Tensor:
        """Gives what to predict: the signal (B, L, T), each patch relative to its mean and deviation over leads."""
        if not self.config.normalize_patches:
            return signal.float()
        size, num_samples = self.config.mask_patch_size, signal.shape[-1]
        padding = -num_samples % size
        patches = nn.functional.pad(signal.float(), (0, padding)).unflatten(2, (-1, size))
        # The last patch may be cut short; what pads it belongs to no statistic.
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
    """Draws blocks of 1 to `max_patches` patches, each length as likely, that may overlap.

    A block may also start before the crop, of which its end is then seen: every patch is hidden equally often.

    Args:
        num_crops: B.
        num_patches: Patches of a crop.
        probability: That a block starts at a patch, see `block_probability`.
        max_patches: Of the longest block.
        device: Where the mask is made.
        generator: Where randomness comes from; torch's default generator if None.

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
    """Solves for how likely a block must start at a patch so that `share` of the patches are in one at least.

    A patch is free if none of the `max_patches` starts up to it is there and long enough:
    the product over d of 1 - p (1 - d / max_patches) is 1 - `share`.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle, free = (low + high) / 2, 1.0
        for distance in range(max_patches):
            free *= 1 - middle * (1 - distance / max_patches)
        low, high = (middle, high) if free > 1 - share else (low, middle)
    return low
