"""DinoSR: name the codes that online clustering gives the teacher's tokens."""

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

MIN_COUNT = 1e-8  # study A's floor of a code's count
IDLE_SHARE = 0.01  # of the mean count: reached after 44 idle steps at a decay of 0.9
SPLIT_SHARE = 0.01  # of the distance between an idle code and a busy one


@dataclass
class DinoSRFields(TeacherFields, TargetFields, SpanFields, PredictorFields):
    """Config fields of DinoSR.

    Args:
        num_codebook_layers: Each of the teacher's so many last layers has a codebook; a backbone that has fewer with
            tokens of the output's width and stride has a codebook for all of those. Study A asks for 2, but its
            published code uses 1.
        codebook_size: Codes of a codebook.
        codebook_decay: Share of a code's old members that is kept in one step.
        idle_codes: What becomes of a code that hardly any token has: "split" (it moves next to a busy one, and they
            share its members), "keep" (it waits) or "shrink" (it moves to zero after some 175 steps, as in study A).
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

    A mean is moved by what its members add to it, rather than made of a sum and a count that both decay: so it stays
    where it is while it has no members, for however long.

    Args:
        num_codes: Codes, C.
        width: Of a code, D.
        decay: Share of the old members that is kept in one step.
        idle_codes: As in `DinoSRFields`.

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
        """Gives each token (..., D) mean 0 and deviation 1."""
        return standardise(tokens)

    def reset(self) -> None:
        """Draws codes that count one member each."""
        super().reset()
        init.ones_(self.counts)

    def compared(self) -> Tensor:
        """Gives the codes as tokens are compared with them, in float32, shape (C, D)."""
        codes = self.codes.float()
        if self.idle_codes == "shrink":
            codes = codes * (self.counts.float() / MIN_COUNT).clamp(max=1)[:, None]
        return codes

    @torch.no_grad()
    def nearest(self, tokens: Tensor) -> Tensor:
        """Names the code of least Euclidean distance to each token (N, D), to (N,)."""
        codes = self.compared()
        # |x - c|^2 = |x|^2 - 2 (x . c - |c|^2 / 2)
        return torch.addmm(-codes.square().sum(dim=1) / 2, tokens, codes.T).argmax(dim=1)

    @torch.no_grad()
    def update(self, moved: Tensor | None = None) -> None:
        """Moves every code by what was collected; forgets it if the step has not `moved` the weights."""
        total, members = self.take()
        codes, counts = self.codes.float(), self.decay * self.counts.float() + (1 - self.decay) * members
        moves = (1 - self.decay) * (total - members[:, None] * codes) / counts.clamp(min=MIN_COUNT)[:, None]
        # A batch that was not finite is skipped by whoever runs the steps, but may have been collected.
        codes = torch.where(moves.isfinite(), codes + moves, codes)
        if self.idle_codes == "split":
            codes, counts = split_idle(codes, counts)
        self.codes.copy_(codes if moved is None else torch.where(moved, codes, self.codes))
        self.counts.copy_(counts if moved is None else torch.where(moved, counts, self.counts))


def split_idle(codes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Moves idle codes next to the busiest ones, the idlest to the busiest, and lets each two share their members.

    An idle code stays off its new place by a small part of the way it came, so every one splits its cluster in another
    direction; if it wins no token there, the next part is smaller. Nothing is drawn, so all processes do the same.

    Args:
        codes: Shape (C, D).
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
    """Predicts, where tokens are hidden, which code the teacher's token is nearest to, for each of its last layers.

    Source:
        Liu et al. 2023 (arXiv:2305.10005), equations 3 to 5, with study A's (arXiv:2605.12241) predictor.
        `mask_fraction=0.063`, `num_codebook_layers=1`, `target_norm="token"`, `idle_codes="shrink"`,
        `ema_ramp_steps=0`, `teacher="frozen_random"` and `teacher_dropout=True` are what its published code does.
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
        """Computes the loss of signals (B, L, T), zero where nothing is hidden; labels are not used."""
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
        """Names the codes of the teacher's tokens, (layers, B, N), and in training collects their members."""
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
        """Moves the teacher and the codes, if the step `moved` the student."""
        super().after_step(backbone, moved)
        for codebook in self.codebooks:
            codebook.update(moved)
