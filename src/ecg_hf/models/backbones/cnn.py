"""The convolutional backbone (Net1D): a stem, then residual blocks of grouped convolutions with squeeze-excite."""

from dataclasses import field
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from ecg_hf.models.backbones.base import Backbone, BackboneConfig, BackboneOutput
from ecg_hf.models.backbones.convolution import PaddedConv1d
from ecg_hf.models.backbones.stem import STEMS


@strict
class EcgCNNConfig(BackboneConfig):
    """Config fields of the convolutional backbone; the defaults are those of study A.

    Args:
        stem: "conv" (four convolutions, two samples per token) or "linear" (one linear map per sample).
        stage_widths: Channels of the blocks of each stage; they never shrink, and the last are `hidden_size`.
        stage_depths: Blocks of each stage.
        kernel_size: Taps of the convolutions over time, in tokens.
        group_width: Channels per group of the convolutions over time.
        expansion: Width inside a block, as a multiple of the block's output width.
        dropout: Probability of dropping a value after an activation.
    """

    model_type = "ecg-cnn"

    stem: str = "conv"
    stage_widths: list[int] = field(default_factory=lambda: [64, 128, 128, 256, 256, 512, 512])
    stage_depths: list[int] = field(default_factory=lambda: [2, 2, 2, 3, 3, 4, 4])
    kernel_size: int = 16
    group_width: int = 16
    expansion: float | int = 1.0
    dropout: float | int = 0.0

    def validate_stem(self) -> None:
        """Checks that the stem exists."""
        if self.stem not in STEMS:
            raise ValueError(f"stem must be one of {sorted(STEMS)}, got {self.stem!r}")

    def validate_stages(self) -> None:
        """Checks that each stage has a depth, and that the widths never shrink and end at that of the output."""
        widths, depths = self.stage_widths, self.stage_depths
        if not widths or len(widths) != len(depths) or min(depths) < 1:
            raise ValueError(
                f"stage_widths and stage_depths must have one entry per stage, depths of at least 1, got {widths} "
                f"and {depths}; give them the same length"
            )
        if min(widths) < 2 or widths != sorted(widths):
            raise ValueError(
                f"stage_widths must be at least 2 and never shrink, since the skip path can only add channels, got "
                f"{widths}; sort them"
            )
        if widths[-1] != self.hidden_size:
            raise ValueError(
                f"hidden_size must be the last of stage_widths={widths}, got {self.hidden_size}; set it to {widths[-1]}"
            )

    def validate_units(self) -> None:
        """Checks that a block's convolution over time can be built."""
        inner = [int(width * self.expansion) for width in self.stage_widths]
        if self.group_width < 1 or min(inner) < 1 or any(width % self.group_width for width in inner):
            raise ValueError(
                f"group_width must divide the widths inside the blocks, {inner}, got {self.group_width}; "
                "choose a common divisor"
            )
        if self.kernel_size < 1:
            raise ValueError(f"kernel_size must be at least 1, got {self.kernel_size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


class SqueezeExcite(nn.Module):
    """A gate that scales each channel by a function of the means of all channels over time.

    Args:
        width: Number of channels.
        causal: Whether each token is scaled by the means over the tokens so far, instead of those over the whole crop.

    Source:
        Hu et al. 2018 (arXiv:1709.01507), equations 2 to 4, with Swish and half as many hidden channels, as in study A.
    """

    def __init__(self, width: int, causal: bool):
        super().__init__()
        self.causal = causal
        self.squeeze = nn.Conv1d(width, width // 2, kernel_size=1)
        self.excite = nn.Conv1d(width // 2, width, kernel_size=1)

    def forward(self, values: Tensor) -> Tensor:
        """Scales the channels of values (B, D, N)."""
        mean = running_mean(values) if self.causal else values.mean(dim=2, keepdim=True)
        return values * torch.sigmoid(self.excite(nn.functional.silu(self.squeeze(mean))))


def running_mean(values: Tensor) -> Tensor:
    """Computes the mean of each token of (B, D, N) and all tokens before it, in float32 or better."""
    exact = torch.promote_types(values.dtype, torch.float32)
    counts = torch.arange(1, values.shape[2] + 1, device=values.device, dtype=exact)
    return (values.cumsum(dim=2, dtype=exact) / counts).to(values.dtype)


class EcgCNNBlock(GradientCheckpointingLayer):
    """One residual block: x <- x + SE(conv(act(conv over time(act(conv(act(x))))))), act = dropout after Swish.

    Channels that the block adds are zero on the skip path; half of them come before the old channels, half after.

    Args:
        config: Config of the backbone.
        width_in: Channels of the input.
        width: Channels of the output.
        activated: Whether the input has just been activated, so that the first activation is left out.

    Source:
        Study A (arXiv:2605.12241); the network is that of ECGFounder (arXiv:2410.04133).
    """

    def __init__(self, config: EcgCNNConfig, width_in: int, width: int, *, activated: bool = False):
        super().__init__()
        inner = int(width * config.expansion)
        self.activated = activated
        self.added = width - width_in
        self.dropout = nn.Dropout(config.dropout)
        self.conv_in = nn.Conv1d(width_in, inner, kernel_size=1)
        self.conv_time = PaddedConv1d(
            inner, inner, config.kernel_size, groups=inner // config.group_width, causal=config.causal
        )
        self.conv_out = nn.Conv1d(inner, width, kernel_size=1)
        self.squeeze_excite = SqueezeExcite(width, config.causal)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Maps tokens (B, D, N) to the tokens of the next block and to the output of the residual branch alone."""
        mixed = self.conv_in(tokens if self.activated else self._activate(tokens))
        mixed = self.conv_time(self._activate(mixed))
        mixed = self.squeeze_excite(self.conv_out(self._activate(mixed)))
        if self.added:
            below = self.added // 2
            tokens = nn.functional.pad(tokens, (0, 0, below, self.added - below))
        return tokens + mixed, mixed

    def _activate(self, tokens: Tensor) -> Tensor:
        activated: Tensor = self.dropout(nn.functional.silu(tokens))
        return activated


def _size(width: int, group_width: int, depths: tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)) -> dict[str, Any]:
    """Returns the fields of a network shaped as study A's, with stages of 1/8, 1/4, 1/2 and all of the width."""
    return {
        "hidden_size": width,
        "stage_widths": [width // part for part in (8, 4, 4, 2, 2, 1, 1)],
        "stage_depths": list(depths),
        "group_width": group_width,
    }


# Sizes are named after their number of parameters. "paper-a" is study A's network, without the 36,864 parameters of
# batch norms that it never uses.
SIZES = {
    "20k": _size(24, 3, depths=(1, 1, 1, 2, 2, 2, 2)),
    "63k": _size(32, 4),
    "200k": _size(64, 4),
    "632k": _size(128, 4),
    "2m": _size(224, 4),
    "6.3m": _size(384, 16),
    "20m": _size(768, 8),
    "63m": _size(1280, 16),
    "200m": _size(2432, 16),
    "paper-a": _size(512, 16),
}


class EcgCNNBackbone(Backbone):
    """The convolutional backbone: stem, one convolution to the first stage's width, Swish and the blocks.

    All blocks run at the token rate of the stem. If the backbone is causal, convolutions pad on the left and
    squeeze-excite averages the tokens so far, once per token instead of once per crop. Study A's network does neither,
    so that under CPC a token would see what it has to predict.

    Source:
        Study A (arXiv:2605.12241): 10,487,424 used parameters out of 10,524,288; 4.74e9 FLOPs for a crop of 2.5 s.
    """

    config: EcgCNNConfig
    config_class = EcgCNNConfig
    sizes = SIZES
    _no_split_modules = ["EcgCNNBlock"]  # noqa: RUF012

    def __init__(self, config: EcgCNNConfig):
        super().__init__(config)
        self.stem = STEMS[config.stem](config.num_leads, config.hidden_size)
        first, stages = config.stage_widths[0], zip(config.stage_widths, config.stage_depths, strict=True)
        self.first_conv = PaddedConv1d(config.hidden_size, first, config.kernel_size, causal=config.causal)
        widths = [first, *(width for width, depth in stages for _ in range(depth))]
        self.layers = nn.ModuleList(
            EcgCNNBlock(config, widths[index], widths[index + 1], activated=index == 0)
            for index in range(len(widths) - 1)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialises so that blocks without a norm keep the variance, as He et al. 2015 (arXiv:1502.01852) do.

        With PyTorch's own initialisation, values shrink with every block until much of their variation in time comes
        from biases and from the zeros beyond the edges: an objective with a teacher then learns the position of a token
        before anything about the ECG.
        """
        if isinstance(module, nn.Conv1d) and module.bias is not None and module not in self.stem.modules():
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @property
    def embed_stride(self) -> int:
        """Samples per token between stem and layers."""
        return STEMS[self.config.stem].stride

    @property
    def num_layer_outputs(self) -> int:
        """Number of last blocks whose tokens have the width of the output."""
        stages = zip(self.config.stage_widths, self.config.stage_depths, strict=True)
        return sum(depth for width, depth in stages if width == self.config.hidden_size)

    def encode(
        self, tokens: Tensor, *, output_hidden_states: bool = False, output_layer_outputs: bool = False
    ) -> BackboneOutput:
        """Runs the first convolution and the blocks over the tokens of `embed`, see `Backbone.encode`."""
        states, outputs = [tokens], []
        channels = nn.functional.silu(self.first_conv(tokens.transpose(1, 2)))
        for layer in self.layers:
            channels, mixed = layer(channels)
            states += [channels.transpose(1, 2)] if output_hidden_states else []
            outputs += [mixed.transpose(1, 2)] if output_layer_outputs else []
        tokens = channels.transpose(1, 2)
        return BackboneOutput(
            last_hidden_state=tokens,
            pooler_output=tokens.mean(dim=1),
            hidden_states=tuple(states) if output_hidden_states else None,
            layer_outputs=tuple(outputs[-self.num_layer_outputs :]) if output_layer_outputs else None,
        )
