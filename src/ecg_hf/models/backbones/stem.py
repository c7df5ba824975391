"""The stems, which turn signals into tokens."""

from torch import Tensor, nn


class ConvStem(nn.Module):
    """Four convolutions, of which the first halves the sampling rate, with batch norm and ReLU after each.

    A token sees its sample, the one before and the one after: even a causal backbone looks one sample ahead.

    Args:
        num_leads: Leads of the signal, L.
        hidden_size: Width of a token, D.

    Source:
        Study A (arXiv:2605.12241); 808,960 parameters for 12 leads at width 512.
    """

    stride = 2

    def __init__(self, num_leads: int, hidden_size: int):
        super().__init__()
        first = nn.Conv1d(num_leads, hidden_size, kernel_size=3, stride=self.stride, padding=1, bias=False)
        rest = (nn.Conv1d(hidden_size, hidden_size, kernel_size=1, bias=False) for _ in range(3))
        self.convs = nn.ModuleList([first, *rest])
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden_size) for _ in range(4))

    def forward(self, signal: Tensor) -> Tensor:
        """Turns signals (B, L, T) into tokens (B, N, D), N = ceil(T / 2)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            signal = nn.functional.relu(norm(conv(signal)), inplace=True)
        # The layers work token by token: one copy here saves them three copies of a transposed view.
        return signal.transpose(1, 2).contiguous()


class LinearStem(nn.Module):
    """One linear map of the leads, sample by sample.

    Args:
        num_leads: Leads of the signal, L.
        hidden_size: Width of a token, D.

    Source:
        The supervised S4 baseline of study A (arXiv:2605.12241).
    """

    stride = 1

    def __init__(self, num_leads: int, hidden_size: int):
        super().__init__()
        self.conv = nn.Conv1d(num_leads, hidden_size, kernel_size=1)

    def forward(self, signal: Tensor) -> Tensor:
        """Turns signals (B, L, T) into tokens (B, N, D), N = T."""
        tokens: Tensor = self.conv(signal)
        return tokens.transpose(1, 2)


class PatchStem(nn.Module):
    """One linear map of all samples of all leads in a patch; the last patch is padded with zeros.

    Args:
        num_leads: Leads of the signal, L.
        hidden_size: Width of a token, D.
        patch_size: Samples of a patch.

    Source:
        Dosovitskiy et al. 2021 (arXiv:2010.11929), eq. 1, in one dimension; the grid of study B (arXiv:2605.17276).
    """

    def __init__(self, num_leads: int, hidden_size: int, patch_size: int):
        super().__init__()
        self.stride = patch_size
        self.linear = nn.Linear(num_leads * patch_size, hidden_size)

    def forward(self, signal: Tensor) -> Tensor:
        """Turns signals (B, L, T) into tokens (B, N, D), N = ceil(T / patch_size)."""
        padded = nn.functional.pad(signal, (0, -signal.shape[2] % self.stride))
        patches = padded.unflatten(2, (-1, self.stride)).transpose(1, 2)
        tokens: Tensor = self.linear(patches.flatten(2))
        return tokens


Stem = ConvStem | LinearStem | PatchStem
STEMS: dict[str, type[ConvStem] | type[LinearStem]] = {"conv": ConvStem, "linear": LinearStem}
PATCH = "patch"


def make_stem(name: str, num_leads: int, hidden_size: int, patch_size: int) -> Stem:
    """Builds a stem by its name.

    Args:
        name: Name of the stem, a key of `STEMS` or `PATCH`.
        num_leads: Leads of the signal, L.
        hidden_size: Width of a token, D.
        patch_size: Samples of a patch; only the stem `PATCH` uses it.

    Returns:
        The stem, a module from signals (B, L, T) to tokens (B, N, D).
    """
    return PatchStem(num_leads, hidden_size, patch_size) if name == PATCH else STEMS[name](num_leads, hidden_size)
