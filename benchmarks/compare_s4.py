"""Our S4 layer and encoder against the textbook's and against layers that a user might install instead.

OMP_NUM_THREADS=1 python benchmarks/compare_s4.py

All map tokens of one width to tokens, causally, with a residual sum and a norm, as each comes: what differs is in the
columns. Times are medians of rounds in turns, ratios medians of a round's; with one thread they are CPU time. Kept is
what autograd keeps from forward to backward. Layers whose package is not installed are named and left out; on a CPU
transformers' layer runs token by token, as it does for whoever has no CUDA kernels.
"""

import argparse
import importlib.metadata
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measuring import clock, kept_memory
from s4 import TextbookEncoder, TextbookLayer
from torch import Tensor, nn

from ecg_hf.models.backbones.s4 import EcgS4Backbone, EcgS4Config, EcgS4Layer

SLOW = 5_000  # ms: a layer that takes longer runs once, and not on longer crops
SHAPES = ((300, 16), (1250, 4))  # tokens and crops: 2.5 s at 120 tokens a second, and longer crops of the same work


@dataclass
class Layer:
    """A layer, and how it is called."""

    model: nn.Module
    call: Callable[[nn.Module, Tensor], Tensor]
    note: str = ""


class ChannelsFirst(nn.Module):
    """Lets the textbook's layer take tokens (B, N, D)."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(tokens.transpose(1, 2)).transpose(1, 2)


def make_config(arguments: argparse.Namespace, **fields: object) -> EcgS4Config:
    return EcgS4Config(
        causal=True, hidden_size=arguments.width, state_size=arguments.state, dropout=0.0, num_layers=4, **fields
    )


def ours(arguments: argparse.Namespace, num_tokens: int) -> Layer:
    backbone = EcgS4Backbone(make_config(arguments))
    return Layer(backbone.layers[0], lambda model, tokens: model(tokens)[0], "fixed dynamics, as by default")


def ours_trainable(arguments: argparse.Namespace, num_tokens: int) -> Layer:
    backbone = EcgS4Backbone(make_config(arguments, trainable_dynamics=True))
    return Layer(backbone.layers[0], lambda model, tokens: model(tokens)[0], "trainable dynamics")


def textbook(arguments: argparse.Namespace, num_tokens: int) -> Layer:
    layer: EcgS4Layer = EcgS4Backbone(make_config(arguments)).layers[0]
    return Layer(ChannelsFirst(TextbookLayer(layer, num_tokens)), nn.Module.__call__, "same weights, Cauchy and FFT")


def mamba_of_transformers(arguments: argparse.Namespace, num_tokens: int) -> Layer:
    from transformers.models.mamba.modeling_mamba import MambaBlock, MambaConfig

    config = MambaConfig(hidden_size=arguments.width, state_size=arguments.state, num_hidden_layers=1)
    return Layer(MambaBlock(config, 0), nn.Module.__call__, "expansion 2")


def mamba_of_mambapy(arguments: argparse.Namespace, num_tokens: int) -> Layer:
    from mambapy.mamba import MambaConfig, ResidualBlock

    config = MambaConfig(d_model=arguments.width, n_layers=1, d_state=arguments.state)
    return Layer(ResidualBlock(config), nn.Module.__call__, "expansion 2, parallel scan")


def s5(arguments: argparse.Namespace, num_tokens: int) -> Layer:
    from s5 import S5Block

    return Layer(
        S5Block(arguments.width, arguments.width, bidir=False), nn.Module.__call__, "one state of the width for all"
    )


def mamba_of_mamba_ssm(arguments: argparse.Namespace, num_tokens: int) -> Layer:
    from mamba_ssm import Mamba

    layer = nn.Sequential(nn.LayerNorm(arguments.width), Mamba(arguments.width, d_state=arguments.state))
    return Layer(layer, lambda model, tokens: tokens + model(tokens), "expansion 2, CUDA kernels")


LAYERS: dict[str, tuple[str, Callable[[argparse.Namespace, int], Layer]]] = {
    "EcgS4Layer": ("ecg_hf", ours),
    "EcgS4Layer, trainable": ("ecg_hf", ours_trainable),
    "textbook S4": ("ecg_hf", textbook),
    "MambaBlock": ("transformers", mamba_of_transformers),
    "mambapy ResidualBlock": ("mambapy", mamba_of_mambapy),
    "S5Block": ("s5-pytorch", s5),
    "mamba_ssm Mamba": ("mamba-ssm", mamba_of_mamba_ssm),
}


def version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def build(arguments: argparse.Namespace, num_tokens: int) -> tuple[dict[str, Layer], list[str]]:
    """Makes all layers that are installed, and names the others."""
    layers, missing = {}, []
    for name, (package, make) in LAYERS.items():
        torch.manual_seed(0)
        try:
            layers[name] = make(arguments, num_tokens)
        except ImportError as error:
            missing.append(f"{name} ({package}: {error})")
            continue
        layers[name].model.to(arguments.device)
    return layers, missing


def run(layer: Layer, tokens: Tensor, device: str, backward: bool) -> float:
    """Runs a layer once, in training or not, and gives the time in ms."""
    layer.model.train(backward)
    tokens = tokens.detach().requires_grad_(backward)
    start = clock(device)
    with torch.set_grad_enabled(backward):
        output = layer.call(layer.model, tokens)
        if backward:
            output.sum().backward()
    return 1e3 * (clock(device) - start)


def compare(layers: dict[str, Layer], tokens: Tensor, arguments: argparse.Namespace) -> tuple[list[str], set[str]]:
    """Runs all layers in turns and gives the rows of a table, with ratios to the first, and names the slow ones."""
    times: dict[tuple[str, bool], list[float]] = {(name, back): [] for name in layers for back in (False, True)}
    for number in range(arguments.rounds + 1):
        for (name, backward), spent in times.items():
            if not spent or spent[0] < SLOW:
                taken = run(layers[name], tokens, arguments.device, backward)
                # The first round makes what is made once.
                spent += [taken] if number or taken >= SLOW else []
    first, rows = next(iter(layers)), []
    for name, layer in layers.items():
        layer.model.train()
        kept = kept_memory(layer.model, lambda layer=layer: layer.call(layer.model, tokens.clone().requires_grad_()))
        cells = [name, f"{sum(value.numel() for value in layer.model.parameters() if value.requires_grad) / 1e6:.2f}"]
        for backward in (False, True):
            own, other = times[name, backward], times[first, backward]
            ratio = statistics.median(one / two for one, two in zip(own, other, strict=False))
            cells += [f"{statistics.median(own):.1f}", f"{ratio:.2f}"]
        rows.append(f"| {' | '.join([*cells, f'{kept:.0f}', layer.note])} |")
    return rows, {name for (name, _), spent in times.items() if spent[0] >= SLOW}


HEADER = "| layer | M weights | forward ms | to ours | train ms | to ours | MB kept | |"


def encoders(arguments: argparse.Namespace, num_tokens: int) -> dict[str, Layer]:
    backbone = EcgS4Backbone(make_config(arguments)).to(arguments.device)
    textbook = TextbookEncoder(backbone, num_tokens).to(arguments.device)
    return {
        "EcgS4Backbone": Layer(backbone, lambda model, signal: model(signal).last_hidden_state),
        "textbook encoder": Layer(textbook, nn.Module.__call__, "same stem and weights"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--state", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} thread(s)"
    _, missing = build(arguments, SHAPES[0][0])
    packages = ", ".join(dict.fromkeys(version(package) for package, _ in LAYERS.values()))
    print(
        f"torch {torch.__version__}, {machine}, float32, width {arguments.width}, state {arguments.state}, "
        f"{arguments.rounds} rounds; {packages}"
    )
    print(f"Left out: {'; '.join(missing) or 'none'}.")
    slow: set[str] = set()
    for num_tokens, batch in SHAPES:
        layers = {name: layer for name, layer in build(arguments, num_tokens)[0].items() if name not in slow}
        tokens = torch.randn(batch, num_tokens, arguments.width, device=arguments.device)
        signal = torch.randn(batch, 12, 2 * num_tokens, device=arguments.device)
        print(f"\n{batch} crops of {num_tokens} tokens\n\n{HEADER}\n{'|---' * 8}|")
        for group, given in ((layers, tokens), (encoders(arguments, num_tokens), signal)):
            rows, found = compare(group, given, arguments)
            print("\n".join(rows), flush=True)
            slow |= found


if __name__ == "__main__":
    main()
