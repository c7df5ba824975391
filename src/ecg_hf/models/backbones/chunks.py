"""A state space run over chunks of tokens: by weights within a chunk, by the state from chunk to chunk."""

from typing import Any

import torch
from torch import Tensor


class _Chunked(torch.autograd.Function):
    """The autograd function of `mix_chunks`; plain autograd would fill, copy and add what is written in place here."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, weights: Tensor, leave: Tensor, enter: Tensor, transitions: Tensor) -> Tensor:
        """Runs the state space, and saves the chunks and the states between them for the backward pass."""
        width, batch, num_tokens = signal.shape
        chunks = _split(signal, weights.shape[1])
        states = _carry(chunks @ enter, transitions, batch)
        mixed = (chunks @ weights).baddbmm_(states, leave)
        ctx.save_for_backward(chunks, states, weights, leave, enter, transitions)
        return mixed.view(width, batch, -1)[..., :num_tokens]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Computes the gradients, with states in the opposite direction, in full precision even under autocast."""
        with torch.autocast(gradient.device.type, enabled=False):
            return _Chunked.correlate(ctx, gradient)

    @staticmethod
    def correlate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Computes the gradients that `backward` returns."""
        chunks, states, weights, leave, enter, transitions = ctx.saved_tensors
        width, batch, num_tokens = gradient.shape
        grad_mixed = _split(gradient, weights.shape[1])
        grad_added = _carry(grad_mixed @ leave.transpose(1, 2), transitions.transpose(2, 3), batch, reverse=True)
        grad_chunks = (grad_mixed @ weights.transpose(1, 2)).baddbmm_(grad_added, enter.transpose(1, 2))
        grad_signal = grad_chunks.view(width, batch, -1)[..., :num_tokens]
        grad_weights, grad_leave = chunks.transpose(1, 2) @ grad_mixed, states.transpose(1, 2) @ grad_mixed
        if not (ctx.needs_input_grad[3] or ctx.needs_input_grad[4]):
            return grad_signal, grad_weights, grad_leave, None, None
        size = transitions.shape[-1]
        pairs = zip(states.split(size, -1), grad_added.split(size, -1), strict=True)
        grad_transitions = torch.stack([before.transpose(1, 2) @ after for before, after in pairs])
        return grad_signal, grad_weights, grad_leave, chunks.transpose(1, 2) @ grad_added, grad_transitions


def _split(signal: Tensor, chunk: int) -> Tensor:
    """Splits signals (D, B, N), padded with zeros, into chunks (D, B * chunks, chunk)."""
    width, batch, num_tokens = signal.shape
    # torch's own padding would write every value twice.
    padded = signal.new_empty(width, batch, num_tokens + -num_tokens % chunk)
    padded[..., :num_tokens] = signal
    padded[..., num_tokens:] = 0
    return padded.view(width, -1, chunk)


def _carry(added: Tensor, transitions: Tensor, batch: int, *, reverse: bool = False) -> Tensor:
    """Sums contributions of chunks into the states before each chunk or, in the second direction, after each.

    Args:
        added: Contributions of the chunks to the states, shape (D, B * chunks, all states).
        transitions: Matrices that carry a state over one chunk, shape (1 or 2, D, state, state).
        batch: Number of crops B.
        reverse: Whether each direction runs the opposite way, as in the backward pass.

    Returns:
        States, shape (D, B * chunks, all states).
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
    """Runs a state space over signals, forward in time and, with a second transition, also backward.

    Args:
        signal: Signals, shape (D, B, N).
        weights: Weights from the tokens of a chunk to its tokens, shape (D, chunk, chunk).
        leave: Weights from the states that enter a chunk to its tokens, shape (D, all states, chunk).
        enter: Weights from the tokens of a chunk to their contribution to the states, shape (D, chunk, all states).
        transitions: Matrices that carry a state over one chunk, multiplied from the right, shape
            (1 or 2, D, state, state).

    Returns:
        Mixed signals, shape (D, B, N).

    Source:
        Dao and Gu 2024 (arXiv:2405.21060), section 6.
    """
    mixed: Tensor = _Chunked.apply(signal, weights, leave, enter, transitions)
    return mixed
