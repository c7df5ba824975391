"""The predictors, which map a student's tokens to predictions about its teacher's tokens, and their loss."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ecg_hf.models.backbones.kernel import StateSpace, channels_first
from ecg_hf.models.objectives.base import ObjectiveFields


@dataclass
class PredictorFields(ObjectiveFields):
    """Config fields of a predictor.

    Args:
        predictor: "s4" (one bidirectional S4 layer, then a linear map, as study A does) or "linear".
        predictor_state_size: Size of the real state of a channel of "s4"; even.
        predictor_dropout: Probability of dropping a unit, applied twice in "s4"; "linear" has no dropout.
    """

    predictor: str = "s4"
    predictor_state_size: int = 64
    predictor_dropout: float | int = 0.2

    def validate_predictor(self) -> None:
        """Checks the kind of the predictor and the ranges of its fields."""
        if self.predictor not in PREDICTORS:
            raise ValueError(f"predictor must be one of {sorted(PREDICTORS)}, got {self.predictor!r}")
        if self.predictor_state_size < 2 or self.predictor_state_size % 2:
            raise ValueError(f"predictor_state_size must be even and at least 2, got {self.predictor_state_size}")
        if not 0 <= self.predictor_dropout < 1:
            raise ValueError(f"predictor_dropout must lie in [0, 1), got {self.predictor_dropout}")


class S4Predictor(nn.Module):
    """One bidirectional S4 layer with the norm after the sum, then a linear map.

    Unlike in the S4 backbone, dropout drops single units, not whole channels.

    Args:
        width: Width of the student's tokens, D.
        num_outputs: Width of a prediction.
        state_size: Size of the real state of a channel; even.
        dropout: Probability of dropping a unit.

    Source:
        Study A (arXiv:2605.12241): 855,040 parameters at width 512 and state 64.
    """

    def __init__(self, width: int, num_outputs: int, state_size: int, dropout: float):
        super().__init__()
        self.state_space = StateSpace(width, state_size, bidirectional=True)
        self.mix_linear = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)
        self.output_linear = nn.Linear(width, num_outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (B, N, D) to predictions (B, N, num_outputs)."""
        mixed = self.dropout(nn.functional.gelu(self.state_space(channels_first(tokens))))
        gated = nn.functional.glu(self.mix_linear(mixed.flatten(1).t())).view(tokens.shape)
        predictions: Tensor = self.output_linear(self.norm(tokens + self.dropout(gated)))
        return predictions


class LinearPredictor(nn.Linear):
    """One linear map, applied to each token.

    Args:
        width: Width of the student's tokens, D.
        num_outputs: Width of a prediction.
        state_size: Unused; kept for the signature of `S4Predictor`.
        dropout: Unused; kept for the signature of `S4Predictor`.
    """

    def __init__(self, width: int, num_outputs: int, state_size: int, dropout: float):
        super().__init__(width, num_outputs)


PREDICTORS: dict[str, type[S4Predictor] | type[LinearPredictor]] = {"s4": S4Predictor, "linear": LinearPredictor}


def make_predictor(config: Any, num_outputs: int) -> S4Predictor | LinearPredictor:
    """Builds the predictor of a config.

    Args:
        config: Config with the fields of `PredictorFields`.
        num_outputs: Width of a prediction.

    Returns:
        The predictor, a module from tokens (B, N, D) to predictions (B, N, num_outputs).
    """
    kind = PREDICTORS[config.predictor]
    return kind(config.hidden_size, num_outputs, config.predictor_state_size, float(config.predictor_dropout))


def prediction_losses(predictions: Tensor, targets: Tensor) -> Tensor:
    """Computes the smooth-L1 loss (beta 1) of predictions (B, N, D), averaged over features, (B, N) in float32."""
    losses = nn.functional.smooth_l1_loss(predictions.float(), targets.float(), reduction="none")
    return losses.mean(dim=-1)
