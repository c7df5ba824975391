"""The teacher of JEPA, data2vec, DinoSR and HuBERT++: a slow copy of the backbone, which sees the whole signal."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.models.backbones.base import Backbone, BackboneConfig, BackboneOutput, Drawn
from ecg_hf.models.objectives.base import Objective, ObjectiveFields
from ecg_hf.models.objectives.health import cosine, feature_health, feature_std
from ecg_hf.models.objectives.masking import replace_tokens


@dataclass
class TeacherFields(ObjectiveFields):
    """Config fields of a teacher.

    Args:
        teacher: "ema" (starts as a copy of the student and follows it) or "frozen_random" (another random network that
            never moves, as in study A's published code, where copy and update match no tensor).
        teacher_dropout: Whether the teacher uses dropout, as in study A.
        ema_decay: Fraction of itself that the teacher keeps in each update after the ramp.
        ema_start_decay: Fraction of itself that the teacher keeps in the first update, before a linear rise.
        ema_ramp_steps: Number of updates of the ramp; 0 for `ema_decay` from the first update, as in study A.
    """

    teacher: str = "ema"
    teacher_dropout: bool = False
    ema_decay: float | int = 0.9996
    ema_start_decay: float | int = 0.999
    ema_ramp_steps: int = 10_000

    def validate_teacher(self) -> None:
        """Checks the kind of the teacher and the ranges of its decays."""
        if self.teacher not in ("ema", "frozen_random"):
            raise ValueError(f"teacher must be 'ema' or 'frozen_random', got {self.teacher!r}")
        if not 0 <= self.ema_start_decay <= self.ema_decay <= 1 or self.ema_ramp_steps < 0:
            raise ValueError(
                "teacher decays must satisfy 0 <= ema_start_decay <= ema_decay <= 1 and ema_ramp_steps >= 0, got "
                f"{self.ema_start_decay}, {self.ema_decay} and {self.ema_ramp_steps}"
            )


@dataclass
class TargetFields(ObjectiveFields):
    """Config fields of the targets that are computed from a teacher's tokens.

    Args:
        target_norm: Standardisation of the targets to mean 0 and variance 1: "time" (each channel over the tokens of a
            crop, so that a teacher whose tokens are all the same is no easy target) or "token" (each token over its
            channels, as in study A).
    """

    target_norm: str = "time"

    def validate_target(self) -> None:
        """Checks the standardisation."""
        if self.target_norm not in ("time", "token"):
            raise ValueError(f"target_norm must be 'time' or 'token', got {self.target_norm!r}")


class Teacher(Drawn):
    """A copy of a backbone that follows it as an exponential moving average, and never requires gradients.

    Args:
        config: Config with the fields of `TeacherFields`.
        student: Backbone to copy and follow; if `config.teacher` is "frozen_random", only its config is used.

    Source:
        Tarvainen and Valpola 2017 (arXiv:1703.01780); the ramp is that of Baevski et al. 2022 (arXiv:2202.03555).
    """

    num_updates: Tensor

    def __init__(self, config: Any, student: Backbone):
        super().__init__()
        self.config = config
        self.follows = config.teacher == "ema"
        self.backbone = copy.deepcopy(student) if self.follows else type(student)(student.config)
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.train()

    def reset(self) -> None:
        """Sets the count of updates to zero, unless it was loaded."""
        init.zeros_(self.num_updates)

    def train(self, mode: bool = True) -> "Teacher":
        """Sets the mode of the batch norms and, with `teacher_dropout`, of the dropout; all parameters stay frozen.

        In training, batch norms use the statistics of the batch, and so gather statistics of whole signals. Averages of
        the student's statistics would describe masked signals, and would take thousands of updates to leave their
        initial values. `from_pretrained` unfreezes every parameter and then calls this method.
        """
        super().train(mode and self.config.teacher_dropout)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.train(mode)
        return self.requires_grad_(False)

    @torch.no_grad()
    def copy_from(self, student: Backbone) -> None:
        """Copies the student's tensors, if the teacher follows it; loaded tensors keep their values."""
        if self.follows:
            for slow, fast in zip(_tensors(self.backbone), _tensors(student), strict=True):
                init.copy_(slow, fast)

    @torch.no_grad()
    def forward(self, signal: Tensor, **outputs: bool) -> BackboneOutput:
        """Encodes whole signals (B, L, T), with the output options of `Backbone.encode`."""
        return self.backbone.encode(self.backbone.embed(signal), **outputs)

    @torch.no_grad()
    def update(self, student: Backbone, moved: Tensor | None = None) -> None:
        """Moves every parameter by a fraction `1 - decay` of the way to the student's.

        Args:
            student: Backbone to follow.
            moved: Whether the student moved, as in `Objective.after_step`; if not, the teacher does not move either.

        Raises:
            TypeError: If parameters have fewer than 32 bits: moves of a fraction of 0.0004 would round to nothing, and
                the teacher would silently stand still.
        """
        if not self.follows:
            return
        slow: list[Tensor] = list(self.backbone.parameters())
        fast: list[Tensor] = list(student.parameters())
        for weight in slow:
            if weight.dtype.itemsize < 4:
                raise TypeError(
                    f"a teacher needs weights of 32 bits to follow its student, got {weight.dtype}; keep the pair in "
                    "float32 and train it under autocast"
                )
        share = self.share() if moved is None else torch.where(moved, self.share(), 0.0)
        # Exact at both ends: a share of 1 copies the student; a share of 0, or equal weights, change nothing.
        shares: Any = [share.to(weight.dtype) for weight in slow]
        torch._foreach_lerp_(slow, fast, shares)
        self.num_updates += 1 if moved is None else moved

    def share(self) -> Tensor:
        """Computes 1 - decay of the next update on the device, where the count of updates is kept."""
        config = self.config
        first, last = 1 - (config.ema_start_decay if config.ema_ramp_steps else config.ema_decay), 1 - config.ema_decay
        ahead = (1 - self.num_updates / max(1, config.ema_ramp_steps)).clamp(min=0)
        share: Tensor = last + ahead * (first - last)
        return share


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def standardise(tokens: Tensor, over: str = "token") -> Tensor:
    """Scales tokens (B, N, D) to mean 0, variance 1, each token over its channels or each channel over "time"."""
    wide = tokens.float()
    if over == "token":
        return nn.functional.layer_norm(wide, wide.shape[-1:])
    return nn.functional.layer_norm(wide.transpose(1, 2), wide.shape[1:2]).transpose(1, 2)


class TeacherObjective(Objective):
    """The base class of objectives that predict a teacher's view of the whole signal from a masked signal.

    A learned token replaces hidden tokens after the stem, which sees the whole signal.
    """

    config: Any

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.teacher = Teacher(config, backbone)
        self.mask_token = nn.Parameter(torch.empty(config.embed_size))

    def initialise(self, backbone: Backbone) -> None:
        """Draws the mask token from N(0, 1) and copies the student to the teacher; loaded tensors keep their values."""
        init.normal_(self.mask_token)
        self.teacher.copy_from(backbone)

    def encode_masked(self, backbone: Backbone, signal: Tensor, mask: Tensor) -> Tensor:
        """Encodes masked signals.

        Args:
            backbone: Student, whose stem sees the whole signals.
            signal: Signals, shape (B, L, T).
            mask: True where an output token is hidden, shape (B, N).

        Returns:
            Output tokens, shape (B, N, D).
        """
        reduction = backbone.stride // backbone.embed_stride
        embedded = replace_tokens(backbone.embed(signal), mask, self.mask_token, reduction)
        tokens: Tensor = backbone.encode(embedded)["last_hidden_state"]
        return tokens

    def measure(self, student: Tensor, teacher: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Computes the metrics that all objectives with a teacher share.

        Args:
            student: Tokens of the student, from the masked signal, shape (B, N, D).
            teacher: Tokens of the teacher, from the whole signal, shape (B, N, D).
            mask: True where a token is hidden from the student, shape (B, N).

        Returns:
            The metrics of `feature_health` for the student, "teacher_feature_std", "teacher_student_cosine" (the mean
            cosine between their tokens) and "mask_fraction".
        """
        return {
            **feature_health(student),
            "teacher_feature_std": feature_std(teacher),
            "teacher_student_cosine": cosine(student, teacher),
            "mask_fraction": mask.float().mean(),
        }

    def after_step(self, backbone: Backbone, moved: Tensor | None = None) -> None:
        """Moves the teacher if the step `moved` the student."""
        self.teacher.update(backbone, moved)
