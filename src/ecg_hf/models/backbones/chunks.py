"""A state space over chunks of tokens: within a chunk by its weights, from chunk to chunk by the state."""

from typing import Any

import torch
from torch import Tensor


class _Chunked(torch.autograd.Function):
    """Runs `mix_chunks`. Left to itself, autograd would fill, copy and add what is written in place here."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, weights: Tensor, leave: Tensor, enter: Tensor, transitions: Tensor) -> Tensor:
        """Keeps the chunks and the states between them for the backward pass."""
        width, batch, num_tokens = signal.shape
        chunks = _split(signal, weights.shape[1])
        states = _carry(chunks @ enter, transitions, batch)
        mixed = (chunks @ weights).baddbmm_(states, leave)
        ctx.save_for_backward(chunks, states, weights, leave, enter, transitions)
        return mixed.view(width, batch, -1)[..., :num_tokens]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Runs the states against the direction they came from, in full precision wherever it was called."""
        with torch.autocast(gradient.device.type, enabled=False):
            return _Chunked.correlate(ctx, gradient)

    @staticmethod
    def correlate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Computes what `backward` gives."""
        chunks, states, weights, leave, enter, transitions = ctx.saved_tensors
        width, batch, num_tokens = gradient.shape
        passed = _split(gradient, weights.shape[1])
        left = _carry(passed @ leave.transpose(1, 2), transitions.transpose(2, 3), batch, reverse=True)
        of_chunks = (passed @ weights.transpose(1, 2)).baddbmm_(left, enter.transpose(1, 2))
        of_signal = of_chunks.view(width, batch, -1)[..., :num_tokens]
        of_weights, of_leave = chunks.transpose(1, 2) @ passed, states.transpose(1, 2) @ passed
        if not (ctx.needs_input_grad[3] or ctx.needs_input_grad[4]):
            return of_signal, of_weights, of_leave, None, None
        size = transitions.shape[-1]
        pairs = zip(states.split(size, -1), left.split(size, -1), strict=True)
        of_transitions = torch.stack([before.transpose(1, 2) @ after for before, after in pairs])
        return of_signal, of_weights, of_leave, chunks.transpose(1, 2) @ left, of_transitions


def _split(signal: Tensor, chunk: int) -> Tensor:
    """Cuts (D, B, N), filled up with zeros, to (D, B * chunks, chunk)."""
    width, batch, num_tokens = signal.shape
    # torch's own padding would write all of it twice.
    padded = signal.new_empty(width, batch, num_tokens + -num_tokens % chunk)
    padded[..., :num_tokens] = signal
    padded[..., num_tokens:] = 0
    return padded.view(width, -1, chunk)


def _carry(added: Tensor, transitions: Tensor, batch: int, *, reverse: bool = False) -> Tensor:
    """Sums what chunks add to the states to the states before each chunk, or, of the second direction, after each.

    Args:
        added: Shape (D, B * chunks, all states).
        transitions: Shape (1 or 2, D, state, state).
        batch: B.
        reverse: Whether the directions change their places.
    """
    parts = added.unflatten(1, (batch, -1)).split(transitions.shape[-1], -1)
    found = []
    for direction, (part, transition) in enumerate(zip(parts, transitions, strict=True)):
        chunks = part.unbind(2)
        backward = (direction == 1) != reverse
        chunks = chunks[::-1] if backward else chunks
        states = [torch.zeros_like(chunks[0])]
        for chunk in chunks[:-1]:
            states.append(torch.baddbmm(chunk, states[-1], transition))
        found.append(torch.stack(states[::-1] if backward else states, 2))
    return torch.cat(found, -1).flatten(1, 2) if len(found) == 2 else found[0].flatten(1, 2)


def mix_chunks(signal: Tensor, weights: Tensor, leave: Tensor, enter: Tensor, transitions: Tensor) -> Tensor:
    """Runs a state space over signals (D, B, N), forward and, with a second transition, backward in time too.

    Args:
        signal: Shape (D, B, N).
        weights: From a chunk's tokens to its tokens, shape (D, chunk, chunk).
        leave: From the states that come into a chunk to its tokens, shape (D, all states, chunk).
        enter: From a chunk's tokens to what they add to the states, shape (D, chunk, all states).
        transitions: What a state becomes over a chunk, from the right, shape (1 or 2, D, state, state).

    Returns:
        Shape (D, B, N).

    Source:
        Dao and Gu 2024 (arXiv:2405.21060), section 6.
    """
    mixed: Tensor = _Chunked.apply(signal, weights, leave, enter, transitions)
    return mixed
