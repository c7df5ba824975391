"""The padded convolution of both convolutional backbones, for any length, causal or not."""

from torch import Tensor, nn


class PaddedConv1d(nn.Conv1d):
    """A convolution over time that maps N tokens to ceil(N / stride) tokens, for any N.

    A non-causal convolution pads as "SAME" does: with `kernel_size - stride` zeros, the smaller half on the left. A
    causal one pads on the left only, and output m depends on no input after m * stride + stride - 1, the last one that
    it covers. In both cases, further zeros on the right complete the last stride.

    Args:
        width_in: Channels of the input.
        width_out: Channels of the output.
        kernel_size: Number of taps; at least `stride`.
        stride: Inputs per output.
        groups: Groups of channels that are convolved separately.
        bias: Whether to add a constant per channel.
        causal: Whether an output may depend only on the inputs it covers and on earlier ones.

    Source:
        Ribeiro et al. 2020 (doi:10.1038/s41467-020-15432-4) and study A (arXiv:2605.12241) pad "SAME"; van den Oord
        et al. 2016 (arXiv:1609.03499), section 2.1, on the left.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = False,
    ):
        super().__init__(width_in, width_out, kernel_size, stride=stride, groups=groups, bias=bias)
        overlap = kernel_size - stride
        self.left = overlap if causal else overlap // 2

    def forward(self, signal: Tensor) -> Tensor:
        """Maps (B, width_in, N) to (B, width_out, ceil(N / stride))."""
        length, stride, kernel_size = signal.shape[2], self.stride[0], self.kernel_size[0]
        reach = (-(-length // stride) - 1) * stride + kernel_size
        padded = nn.functional.pad(signal, (self.left, reach - self.left - length))
        return super().forward(padded)
