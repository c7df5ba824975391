"""The transformer backbone: a stem, then layers of attention and feed-forward blocks, and a last norm."""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.backbones.stem import PATCH, STEMS, Stem, make_stem

POSITIONS = ("rotary", "sinusoidal")


@strict
class EcgTransformerConfig(BackboneConfig):
    """Config fields of the transformer backbone; the defaults are those of study A.

    Args:
        num_layers: Number of layers between the stem and the output.
        stem: "conv" (four convolutions, two samples per token), "linear" (one linear map per sample) or "patch" (one
            linear map per `patch_size` samples).
        patch_size: Samples per token of the "patch" stem.
        num_attention_heads: Attention heads of each layer, a divisor of `hidden_size`.
        mlp_ratio: Width of the feed-forward block's hidden layer, as a multiple of `hidden_size`.
        dropout: Probability of dropping a value, applied to attention weights, to hidden values of the feed-forward
            block, to the outputs of both blocks, and to tokens after their sinusoidal positions were added.
        positions: Encoding of the positions of tokens: "rotary" (queries and keys are rotated by the position) or
            "sinusoidal" (sines and cosines of the position are added before the first layer).
        rope_theta: Base of the wavelengths, which reach 2 pi rope_theta tokens.
    """

    model_type = "ecg-transformer"

    num_layers: int = 6
    stem: str = "conv"
    patch_size: int = 32
    num_attention_heads: int = 8
    mlp_ratio: int = 4
    dropout: float | int = 0.1
    positions: str = "rotary"
    rope_theta: float | int = 10000

    def validate_choices(self) -> None:
        """Checks that the stem and the positions exist."""
        for field, choices in (("stem", (*STEMS, PATCH)), ("positions", POSITIONS)):
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} must be one of {choices}, got {getattr(self, field)!r}")

    def validate_ranges(self) -> None:
        """Checks that counts and `rope_theta` are at least 1, and that the dropout is a probability below 1."""
        for field in ("num_layers", "patch_size", "num_attention_heads", "mlp_ratio", "rope_theta"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    def validate_width(self) -> None:
        """Checks that the heads divide the width, and that positions have an even number of channels."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads must divide hidden_size={self.hidden_size}, got {self.num_attention_heads}; "
                "choose a divisor"
            )
        multiple = 2 * self.num_attention_heads if self.positions == "rotary" else 2
        if self.hidden_size % multiple:
            raise ValueError(
                f"{self.positions} positions with num_attention_heads={self.num_attention_heads} need a hidden_size "
                f"that is a multiple of {multiple}, got {self.hidden_size}; choose one"
            )


def position_angles(num_tokens: int, num_angles: int, theta: float, device: torch.device | None = None) -> Tensor:
    """Computes the angle of token n at frequency i, n theta^(-i / num_angles), in float32.

    Args:
        num_tokens: Number of tokens N.
        num_angles: Number of frequencies.
        theta: Base of the wavelengths.
        device: Device of the angles.

    Returns:
        Angles in radians, shape (N, num_angles).

    Source:
        Vaswani et al. 2017 (arXiv:1706.03762), section 3.5; Su et al. 2021 (arXiv:2104.09864), eq. 15.
    """
    exponents = torch.arange(num_angles, dtype=torch.float32, device=device) / num_angles
    return torch.arange(num_tokens, dtype=torch.float32, device=device)[:, None] * theta**-exponents


def sinusoids(angles: Tensor) -> Tensor:
    """Computes the position encoding that is added to tokens: sines and cosines of angles, interleaved.

    Args:
        angles: Angles of `position_angles`, shape (N, D / 2).

    Returns:
        Position encoding, shape (N, D).

    Source:
        Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.
    """
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def rotate(vectors: Tensor, angles: Tensor) -> Tensor:
    """Rotates each vector by the angles of its token, in float32 or better; channels i and i + half span a plane.

    Args:
        vectors: Queries or keys, shape (..., N, channels).
        angles: Angles of `position_angles`, shape (N, channels / 2).

    Returns:
        Rotated vectors, in the shape and dtype of `vectors`.

    Source:
        Su et al. 2021 (arXiv:2104.09864), eq. 34, with the halves of study A (arXiv:2605.12241).
    """
    cosine, sine = angles.cos(), angles.sin()
    first, second = vectors.chunk(2, dim=-1)
    rotated = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat(rotated, dim=-1).to(vectors.dtype)


def _eager_attention(
    module: "EcgAttention",
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Attends from queries to keys (B, heads, N, channels), as an attention function of transformers.

    Returns the attended values, (B, N, heads, channels), and the weights. `attention_mask` is None, as no crop is
    padded.
    """
    scores = query @ key.transpose(2, 3) * scaling
    if module.is_causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    weights = nn.functional.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class EcgAttention(nn.Module):
    """Multi-head attention from each token of a crop to all tokens or, if causal, to itself and earlier tokens.

    Args:
        config: Config of the backbone.

    Source:
        Vaswani et al. 2017 (arXiv:1706.03762), eq. 1.
    """

    def __init__(self, config: EcgTransformerConfig):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.is_causal = config.causal
        self.head_size = width // config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        """Computes, for each token, the mix of tokens (B, N, D) that it attends to, (B, N, D)."""
        query, key, value = (self._split(proj(tokens)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if self.config.positions == "rotary":
            angles = position_angles(tokens.shape[1], self.head_size // 2, float(self.config.rope_theta), tokens.device)
            query, key = rotate(query, angles), rotate(key, angles)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, _eager_attention)
        dropout = float(self.config.dropout) if self.training else 0.0
        gathered, _ = attend(self, query, key, value, None, dropout=dropout, scaling=self.head_size**-0.5)
        mixed: Tensor = self.out_proj(gathered.flatten(2))
        return mixed

    def _split(self, tokens: Tensor) -> Tensor:
        """Splits (B, N, D) into heads, (B, heads, N, channels)."""
        heads: Tensor = tokens.unflatten(2, (-1, self.head_size))
        return heads.transpose(1, 2)


class EcgTransformerLayer(GradientCheckpointingLayer):
    """Two residual blocks with the norm inside: x <- x + Drop(Attention(Norm(x))), x <- x + Drop(MLP(Norm(x))).

    Args:
        config: Config of the backbone.
        is_first: Whether this is the first layer, which adds sinusoidal positions if the config asks for them. The stem
            does not add them, so that a token that replaces a masked one has a position too.

    Source:
        Study A (arXiv:2605.12241); Xiong et al. 2020 (arXiv:2002.04745).
    """

    def __init__(self, config: EcgTransformerConfig, is_first: bool):
        super().__init__()
        self.dropout = float(config.dropout)
        self.theta = float(config.rope_theta)
        self.adds_positions = is_first and config.positions == "sinusoidal"
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = EcgAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size)
        self.mlp_in = nn.Linear(config.hidden_size, config.mlp_ratio * config.hidden_size)
        self.mlp_out = nn.Linear(config.mlp_ratio * config.hidden_size, config.hidden_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Maps tokens (B, N, D) to the tokens of the next layer and to the output of the feed-forward block alone.

        Source:
            data2vec regresses the second output (Baevski et al. 2022, arXiv:2202.03555, section 3.3).
        """
        if self.adds_positions:
            angles = position_angles(tokens.shape[1], tokens.shape[2] // 2, self.theta, tokens.device)
            tokens = self._drop(tokens + sinusoids(angles).to(tokens.dtype))
        tokens = tokens + self._drop(self.attention(self.attention_norm(tokens)))
        hidden = self._drop(nn.functional.gelu(self.mlp_in(self.mlp_norm(tokens))))
        mixed: Tensor = self.mlp_out(hidden)
        return tokens + self._drop(mixed), mixed

    def _drop(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, self.dropout, self.training)


def _grid(hidden_size: int, num_layers: int, num_attention_heads: int) -> dict[str, Any]:
    return {
        "stem": PATCH,
        "patch_size": 32,
        "positions": "sinusoidal",
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "num_attention_heads": num_attention_heads,
    }


# Sizes are named after their number of parameters. Widths and depths are study B's (arXiv:2605.17276); its heads of 23
# and 41 channels are doubled to 46 and 82, so that all sizes allow rotary positions. "paper-a" is study A's network,
# with 19,724,288 parameters.
SIZES = {
    "20k": _grid(16, 4, 1),
    "63k": _grid(32, 4, 1),
    "200k": _grid(60, 4, 3),
    "632k": _grid(92, 6, 2),
    "2m": _grid(164, 6, 2),
    "6.3m": _grid(256, 8, 8),
    "20m": _grid(368, 12, 8),
    "63m": _grid(576, 16, 18),
    "200m": _grid(1024, 16, 32),
    "paper-a": {"stem": "conv", "positions": "rotary", "hidden_size": 512, "num_layers": 6, "num_attention_heads": 8},
}


class EcgTransformerBackbone(Backbone):
    """The transformer backbone: stem, transformer layers and a layer norm.

    Source:
        Study A (arXiv:2605.12241): 19,724,288 parameters with its stem; the sizes of study B (arXiv:2605.17276).
    """

    config: EcgTransformerConfig
    config_class = EcgTransformerConfig
    sizes = SIZES
    stem: Stem
    _no_split_modules = ["EcgTransformerLayer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: EcgTransformerConfig):
        super().__init__(config)
        self.stem = make_stem(config.stem, config.num_leads, config.hidden_size, config.patch_size)
        self.layers = nn.ModuleList(EcgTransformerLayer(config, index == 0) for index in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @property
    def embed_stride(self) -> int:
        """Samples per token between stem and layers."""
        return self.stem.stride

    def finish(self, tokens: Tensor) -> Tensor:
        """Applies the last norm to tokens (B, N, D)."""
        normed: Tensor = self.norm(tokens)
        return normed
