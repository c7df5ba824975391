"""A convolution over tokens by one multiplication in the frequency domain, with a gradient that costs as little."""

from typing import Any

import torch
from torch import Tensor


def circle_size(num_tokens: int) -> int:
    """Finds the smallest circle on which no token meets another twice and whose size has no prime factor above 5.

    Args:
        num_tokens: N; the lags are -(N - 1) .. N - 1.
    """
    size = 2 * num_tokens - 1
    while _rest(size) > 1:
        size += 1
    return size


def _rest(size: int) -> int:
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    return size


class _Circular(torch.autograd.Function):
    """Convolves signals (D, B, N) with circles of weights (D, size), and gives the first N tokens."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, circle: Tensor) -> Tensor:
        """Keeps both spectra for the backward pass."""
        size = circle.shape[-1]
        spectrum, response = torch.fft.rfft(signal, size), torch.fft.rfft(circle)[:, None]
        ctx.save_for_backward(spectrum, response)
        ctx.size = size
        mixed: Tensor = torch.fft.irfft(spectrum * response, size)
        return mixed[..., : signal.shape[-1]]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Correlates: torch's own gradient of a real transform is a complex one, of twice the work."""
        spectrum, response = ctx.saved_tensors
        # In full precision, wherever it was called.
        with torch.autocast(gradient.device.type, enabled=False):
            passed = torch.fft.rfft(gradient, ctx.size)
            of_circle = torch.fft.irfft(torch.linalg.vecdot(spectrum, passed, dim=1), ctx.size)
            of_signal = torch.fft.irfft(passed * response.conj(), ctx.size)
        return of_signal[..., : gradient.shape[-1]], of_circle


def convolve(signal: Tensor, weights: Tensor) -> Tensor:
    """Gives, for signals u (D, B, N) and the weights w of the lags -(N - 1) .. N - 1, sum over m of w[n - m] u[m].

    Args:
        signal: Shape (D, B, N).
        weights: Shape (D, 2 N - 1), the earliest lag first; those of negative lags look at later tokens.

    Returns:
        Shape (D, B, N).
    """
    num_tokens = signal.shape[-1]
    size = circle_size(num_tokens)
    # Negative lags stand at the end of the circle.
    past, future = weights[:, num_tokens - 1 :], weights[:, : num_tokens - 1]
    gap = weights.new_zeros(len(weights), size - weights.shape[1])
    mixed: Tensor = _Circular.apply(signal, torch.cat((past, gap, future), -1))
    return mixed
