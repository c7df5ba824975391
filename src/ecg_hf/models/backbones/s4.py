"""The S4 backbone: a stem, then layers that mix tokens by a state space and channels by a gated linear map."""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.backbones.kernel import CHUNK, StateSpace, channels_first
from ecg_hf.models.backbones.stem import STEMS


@strict
class EcgS4Config(BackboneConfig):
    """Config fields of the S4 backbone; the defaults are those of study A.

    Args:
        num_layers: Number of layers between the stem and the output.
        stem: "conv" (four convolutions, two samples per token) or "linear" (one linear map per sample).
        state_size: Size of the real state of a channel; even.
        dropout: Probability of dropping a channel for a whole crop, applied twice per layer.
        trainable_dynamics: Whether the state matrix, the input vector and the step are trained as well.
        low_rank: Whether the state matrix has its low-rank part (S4) or only the normal part (S4D).
        dt_min: Lower end of the range from which steps are drawn, in tokens.
        dt_max: Upper end of the range from which steps are drawn, in tokens.
    """

    model_type = "ecg-s4"

    num_layers: int = 4
    stem: str = "conv"
    state_size: int = 8
    dropout: float | int = 0.2
    trainable_dynamics: bool = False
    low_rank: bool = True
    dt_min: float = 0.001
    dt_max: float = 0.1

    def validate_stem(self) -> None:
        """Checks that the stem exists."""
        if self.stem not in STEMS:
            raise ValueError(f"stem must be one of {sorted(STEMS)}, got {self.stem!r}")

    def validate_state_size(self) -> None:
        """Checks that the state can be split into conjugate pairs."""
        if self.state_size < 2 or self.state_size % 2:
            raise ValueError(f"state_size must be even and at least 2, got {self.state_size}")

    def validate_dropout(self) -> None:
        """Checks that the dropout is a probability below 1."""
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    def validate_steps(self) -> None:
        """Checks that the steps are positive and in order."""
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"steps must satisfy 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")


class EcgS4Layer(GradientCheckpointingLayer):
    """One residual layer with the norm after the sum: x <- LayerNorm(x + Drop(S4(x))).

    Args:
        config: Config of the backbone.

    Source:
        Study A (arXiv:2605.12241); Gu et al. 2022 (arXiv:2111.00396).
    """

    def __init__(self, config: EcgS4Config):
        super().__init__()
        self.dropout = float(config.dropout)
        self.state_space = StateSpace(
            config.hidden_size,
            config.state_size,
            bidirectional=not config.causal,
            low_rank=config.low_rank,
            trainable=config.trainable_dynamics,
            steps=(config.dt_min, config.dt_max),
        )
        self.output_linear = nn.Linear(config.hidden_size, 2 * config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Maps tokens (B, N, D) to the tokens of the next layer and to the output of the mixer alone."""
        mixed = self.mix(tokens)
        return self.norm(tokens + self._drop(mixed, dim=1)), mixed

    def mix(self, tokens: Tensor) -> Tensor:
        """Mixes tokens (B, N, D) over time, then over channels."""
        mixed = nn.functional.gelu(self.state_space(channels_first(tokens)))
        gated = nn.functional.glu(self.output_linear(self._drop(mixed, dim=2).flatten(1).t()))
        return gated.view(tokens.shape)

    def _drop(self, values: Tensor, dim: int) -> Tensor:
        """Drops whole channels of whole crops: the mask is constant over time, which is axis `dim`."""
        if not self.training or self.dropout == 0:
            return values
        mask = torch.ones_like(values.narrow(dim, 0, 1))
        return values * nn.functional.dropout(mask, self.dropout)


# Sizes are named after their number of trainable parameters. "paper-a" is study A's network (2,932,736 parameters if
# causal, 2,949,120 if bidirectional).
SIZES = {
    "20k": {"hidden_size": 38, "num_layers": 4},
    "63k": {"hidden_size": 72, "num_layers": 4},
    "200k": {"hidden_size": 128, "num_layers": 4},
    "632k": {"hidden_size": 232, "num_layers": 4},
    "2m": {"hidden_size": 424, "num_layers": 4},
    "6.3m": {"hidden_size": 640, "num_layers": 6},
    "20m": {"hidden_size": 1024, "num_layers": 8},
    "63m": {"hidden_size": 1536, "num_layers": 12},
    "200m": {"hidden_size": 2384, "num_layers": 16},
    "paper-a": {"hidden_size": 512, "num_layers": 4},
}


class EcgS4Backbone(Backbone):
    """The S4 backbone: stem and S4 layers, without norm, projection or pooling after the last layer.

    Source:
        Study A (arXiv:2605.12241): 2,932,736 parameters causal, 2,949,120 bidirectional.
    """

    config: EcgS4Config
    config_class = EcgS4Config
    sizes = SIZES
    _no_split_modules = ["EcgS4Layer"]  # noqa: RUF012
    # Steps and frequencies rounded to bfloat16 would change the kernel.
    _keep_in_fp32_modules_strict = ["state_space"]  # noqa: RUF012

    def __init__(self, config: EcgS4Config):
        super().__init__(config)
        self.stem = STEMS[config.stem](config.num_leads, config.hidden_size)
        self.layers = nn.ModuleList(EcgS4Layer(config) for _ in range(config.num_layers))
        self.post_init()

    @property
    def embed_stride(self) -> int:
        """Samples per token between stem and layers."""
        return STEMS[self.config.stem].stride

    def forward_flops(self, num_samples: int) -> int:
        """Counts the multiplications and additions of one forward pass over a crop of `num_samples` samples T."""
        return forward_flops(self.config, num_samples) + state_space_flops(self.config, num_samples)


def forward_flops(config: EcgS4Config, num_samples: int) -> int:
    """Counts the multiplications and additions of all convolutions and linear maps for one crop.

    Args:
        config: Config of the backbone.
        num_samples: Samples T of the crop.

    Returns:
        The number of operations, without those of the state spaces.

    Source:
        The convention of study A (arXiv:2605.12241): 1.7412096e9 for the defaults at 600 samples.
    """
    width = config.hidden_size
    stem = config.num_leads * width if config.stem == "linear" else (3 * config.num_leads + 3 * width) * width
    return 2 * _num_tokens(config, num_samples) * (stem + config.num_layers * 2 * width**2)


def state_space_flops(config: EcgS4Config, num_samples: int) -> int:
    """Counts the multiplications and additions of the state spaces for one crop, in the chunked form.

    Args:
        config: Config of the backbone.
        num_samples: Samples T of the crop.

    Returns:
        The number of operations, which `forward_flops` leaves out.
    """
    num_chunks = -(-_num_tokens(config, num_samples) // CHUNK)
    directions = 1 if config.causal else 2
    within = num_chunks * CHUNK * (CHUNK + 2 * directions * config.state_size)
    between = (num_chunks - 1) * directions * config.state_size**2
    return 2 * config.num_layers * config.hidden_size * (within + between)


def _num_tokens(config: EcgS4Config, num_samples: int) -> int:
    return -(-num_samples // STEMS[config.stem].stride)
