"""Our S4 backbone against a textbook one: ratios of time, interleaved, and peak memory in fresh processes.

OMP_NUM_THREADS=1 python benchmarks/s4.py
OMP_NUM_THREADS=1 python benchmarks/s4.py --quick
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from measuring import clock
from torch import Tensor, nn

from ecg_hf.models.backbones.kernel import StateSpace
from ecg_hf.models.backbones.s4 import EcgS4Backbone, EcgS4Config, EcgS4Layer

# Tokens and crops: 2.5 s at 120 tokens per second, and the longer crops that fit the same work.
SHAPES = ((300, 16), (1250, 4), (2500, 2))


class TextbookStateSpace(nn.Module):
    """The Cauchy form: generating function at the roots of unity, Woodbury's correction, irfft, FFT convolution."""

    def __init__(self, ours: StateSpace, num_tokens: int):
        super().__init__()
        as_complex = {name: torch.view_as_complex(getattr(ours, name).detach().clone()) for name in "BPC"}
        eigenvalues = torch.complex(-ours.log_decay.exp(), ours.frequency)
        state, _ = ours.discretise()
        readout = ours.readout().detach().double()
        corrected = readout - torch.einsum("cds,dst->cdt", readout, torch.linalg.matrix_power(state, num_tokens))
        real, imaginary = (part / 2 for part in corrected.float().chunk(2, -1))
        self.num_tokens = num_tokens
        self.C = nn.Parameter(torch.stack((real, -imaginary), -1))
        self.D = nn.Parameter(ours.D.detach().clone())
        omega = torch.exp(-2j * math.pi * torch.arange(num_tokens // 2 + 1, dtype=torch.float64) / num_tokens)
        buffers = {"dt": ours.log_dt.exp(), "w": eigenvalues, "b": as_complex["B"], "p": as_complex["P"]}
        buffers |= {"omega": omega.to(torch.complex64), "z": (2 * (1 - omega) / (1 + omega)).to(torch.complex64)}
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.clone())

    def cauchy(self, v: Tensor) -> Tensor:
        w = self.dt[:, None] * self.w
        v, w = torch.cat((v, v.conj()), -1), torch.cat((w, w.conj()), -1)
        return self.dt[:, None] * (v[..., None] / (self.z - w[..., None])).sum(-2)

    def kernel(self) -> Tensor:
        c = torch.view_as_complex(self.C)
        left, right = torch.stack((self.b, self.p)), torch.cat((c, self.p.conj()[None]))
        r = self.cauchy(left[:, None] * right[None])
        series = r[0, :-1] - r[0, -1:] * r[1, :-1] / (1 + r[1, -1:])
        return torch.fft.irfft(2 / (1 + self.omega) * series, self.num_tokens)

    def forward(self, signal: Tensor) -> Tensor:
        num_tokens, kernel = signal.shape[-1], self.kernel()
        both = nn.functional.pad(kernel[0], (0, num_tokens))
        if len(kernel) == 2:
            both = both + nn.functional.pad(kernel[1].flip(-1), (num_tokens, 0))
        spectrum = torch.fft.rfft(signal, 2 * num_tokens) * torch.fft.rfft(both)
        return torch.fft.irfft(spectrum, 2 * num_tokens)[..., :num_tokens] + self.D[:, None] * signal


class TextbookLayer(nn.Module):
    """Channels before time, (B, D, N), and a pointwise convolution for the linear map."""

    def __init__(self, ours: EcgS4Layer, num_tokens: int):
        super().__init__()
        self.state_space = TextbookStateSpace(ours.state_space, num_tokens)
        self.output = nn.Conv1d(ours.output_linear.in_features, ours.output_linear.out_features, 1)
        self.output.weight.data = ours.output_linear.weight.detach()[..., None].clone()
        self.output.bias.data = ours.output_linear.bias.detach().clone()
        self.norm = nn.LayerNorm(ours.output_linear.in_features)
        self.dropout = ours.dropout

    def forward(self, signal: Tensor) -> Tensor:
        mixed = nn.functional.gelu(self.state_space(signal))
        mixed = nn.functional.dropout1d(mixed, self.dropout, self.training)
        mixed = nn.functional.glu(self.output(mixed), 1)
        mixed = nn.functional.dropout1d(mixed, self.dropout, self.training)
        return self.norm((signal + mixed).transpose(1, 2)).transpose(1, 2)


class TextbookEncoder(nn.Module):
    """The same stem, then textbook layers."""

    def __init__(self, ours: EcgS4Backbone, num_tokens: int):
        super().__init__()
        self.stem = ours.stem
        self.layers = nn.ModuleList(TextbookLayer(layer, num_tokens) for layer in ours.layers)

    def forward(self, signal: Tensor) -> Tensor:
        tokens = self.stem(signal).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.transpose(1, 2)


class Case:
    """One thing to run in two ways on the same weights and numbers."""

    def __init__(self, part: str, num_tokens: int, batch: int, causal: bool):
        torch.manual_seed(0)
        backbone = EcgS4Backbone(EcgS4Config(causal=causal)).eval()
        layer, width = backbone.layers[0], backbone.config.hidden_size
        tokens = torch.randn(batch, num_tokens, width)
        if part == "encoder":
            self.modules = {"ours": backbone, "textbook": TextbookEncoder(backbone, num_tokens)}
            self.inputs = dict.fromkeys(self.modules, torch.randn(batch, 12, 2 * num_tokens))
        elif part == "layer":
            self.modules = {"ours": layer, "textbook": TextbookLayer(layer, num_tokens)}
            self.inputs = {"ours": tokens, "textbook": tokens.transpose(1, 2).contiguous()}
        else:
            self.modules = {"ours": layer.state_space, "textbook": TextbookStateSpace(layer.state_space, num_tokens)}
            self.inputs = {
                "ours": tokens.permute(2, 0, 1).contiguous(),
                "textbook": tokens.transpose(1, 2).contiguous(),
            }
        self.order = {"encoder": (0, 1, 2), "layer": (0, 2, 1), "mixer": (1, 0, 2)}[part]
        self.needs_input_gradient = part != "encoder"

    def output(self, name: str) -> Tensor:
        given = self.inputs[name]
        if torch.is_grad_enabled() and self.needs_input_gradient:
            given = given.detach().requires_grad_()
        found = self.modules[name](given)
        if isinstance(found, tuple):
            return found[0]
        return found if isinstance(found, Tensor) else found.last_hidden_state

    def error(self) -> float:
        for module in self.modules.values():
            module.eval()
        with torch.no_grad():
            ours, textbook = self.output("ours"), self.output("textbook").permute(self.order)
        return float((ours - textbook).norm() / textbook.norm())

    def run(self, name: str, backward: bool) -> None:
        self.modules[name].train(backward)
        with torch.set_grad_enabled(backward):
            output = self.output(name)
            if backward:
                output.sum().backward()


def compare(case: Case, backward: bool, rounds: int) -> tuple[float, float, float, float, float]:
    """Median times of both in ms, and quartiles of the per-round ratios textbook / ours."""
    times: dict[str, list[float]] = {"textbook": [], "ours": []}
    for _ in range(rounds + 2):
        for name, spent in times.items():
            start = clock("cpu")
            case.run(name, backward)
            spent.append(1e3 * (clock("cpu") - start))
    textbook, ours = (spent[2:] for spent in times.values())
    low, middle, high = statistics.quantiles([a / b for a, b in zip(textbook, ours, strict=True)], n=4)
    return statistics.median(textbook), statistics.median(ours), low, middle, high


def peak_memory(part: str, name: str, num_tokens: int, batch: int) -> float:
    """Growth of the peak resident memory, in MB, by one forward and backward pass in a fresh process."""
    command = [sys.executable, __file__, "--memory", part, name, str(num_tokens), str(batch)]
    # Freed tensors go back to the system at once, so that what an earlier pass used does not hide what this one needs.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(answer.stdout.split()[-1])


def resident_memory(field: str) -> float:
    """VmRSS (now) or VmHWM (its peak) of this process, in MB; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def measure_memory(part: str, name: str, num_tokens: int, batch: int) -> None:
    case = Case(part, num_tokens, batch, causal=True)
    case.run(name, backward=True)  # gradients of parameters and kept operators stay
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from now
    before = resident_memory("VmRSS")
    case.run(name, backward=True)
    print(resident_memory("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--smallest", action="store_true", help="2 rounds of one short layer, to see that it runs")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        part, name, num_tokens, batch = arguments.memory
        measure_memory(part, name, int(num_tokens), int(batch))
        return
    rounds = 2 if arguments.smallest else 5 if arguments.quick else 15
    shapes = ((60, 2),) if arguments.smallest else SHAPES
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {rounds} rounds, float32, width 512, state 8"
    )
    print("part      tokens crops direction     pass       textbook     ours   ratio [IQR]          error")
    jobs = [(part, *shape, causal) for part in ("mixer", "layer") for shape in shapes for causal in (True, False)]
    alone = () if arguments.smallest else ((300, 1), (1250, 1))
    jobs += [("encoder", num_tokens, batch, True) for num_tokens, batch in (*shapes[:2], *alone)]
    for part, num_tokens, batch, causal in jobs:
        case = Case(part, num_tokens, batch, causal)
        error = case.error()
        for backward in (False,) if batch == 1 else (False, True):
            textbook, ours, low, middle, high = compare(case, backward, rounds)
            print(
                f"{part:9}{num_tokens:7}{batch:6} {'causal' if causal else 'bidirectional':14}"
                f"{'train' if backward else 'eval':9}{textbook:8.1f}ms{ours:7.1f}ms   "
                f"{middle:.2f}x [{low:.2f}, {high:.2f}]   {error:.0e}"
            )
    print("peak memory of one forward and backward pass, MB")
    whole = [] if arguments.smallest else [("encoder", 300, 16)]
    for part, num_tokens, batch in [("layer", *shape) for shape in shapes] + whole:
        textbook, ours = (peak_memory(part, name, num_tokens, batch) for name in ("textbook", "ours"))
        print(f"{part:9}{num_tokens:7}{batch:6} {textbook:8.0f}{ours:8.0f}   {textbook / ours:.2f}x")


if __name__ == "__main__":
    main()
