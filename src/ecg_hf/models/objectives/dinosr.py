"""DinoSR, which predicts the codes that online clustering assigns to a teacher's tokens."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from ecg_hf.models.backbones.base import Backbone, BackboneConfig, BackboneOutput
from ecg_hf.models.objectives.base import ObjectiveFields, PretrainingOutput
from ecg_hf.models.objectives.codebook import Codebook, code_usage, one_hot
from ecg_hf.models.objectives.masking import SpanFields, draw_spans, masked_mean
from ecg_hf.models.objectives.predictor import PredictorFields, make_predictor
from ecg_hf.models.objectives.teacher import TargetFields, TeacherFields, TeacherObjective, standardise

IDLE_CODES = ("split", "keep", "shrink")

MIN_COUNT = 1e-8  # lower bound of a code's count, that of study A
IDLE_SHARE = 0.01  # fraction of the mean count, reached after 44 idle steps at a decay of 0.9
SPLIT_SHARE = 0.01  # fraction of the distance between an idle code and a busy one


@dataclass
class DinoSRFields(TeacherFields, TargetFields, SpanFields, PredictorFields):
    """Config fields of DinoSR.

    Args:
        num_codebook_layers: Number of the teacher's last layers with a codebook each. Only layers with the width and
            stride of the output count; if there are fewer, all of them have one. Study A asks for 2, but its published
            code uses 1.
        codebook_size: Number of codes of a codebook.
        codebook_decay: Fraction of a code's old members that is kept in each step.
        idle_codes: Treatment of codes with hardly any tokens: "split" (an idle code moves next to a busy code, and they
            share the members), "keep" (it stays) or "shrink" (it moves to zero after some 175 steps, as in study A).
    """

    num_codebook_layers: int = 2
    codebook_size: int = 256
    codebook_decay: float | int = 0.9
    idle_codes: str = "split"

    def validate_codebook(self) -> None:
        """Checks the choices and ranges."""
        if self.idle_codes not in IDLE_CODES:
            raise ValueError(f"idle_codes must be one of {IDLE_CODES}, got {self.idle_codes!r}")
        if self.num_codebook_layers < 1 or self.codebook_size < 2 or not 0 <= self.codebook_decay < 1:
            raise ValueError(
                "num_codebook_layers must be at least 1, codebook_size at least 2 and codebook_decay in [0, 1), got "
                f"{self.num_codebook_layers}, {self.codebook_size} and {self.codebook_decay}"
            )


class Centroids(Codebook):
    """Codes that are decaying means of their members.

    New members move a mean by their difference from it; the mean is not the quotient of a decaying sum and a decaying
    count. A code without members therefore stays in place for any number of steps.

    Args:
        num_codes: Number of codes C.
        width: Width of a code, D.
        decay: Fraction of the old members that is kept in each step.
        idle_codes: Treatment of codes with hardly any tokens, see `DinoSRFields`.

    Source:
        Liu et al. 2023 (DinoSR, arXiv:2305.10005), equation 4.
    """

    counts: Tensor

    def __init__(self, num_codes: int, width: int, decay: float, idle_codes: str):
        super().__init__(num_codes, width)
        self.decay, self.idle_codes = decay, idle_codes
        self.register_buffer("counts", torch.ones(num_codes))

    @staticmethod
    def scale(tokens: Tensor) -> Tensor:
        """Standardises each token (..., D) to mean 0 and variance 1."""
        return standardise(tokens)

    def reset(self) -> None:
        """Draws the codes, and sets the count of each to one; loaded tensors keep their values."""
        super().reset()
        init.ones_(self.counts)

    def compared(self) -> Tensor:
        """Returns the codes with which tokens are compared, in float32, shape (C, D)."""
        codes = self.codes.float()
        if self.idle_codes == "shrink":
            codes = codes * (self.counts.float() / MIN_COUNT).clamp(max=1)[:, None]
        return codes

    @torch.no_grad()
    def nearest(self, tokens: Tensor) -> Tensor:
        """Finds the number of the code with the smallest Euclidean distance to each token (N, D), shape (N,)."""
        codes = self.compared()
        # |x - c|^2 = |x|^2 - 2 (x . c - |c|^2 / 2)
        return torch.addmm(-codes.square().sum(dim=1) / 2, tokens, codes.T).argmax(dim=1)

    @torch.no_grad()
    def update(self, moved: Tensor | None = None) -> None:
        """Moves every code by its pending members, or discards them if the step has not `moved` the weights."""
        total, members = self.take()
        codes, counts = self.codes.float(), self.decay * self.counts.float() + (1 - self.decay) * members
        moves = (1 - self.decay) * (total - members[:, None] * codes) / counts.clamp(min=MIN_COUNT)[:, None]
        # The training loop skips a batch that is not finite, but its tokens may have been collected.
        codes = torch.where(moves.isfinite(), codes + moves, codes)
        if self.idle_codes == "split":
            codes, counts = split_idle(codes, counts)
        self.codes.copy_(codes if moved is None else torch.where(moved, codes, self.codes))
        self.counts.copy_(counts if moved is None else torch.where(moved, counts, self.counts))


def split_idle(codes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Moves idle codes next to the busiest codes, the idlest to the busiest, and divides the members of each pair.

    An idle code stops a small fraction of its way short of the busy code, so each one splits its cluster in a direction
    of its own; if it gets no token there, it stops closer the next time. Nothing is random, so all processes agree.

    Args:
        codes: Codes, shape (C, D).
        counts: Decaying numbers of members, shape (C,).

    Returns:
        The new codes and counts.

    Source:
        Linde, Buzo and Gray 1980 (IEEE Trans. Commun. 28(1)), splitting.
    """
    order = counts.argsort(stable=True)
    half = len(order) // 2
    idle, busy = order[:half], order.flip(0)[:half]
    mean = counts.mean()
    moves = (counts[idle] < IDLE_SHARE * mean) & (counts[busy] > mean)
    near = torch.lerp(codes[busy], codes[idle], SPLIT_SHARE)
    shared = counts[busy] / 2
    counts = counts.index_copy(0, idle, torch.where(moves, shared, counts[idle]))
    counts = counts.index_copy(0, busy, torch.where(moves, shared, counts[busy]))
    return codes.index_copy(0, idle, torch.where(moves[:, None], near, codes[idle])), counts


class DinoSR(TeacherObjective):
    """Predicts, where tokens are hidden, the code nearest to the teacher's token, for each of its last layers.

    Source:
        Liu et al. 2023 (arXiv:2305.10005), equations 3 to 5, with study A's (arXiv:2605.12241) predictor.
        `mask_fraction=0.063`, `num_codebook_layers=1`, `target_norm="token"`, `idle_codes="shrink"`,
        `ema_ramp_steps=0`, `teacher="frozen_random"` and `teacher_dropout=True` describe what its published code does.
    """

    fields: ClassVar[type[ObjectiveFields]] = DinoSRFields
    codebooks: Any  # an nn.ModuleList of Centroids

    def __init__(self, config: BackboneConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.num_layers = min(self.config.num_codebook_layers, backbone.num_layer_outputs)
        size, width = self.config.codebook_size, config.hidden_size
        self.predictor = make_predictor(self.config, self.num_layers * size)
        decay, idle_codes = self.config.codebook_decay, self.config.idle_codes
        self.codebooks = nn.ModuleList(Centroids(size, width, decay, idle_codes) for _ in range(self.num_layers))

    def forward(self, backbone: Backbone, signal: Tensor, labels: Tensor | None = None) -> PretrainingOutput:
        """Computes the loss of signals (B, L, T), zero if nothing is hidden; labels are not used."""
        teacher = self.teacher(signal, output_hidden_states=self.num_layers > 1)
        codes = self._name(teacher)
        mask = draw_spans(self.config, teacher["last_hidden_state"], training=self.training)
        student = self.encode_masked(backbone, signal, mask)
        scores = self.predictor(student).float().unflatten(2, (self.num_layers, -1)).permute(2, 0, 1, 3)
        losses = functional.cross_entropy(scores.flatten(0, 2), codes.flatten(), reduction="none").view_as(codes)
        hits = scores.argmax(dim=-1) == codes
        metrics = {
            "accuracy": masked_mean(hits.float().mean(dim=0), mask),
            **code_usage(list(codes), [self.config.codebook_size] * self.num_layers),
            **self.measure(student, teacher["last_hidden_state"], mask),
        }
        return PretrainingOutput(loss=masked_mean(losses.mean(dim=0), mask), metrics=metrics)

    @torch.no_grad()
    def _name(self, teacher: BackboneOutput) -> Tensor:
        """Assigns codes to the teacher's tokens, (layers, B, N), and in training collects these tokens as members."""
        inner = (teacher.hidden_states or ())[-self.num_layers : -1]
        named = []
        for codebook, tokens in zip(self.codebooks, (*inner, teacher["last_hidden_state"]), strict=True):
            with torch.autocast(tokens.device.type, enabled=False):
                normed = standardise(tokens, self.config.target_norm)
                codes = codebook.nearest(normed.flatten(0, 1))
                if self.training:
                    codebook.collect(one_hot(codes, self.config.codebook_size), normed.flatten(0, 1))
            named.append(codes.view(tokens.shape[:2]))
        return torch.stack(named)

    @torch.no_grad()
    def after_step(self, backbone: Backbone, moved: Tensor | None = None) -> None:
        """Moves the teacher and the codes if the step `moved` the student."""
        super().after_step(backbone, moved)
        for codebook in self.codebooks:
            codebook.update(moved)
