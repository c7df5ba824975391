"""The residual network of the CODE study: a convolution, then downsampling stages of residual units."""

import math
from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ecg_hf.models.backbones.base import Backbone, BackboneConfig, BackboneOutput
from ecg_hf.models.backbones.convolution import PaddedConv1d


@strict
class EcgResNetConfig(BackboneConfig):
    """Config fields of the residual network; the default widths are those of the CODE network, the strides are ours.

    The CODE network has strides [4, 4, 4, 4], which turn its 4,096 samples at 400 Hz into 16 tokens. They would turn a
    crop of 2.5 s at 240 Hz into only 3 tokens; ours give 38.

    Args:
        stem_width: Channels of the stem.
        stage_widths: Channels of the units of each stage; the last are `hidden_size`.
        stage_depths: Units of each stage, of which the first downsamples.
        strides: Factors by which the stages downsample.
        kernel_size: Taps of the convolutions over time; 17 in the CODE network, 16 in its first version.
        dropout: Probability of dropping a value, applied twice per unit.
    """

    model_type = "ecg-resnet"

    hidden_size: int = 320
    stem_width: int = 64
    stage_widths: list[int] = field(default_factory=lambda: [128, 192, 256, 320])
    stage_depths: list[int] = field(default_factory=lambda: [1, 1, 1, 1])
    strides: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    kernel_size: int = 17
    dropout: float | int = 0.2

    @property
    def embed_size(self) -> int:
        """Width of a token between stem and layers."""
        return self.stem_width

    def validate_stages(self) -> None:
        """Checks that widths, depths and strides match each other and the output."""
        widths, depths, strides = self.stage_widths, self.stage_depths, self.strides
        if not widths or not len(widths) == len(depths) == len(strides):
            raise ValueError(
                "stage_widths, stage_depths and strides must have one entry per stage, got "
                f"{widths}, {depths} and {strides}; give them the same length"
            )
        if min(self.stem_width, *widths, *depths, *strides) < 1:
            raise ValueError(
                "stem_width, stage_widths, stage_depths and strides must be at least 1, got "
                f"{self.stem_width}, {widths}, {depths} and {strides}"
            )
        if widths[-1] != self.hidden_size:
            raise ValueError(
                f"hidden_size must be the last of stage_widths={widths}, got {self.hidden_size}; set it to {widths[-1]}"
            )

    def validate_units(self) -> None:
        """Checks that kernels leave no sample out, and that the dropout is a probability below 1."""
        if self.kernel_size < max(self.strides):
            raise ValueError(
                f"kernel_size must be at least the largest of strides={self.strides}, got "
                f"{self.kernel_size}; use a longer kernel or smaller strides"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


class ResNetStem(nn.Module):
    """One convolution, batch norm and ReLU, at the sampling rate of the signal.

    Args:
        config: Config of the backbone.
    """

    def __init__(self, config: EcgResNetConfig):
        super().__init__()
        self.conv = PaddedConv1d(
            config.num_leads, config.stem_width, config.kernel_size, bias=False, causal=config.causal
        )
        self.norm = nn.BatchNorm1d(config.stem_width)

    def forward(self, signal: Tensor) -> Tensor:
        """Turns signals (B, L, T) into tokens (B, N, D), N = T."""
        return nn.functional.relu(self.norm(self.conv(signal))).transpose(1, 2)


class EcgResNetUnit(GradientCheckpointingLayer):
    """One residual unit with two inputs: the tokens x, which it transforms, and the skip path s, to which it adds.

    With act(x) = dropout(ReLU(BN(x))), s <- conv(max-pool(s)) + strided conv(act(conv(x))) and x <- act(s): the skip
    path carries the sum before norm and ReLU. Only a unit that downsamples has the pool, and only a unit that changes
    the width has the convolution of the skip path, with one tap. No convolution has a bias.

    Pooling windows do not overlap, so the output of a causal unit depends on the samples that it covers and on earlier
    ones. Under gradient checkpointing the norms see each batch twice, so their running statistics move faster.

    Args:
        config: Config of the backbone.
        width_in: Channels of the input.
        width: Channels of the output.
        stride: Factor by which the unit downsamples.

    Source:
        Ribeiro et al. 2020 (doi:10.1038/s41467-020-15432-4).
    """

    def __init__(self, config: EcgResNetConfig, width_in: int, width: int, stride: int):
        super().__init__()
        size, causal = config.kernel_size, config.causal
        self.stride = stride
        self.keeps_shape = stride == 1 and width_in == width
        self.conv1 = PaddedConv1d(width_in, width, size, bias=False, causal=causal)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = PaddedConv1d(width, width, size, stride=stride, bias=False, causal=causal)
        self.norm2 = nn.BatchNorm1d(width)
        self.skip_conv = None if width_in == width else nn.Conv1d(width_in, width, kernel_size=1, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, skip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps tokens and skip path, (B, D, N) each, to those of the next unit and the output of the branch alone."""
        mixed = self.dropout(nn.functional.relu(self.norm1(self.conv1(tokens))))
        mixed = self.conv2(mixed)
        if self.stride > 1:
            skip = nn.functional.max_pool1d(skip, self.stride, ceil_mode=True)
        if self.skip_conv is not None:
            skip = self.skip_conv(skip)
        skip = skip + mixed
        return self.dropout(nn.functional.relu(self.norm2(skip))), skip, mixed


def _size(stem_width: int, *stage_widths: int, depth: int = 1) -> dict[str, Any]:
    return {
        "hidden_size": stage_widths[-1],
        "stem_width": stem_width,
        "stage_widths": list(stage_widths),
        "stage_depths": [depth] * len(stage_widths),
    }


# Sizes are named after their number of parameters; their widths grow by nearly equal steps. The sizes of study B's
# paper are not known to us.
SIZES = {
    "20k": _size(4, 8, 10, 14, 18),
    "63k": _size(6, 12, 18, 24, 30),
    "200k": _size(12, 22, 32, 44, 56),
    "632k": _size(20, 40, 58, 78, 98),
    "2m": _size(36, 70, 104, 140, 176),
    "6.3m": _size(62, 124, 186, 248, 310),
    "20m": _size(76, 152, 228, 304, 380, depth=2),
    "63m": _size(108, 218, 328, 436, 544, depth=3),
    "200m": _size(168, 334, 500, 668, 836, depth=4),
}


class EcgResNetBackbone(Backbone):
    """The residual network: stem and residual units, without norm, projection or pooling after the last unit.

    If the backbone is causal, a token depends on the samples that it covers and on earlier ones. In training this holds
    except for batch norm, whose statistics come from all tokens of the batch.

    Source:
        Ribeiro et al. 2020 (doi:10.1038/s41467-020-15432-4). Study B's network (arXiv:2605.17276) is not known to us;
        this is the network that its authors had published before.
    """

    config: EcgResNetConfig
    config_class = EcgResNetConfig
    sizes = SIZES
    _no_split_modules = ["EcgResNetUnit"]  # noqa: RUF012

    def __init__(self, config: EcgResNetConfig):
        super().__init__(config)
        self.stem = ResNetStem(config)
        self.layers = nn.ModuleList()
        width_in = config.stem_width
        for width, depth, stride in zip(config.stage_widths, config.stage_depths, config.strides, strict=True):
            for index in range(depth):
                self.layers.append(EcgResNetUnit(config, width_in, width, 1 if index else stride))
                width_in = width
        self.post_init()

    @property
    def embed_stride(self) -> int:
        """Samples per token between stem and layers: the stem keeps the rate."""
        return 1

    @property
    def stride(self) -> int:
        """Samples per output token."""
        return math.prod(self.config.strides)

    @property
    def num_layer_outputs(self) -> int:
        """Number of last units whose tokens have the width and stride of the output."""
        changed = [index for index, unit in enumerate(self.layers) if not unit.keeps_shape]
        # The last unit that changes the shape already has the shape of the output.
        return len(self.layers) - max(changed, default=0)

    def encode(
        self, tokens: Tensor, *, output_hidden_states: bool = False, output_layer_outputs: bool = False
    ) -> BackboneOutput:
        """Runs the units, with their skip path, over the tokens of `embed`, see `Backbone.encode`."""
        states, outputs = [tokens], []
        channels = skip = tokens.transpose(1, 2)
        for layer in self.layers:
            channels, skip, mixed = layer(channels, skip)
            states += [channels.transpose(1, 2)] if output_hidden_states else []
            outputs += [mixed.transpose(1, 2)] if output_layer_outputs else []
        tokens = channels.transpose(1, 2)
        return BackboneOutput(
            last_hidden_state=tokens,
            pooler_output=tokens.mean(dim=1),
            hidden_states=tuple(states) if output_hidden_states else None,
            layer_outputs=tuple(outputs[-self.num_layer_outputs :]) if output_layer_outputs else None,
        )
