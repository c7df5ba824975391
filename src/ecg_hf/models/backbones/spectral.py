"""A convolution over tokens by one multiplication in the frequency domain, with an equally cheap gradient."""

from typing import Any

import torch
from torch import Tensor


def circle_size(num_tokens: int) -> int:
    """Computes the length of the circular convolution.

    Args:
        num_tokens: Number of tokens N; the lags are -(N - 1) .. N - 1.

    Returns:
        The smallest size at which no two lags coincide and that has no prime factor above 5.
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
    """The circular convolution of signals (D, B, N) with weights (D, size), cut to the first N tokens."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, circle: Tensor) -> Tensor:
        """Multiplies both spectra, and saves them for the backward pass."""
        size = circle.shape[-1]
        spectrum, response = torch.fft.rfft(signal, size), torch.fft.rfft(circle)[:, None]
        ctx.save_for_backward(spectrum, response)
        ctx.size = size
        mixed: Tensor = torch.fft.irfft(spectrum * response, size)
        return mixed[..., : signal.shape[-1]]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the gradients by real transforms; torch's own gradient would use complex ones, at twice the cost."""
        spectrum, response = ctx.saved_tensors
        # In full precision, even if the backward pass runs under autocast.
        with torch.autocast(gradient.device.type, enabled=False):
            grad_spectrum = torch.fft.rfft(gradient, ctx.size)
            grad_circle = torch.fft.irfft(torch.linalg.vecdot(spectrum, grad_spectrum, dim=1), ctx.size)
            grad_signal = torch.fft.irfft(grad_spectrum * response.conj(), ctx.size)
        return grad_signal[..., : gradient.shape[-1]], grad_circle


def convolve(signal: Tensor, weights: Tensor) -> Tensor:
    """Convolves signals u with the weights w of the lags -(N - 1) .. N - 1: the sum over m of w[n - m] u[m].

    Args:
        signal: Signals u, shape (D, B, N).
        weights: Weights w, shape (D, 2 N - 1), the smallest lag first; those of negative lags look at later tokens.

    Returns:
        Convolved signals, shape (D, B, N).
    """
    num_tokens = signal.shape[-1]
    size = circle_size(num_tokens)
    # Negative lags are at the end of the circle.
    past, future = weights[:, num_tokens - 1 :], weights[:, : num_tokens - 1]
    gap = weights.new_zeros(len(weights), size - weights.shape[1])
    mixed: Tensor = _Circular.apply(signal, torch.cat((past, gap, future), -1))
    return mixed
