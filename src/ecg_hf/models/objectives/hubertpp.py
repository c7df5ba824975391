"""HuBERT++: name the codes that balanced online clustering gives the teacher's tokens, softly."""

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

# The first prototypes are chosen among so many tokens of a process at most.
MAX_CANDIDATES = 2**16


@dataclass
class HuBERTppFields(TeacherFields, TargetFields, SpanFields):
    """Config fields of HuBERT++.

    Args:
        codebook_sizes: Codes of each codebook.
        prototype_decay: Share of itself that a code keeps in one step.
        teacher_start_temperature: Divides the teacher's cosines in the first step.
        teacher_temperature: The same from `temperature_steps` on; it falls as a cosine does.
        student_start_temperature: Divides the student's scores in the first step.
        student_temperature: The same from `temperature_steps` on.
        temperature_steps: Optimizer steps over which both fall.
        sinkhorn_iterations: How often the teacher's shares are balanced over codes.
        masked_weight: Weight of the masked tokens' mean loss; the rest, up to 1, is that of the others.
        entropy_weight: Weight of the entropy of the student's predictions at temperature 1, averaged over all tokens.
            It is added to the loss, as in study A, so it favours predictions that are sure.
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
        """Checks the codebooks and how they move."""
        if not self.codebook_sizes or min(self.codebook_sizes) < 2:
            raise ValueError(f"codebook_sizes must be one number or more, each at least 2, got {self.codebook_sizes}")
        if not 0 <= self.prototype_decay < 1 or self.sinkhorn_iterations < 1:
            raise ValueError(
                "prototype_decay must lie in [0, 1) and sinkhorn_iterations be at least 1, got "
                f"{self.prototype_decay} and {self.sinkhorn_iterations}"
            )

    def validate_temperatures(self) -> None:
        """Checks that every temperature is positive."""
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
    """Codes of unit length that turn slowly to where their members point.

    Args:
        num_codes: Codes, C.
        width: Of a code, D.
        decay: Share of itself that a code keeps in one step.

    Source:
        Study A (arXiv:2605.12241).
    """

    def __init__(self, num_codes: int, width: int, decay: float):
        super().__init__(num_codes, width)
        self.decay = decay

    @staticmethod
    def scale(tokens: Tensor) -> Tensor:
        """Gives each token (..., D) length 1."""
        return functional.normalize(tokens, dim=-1)

    @torch.no_grad()
    def update(self, moved: Tensor | None = None) -> None:
        """Turns every code towards what was collected; forgets it if the step has not `moved` the weights."""
        total, _ = self.take()
        codes = self.codes.float()
        turned = self.scale(torch.lerp(self.scale(total), codes, self.decay))
        # A batch that was not finite is skipped by whoever runs the steps, but may have been collected.
        takes = turned.isfinite() if moved is None else turned.isfinite() & moved
        self.codes.copy_(torch.where(takes, turned, codes))


def falling(start: float, end: float, progress: Tensor) -> Tensor:
    """Falls from `start` to `end` along half a cosine, as `progress` goes from 0 to 1."""
    return end + (start - end) * (1 + torch.cos(math.pi * progress)) / 2


class HuBERTpp(TeacherObjective):
    """Predicts the teacher's soft codes for every token, most of all where it is hidden, for several codebooks.

    The teacher's codes are balanced within a batch (over all processes in training), so they depend on its size: two
    micro-batches are not quite one batch. Unless `target_norm` is "time", tokens that all point one way, as those of a
    young network do, have nearly equal shares of all codes, and the codes then turn into one another.

    Source:
        Study A (arXiv:2605.12241), section on HuBERT++, in the manner of Darcet et al. 2025 (CAPI, arXiv:2502.08769).
        `mask_fraction=0.063`, `target_norm="token"`, `ema_ramp_steps=0`, `teacher="frozen_random"` and
        `teacher_dropout=True` are what its published code does; its factor of 10 at `masked_weight=1` is left out.
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
        # What `started` is known to hold, so that a step need not read it from the device.
        self._has_started = False

    def initialise(self, backbone: Backbone) -> None:
        """Counts from zero, with random codes until the first batch of training, except for what was loaded."""
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
        losses = [self._loss(one, shares, mask) for one, shares in zip(scores, targets, strict=True)]
        codes = [shares.argmax(dim=-1) for shares in targets]
        metrics = {
            "accuracy": accuracy([one.argmax(dim=-1) for one in scores], codes, mask),
            **code_usage(codes, sizes),
            **self.measure(student, teacher, mask),
        }
        return PretrainingOutput(loss=torch.stack(losses).sum(), metrics=metrics)

    def _loss(self, scores: Tensor, shares: Tensor, mask: Tensor) -> Tensor:
        """Weighs the divergence of masked and of other tokens, (B, N, C), and the entropy of all."""
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
        """Computes a temperature of this step on the device, where the steps are counted."""
        progress = (self.num_steps / max(1, self.config.temperature_steps)).clamp(max=1)
        return falling(start, end, progress if self.config.temperature_steps else torch.ones_like(progress))

    @torch.no_grad()
    def _share_out(self, teacher: Tensor) -> list[Tensor]:
        """Gives each of the teacher's tokens a share of each code, (B, N, C), and in training collects these."""
        config = self.config
        temperature = self._temperature(config.teacher_start_temperature, config.teacher_temperature)
        given = []
        # Study A's tokens have length 1 and no other norm.
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
                given.append(shares.unflatten(0, teacher.shape[:2]))
        return given

    def _start(self, tokens: Tensor) -> None:
        """Chooses the codes among all processes' tokens (N, D) of the first batch; reads from the device, once."""
        self._has_started = bool(self.started)
        if self._has_started:
            return
        candidates = gather_tokens(tokens[:: -(-len(tokens) // MAX_CANDIDATES)])
        if not candidates.isfinite().all():
            return
        # The same in every process, and whatever their number.
        generator = torch.Generator(tokens.device).manual_seed(0)
        for codebook in self.codebooks:
            codebook.codes.copy_(spread_out(candidates, len(codebook.codes), generator))
        self.started.fill_(True)
        self._has_started = True

    @torch.no_grad()
    def after_step(self, backbone: Backbone, moved: Tensor | None = None) -> None:
        """Moves the teacher, the codes and the temperatures, if the step `moved` the student."""
        super().after_step(backbone, moved)
        for codebook in self.codebooks:
            codebook.update(moved)
        self.num_steps += 1 if moved is None else moved


def accuracy(predicted: list[Tensor], codes: list[Tensor], mask: Tensor) -> Tensor:
    """Gives the share of masked tokens (B, N) whose code was predicted, averaged over codebooks."""
    hits = torch.stack([one == other for one, other in zip(predicted, codes, strict=True)])
    return masked_mean(hits.float().mean(dim=0), mask)
