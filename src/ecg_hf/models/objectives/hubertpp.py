"""HuBERT++, which predicts the soft codes that balanced online clustering assigns to a teacher's tokens."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from ecg_hf.models.backbones.base import Backbone, BackboneConfig
from ecg_hf.models.objectives.base import ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.codebook import Codebook, code_usage, sinkhorn, spread_out
from ecg_hf.models.objectives.distributed import gather_tokens
from ecg_hf.models.objectives.masking import SpanFields, draw_spans, masked_mean
from ecg_hf.models.objectives.teacher import TargetFields, TeacherFields, TeacherObjective, standardise

# Largest number of tokens of a process among which the first prototypes are chosen.
MAX_CANDIDATES = 2**16


@dataclass
class HuBERTppFields(TeacherFields, TargetFields, SpanFields):
    """Config fields of HuBERT++.

    Args:
        codebook_sizes: Number of codes of each codebook.
        prototype_decay: Fraction of itself that a code keeps in each step.
        teacher_start_temperature: Divisor of the teacher's cosines in the first step.
        teacher_temperature: Divisor of the teacher's cosines from `temperature_steps` on, reached along half a cosine.
        student_start_temperature: Divisor of the student's scores in the first step.
        student_temperature: Divisor of the student's scores from `temperature_steps` on, reached along half a cosine.
        temperature_steps: Optimizer steps over which both temperatures change.
        sinkhorn_iterations: Number of iterations that balance the teacher's soft assignments over codes.
        masked_weight: Weight of the mean loss of masked tokens; that of the other tokens has the weight
            1 - `masked_weight`.
        entropy_weight: Weight of the entropy of the student's predictions at temperature 1, averaged over all tokens.
            As in study A, the entropy is added to the loss, so it favours confident predictions.
    """

    codebook_sizes: list[int] = field(default_factory=lambda: [128, 256])
    prototype_decay: float | int = 0.99
    teacher_start_temperature: float | int = 0.15
    teacher_temperature: float | int = 0.07
    student_start_temperature: float | int = 0.5
    student_temperature: float | int = 0.1
    temperature_steps: int = 200
    sinkhorn_iterations: int = 3
    masked_weight: float | int = 0.75
    entropy_weight: float | int = 1e-3

    def validate_codebooks(self) -> None:
        """Checks the sizes of the codebooks, their decay and their balancing."""
        if not self.codebook_sizes or min(self.codebook_sizes) < 2:
            raise ValueError(f"codebook_sizes must be one number or more, each at least 2, got {self.codebook_sizes}")
        if not 0 <= self.prototype_decay < 1 or self.sinkhorn_iterations < 1:
            raise ValueError(
                "prototype_decay must lie in [0, 1) and sinkhorn_iterations be at least 1, got "
                f"{self.prototype_decay} and {self.sinkhorn_iterations}"
            )

    def validate_temperatures(self) -> None:
        """Checks that every temperature is positive and their number of steps not negative."""
        temperatures = (
            self.teacher_start_temperature,
            self.teacher_temperature,
            self.student_start_temperature,
            self.student_temperature,
        )
        if min(temperatures) <= 0 or self.temperature_steps < 0:
            raise ValueError(
                "temperatures must be above 0 and temperature_steps at least 0, got "
                f"{temperatures} and {self.temperature_steps}"
            )

    def validate_weights(self) -> None:
        """Checks the weights of the loss."""
        if not 0 <= self.masked_weight <= 1 or self.entropy_weight < 0:
            raise ValueError(
                "masked_weight must lie in [0, 1] and entropy_weight be at least 0, got "
                f"{self.masked_weight} and {self.entropy_weight}"
            )


class Prototypes(Codebook):
    """Codes of unit length that turn slowly towards the direction of their members.

    Args:
        num_codes: Number of codes C.
        width: Width of a code, D.
        decay: Fraction of itself that a code keeps in each step.

    Source:
        Study A (arXiv:2605.12241).
    """

    def __init__(self, num_codes: int, width: int, decay: float):
        super().__init__(num_codes, width)
        self.decay = decay

    @staticmethod
    def scale(tokens: Tensor) -> Tensor:
        """Scales each token (..., D) to length 1."""
        return functional.normalize(tokens, dim=-1)

    @torch.no_grad()
    def update(self, moved: Tensor | None = None) -> None:
        """Turns every code towards its pending members, or discards them if the step has not `moved` the weights."""
        total, _ = self.take()
        codes = self.codes.float()
        turned = self.scale(torch.lerp(self.scale(total), codes, self.decay))
        # The training loop skips a batch that is not finite, but its tokens may have been collected.
        takes = turned.isfinite() if moved is None else turned.isfinite() & moved
        self.codes.copy_(torch.where(takes, turned, codes))


def falling(start: float, end: float, progress: Tensor) -> Tensor:
    """Computes a value that goes from `start` to `end` along half a cosine, as `progress` goes from 0 to 1."""
    return end + (start - end) * (1 + torch.cos(math.pi * progress)) / 2


class HuBERTpp(TeacherObjective):
    """Predicts the teacher's soft codes of every token, for several codebooks; hidden tokens weigh most by default.

    The soft codes are balanced within a batch (over all processes in training), so they depend on the size of the
    batch: two micro-batches are not quite one batch. The tokens of a network at the start of training point in nearly
    the same direction. Unless `target_norm` is "time", such tokens belong almost equally to all codes, which then
    become more and more alike.

    Source:
        Study A (arXiv:2605.12241), section on HuBERT++, in the manner of Darcet et al. 2025 (CAPI, arXiv:2502.08769).
        `mask_fraction=0.063`, `target_norm="token"`, `ema_ramp_steps=0`, `teacher="frozen_random"` and
        `teacher_dropout=True` describe what its published code does; its factor of 10 at `masked_weight=1` is left out.
    """

    fields: ClassVar[type[ObjectiveFields]] = HuBERTppFields
    codebooks: Any  # an nn.ModuleList of Prototypes
    num_steps: Tensor
    started: Tensor

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        width, sizes = config.hidden_size, self.config.codebook_sizes
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, sum(sizes)))
        self.codebooks = nn.ModuleList(Prototypes(size, width, self.config.prototype_decay) for size in sizes)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        # Whether `started` is known to be set, so that a step need not read it from the device.
        self._has_started = False

    def initialise(self, backbone: Backbone) -> None:
        """Sets the step count to zero, with random codes until the first training batch; loaded tensors stay."""
        super().initialise(backbone)
        init.zeros_(self.num_steps)
        init.zeros_(self.started)

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        self._has_started = False

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T); labels are not used."""
        sizes = self.config.codebook_sizes
        teacher = self.teacher(signal)["last_hidden_state"]
        targets = self._share_out(teacher)
        mask = draw_spans(self.config, teacher, training=self.training)
        student = self.encode_masked(backbone, signal, mask)
        scores = self.head(student).float().split(sizes, dim=-1)
        losses = [self._loss(logits, shares, mask) for logits, shares in zip(scores, targets, strict=True)]
        codes = [shares.argmax(dim=-1) for shares in targets]
        metrics = {
            "accuracy": accuracy([logits.argmax(dim=-1) for logits in scores], codes, mask),
            **code_usage(codes, sizes),
            **self.measure(student, teacher, mask),
        }
        return PretrainingOutput(loss=torch.stack(losses).sum(), metrics=metrics)

    def _loss(self, scores: Tensor, shares: Tensor, mask: Tensor) -> Tensor:
        """Computes the loss of one codebook from the scores and soft codes of tokens, (B, N, C) each."""
        config = self.config
        temperature = self._temperature(config.student_start_temperature, config.student_temperature)
        # KL(shares || predicted) = sum of shares log shares - shares log predicted
        cross = -(shares * (scores / temperature).log_softmax(dim=-1)).sum(dim=-1)
        divergence = cross - torch.special.entr(shares).sum(dim=-1)
        hidden, seen = masked_mean(divergence, mask), masked_mean(divergence, ~mask)
        logarithms = scores.log_softmax(dim=-1)
        entropy = -(logarithms.exp() * logarithms).sum(dim=-1).mean()
        weighed = config.masked_weight * hidden + (1 - config.masked_weight) * seen
        loss: Tensor = weighed + config.entropy_weight * entropy
        return loss

    def _temperature(self, start: float, end: float) -> Tensor:
        """Computes a temperature of the current step on the device, where the step count is kept."""
        progress = (self.num_steps / max(1, self.config.temperature_steps)).clamp(max=1)
        return falling(start, end, progress if self.config.temperature_steps else torch.ones_like(progress))

    @torch.no_grad()
    def _share_out(self, teacher: Tensor) -> list[Tensor]:
        """Computes the soft codes of the teacher's tokens, (B, N, C) per codebook; in training, collects the tokens."""
        config = self.config
        temperature = self._temperature(config.teacher_start_temperature, config.teacher_temperature)
        targets = []
        # Study A scales tokens to length 1 without any norm before.
        normed = teacher.float() if config.target_norm == "token" else standardise(teacher, config.target_norm)
        tokens = Prototypes.scale(normed).flatten(0, 1)
        if self.training and not self._has_started:
            self._start(tokens)
        with torch.autocast(teacher.device.type, enabled=False):
            for codebook in self.codebooks:
                similarities = tokens @ codebook.codes.float().T / temperature
                shares = sinkhorn(similarities, config.sinkhorn_iterations, over_processes=self.training)
                if self.training:
                    codebook.collect(shares, tokens)
                targets.append(shares.unflatten(0, teacher.shape[:2]))
        return targets

    def _start(self, tokens: Tensor) -> None:
        """Chooses the codes among the tokens (N, D) of all processes in the first batch; reads from the device once."""
        self._has_started = bool(self.started)
        if self._has_started:
            return
        candidates = gather_tokens(tokens[:: -(-len(tokens) // MAX_CANDIDATES)])
        if not candidates.isfinite().all():
            return
        # The same in every process, for any number of processes.
        generator = torch.Generator(tokens.device).manual_seed(0)
        for codebook in self.codebooks:
            codebook.codes.copy_(spread_out(candidates, len(codebook.codes), generator))
        self.started.fill_(True)
        self._has_started = True

    @torch.no_grad()
    def after_step(self, backbone: Backbone, moved: Tensor | None = None) -> None:
        """Moves the teacher, the codes and the temperatures if the step `moved` the student."""
        super().after_step(backbone, moved)
        for codebook in self.codebooks:
            codebook.update(moved)
        self.num_steps += 1 if moved is None else moved


def accuracy(predicted: list[Tensor], codes: list[Tensor], mask: Tensor) -> Tensor:
    """Computes the fraction of masked tokens (B, N) whose code was predicted, averaged over codebooks."""
    hits = torch.stack([guess == code for guess, code in zip(predicted, codes, strict=True)])
    return masked_mean(hits.float().mean(dim=0), mask)
