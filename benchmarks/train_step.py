"""One training step of every pair: how fast, in which parts, with how much memory, and how near to the machine's peak.

OMP_NUM_THREADS=1 python benchmarks/train_step.py
python benchmarks/train_step.py --device cuda --batch 64 --rounds 20 --compile

Times are medians over rounds; a step is forward, backward, clipping and fused AdamW, and what follows a step. With one
thread they are CPU time, so that other work on the machine counts little. On a CPU memory is what autograd keeps from
forward to backward, without parameters and buffers; on a GPU it is the most that was allocated. Work is that of the
weights' products alone (linear maps and convolutions): three times the student's forward pass, once the teacher's.
Utilisation is its share of the fastest product measured during the run, or of what an H200 has by its data sheet and
was seen to have.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from measuring import clock, kept_memory
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ecg_hf import PAIRS
from ecg_hf.training.optimization import LEARNING_RATE_SCALES, parameter_groups

H200 = (989e12, 788e12)  # bf16 multiplications and additions per second: data sheet, measured on such a card
PARTS = ("forward", "backward", "optimizer", "after_step")
PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution}
NUM_LABELS = 71


class WeightProducts(TorchDispatchMode):
    """Counts the multiplications and additions of products that a parameter takes part in."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [value for value in args if isinstance(value, Tensor)]
        if func.overloadpacket in PRODUCTS and self.weights & {value.untyped_storage().data_ptr() for value in tensors}:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


@dataclass
class Run:
    """A pair, its optimizer and its batch on a device."""

    name: str
    arguments: argparse.Namespace
    compiled: bool
    times: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def __post_init__(self) -> None:
        kind = PAIRS[self.name]
        sizes = kind.backbone_class.sizes
        # The residual network of the CODE study, which study A has none of, is its config's default.
        self.size = self.arguments.size if self.arguments.size in sizes else "default"
        torch.manual_seed(0)
        config = kind.config_class(**sizes.get(self.size, {}), num_labels=NUM_LABELS)
        self.pair = kind(config).to(self.arguments.device).train()
        groups = parameter_groups(self.pair, 1e-4, 1e-2, LEARNING_RATE_SCALES["uniform"])
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        shape = (self.arguments.batch, config.num_leads, self.arguments.samples)
        self.batch = {"signal": torch.randn(shape), "labels": torch.randint(2, (shape[0], NUM_LABELS)).float()}
        self.batch = {key: value.to(self.arguments.device) for key, value in self.batch.items()}
        self.model = torch.compile(self.pair) if self.compiled else self.pair

    def forward(self) -> Tensor:
        dtype = torch.bfloat16 if self.arguments.precision == "bf16" else None
        with torch.autocast(self.arguments.device, dtype=dtype, enabled=dtype is not None):
            return self.model(**self.batch).loss

    def optimise(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.pair.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def take_step(self) -> None:
        self.forward().backward()
        self.optimise()
        self.pair.after_step()

    def time_step(self) -> None:
        """Takes one step and notes the time of its parts, each of which the host waits for."""
        loss = self.timed("forward", self.forward)
        self.timed("backward", loss.backward)
        self.timed("optimizer", self.optimise)
        self.timed("after_step", self.pair.after_step)

    def timed(self, part: str, call: Callable[[], Tensor | None]) -> Tensor:
        start = clock(self.arguments.device)
        result = call()
        self.times[part].append(1e3 * (clock(self.arguments.device) - start))
        return result

    def steps_per_second(self) -> float:
        """Of a CPU the inverse of the median step; of a GPU that of steps in a row, without waiting for each."""
        if self.arguments.device == "cpu":
            return 1e3 / statistics.median(map(sum, zip(*self.times.values(), strict=True)))
        start = clock(self.arguments.device)
        for _ in range(self.arguments.rounds):
            self.take_step()
        return self.arguments.rounds / (clock(self.arguments.device) - start)

    def products(self) -> int:
        """Counts multiplications and additions of the weights' products in one step."""
        teacher = getattr(self.pair.objective, "teacher", None)
        with WeightProducts(self.pair) as all_of_them, torch.no_grad():
            self.forward()
        with WeightProducts(self.pair) as taught, torch.no_grad():
            if teacher is not None:
                teacher(self.batch["signal"])
        return 3 * (all_of_them.total - taught.total) + taught.total

    def memory(self) -> float:
        """Measures a step's memory in MB."""
        if self.arguments.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.take_step()
            return torch.cuda.max_memory_allocated() / 1e6
        return kept_memory(self.pair, self.forward)


def peak_product(device: str, precision: str) -> float:
    """Measures the fastest of a few products of a token's width, in multiplications and additions per second."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = torch.randn(4800, 512, device=device, dtype=dtype), torch.randn(512, 1024, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        start = clock(device)
        one @ other
        best = min(best, clock(device) - start)
    return 2 * 4800 * 512 * 1024 / best


def measure(name: str, arguments: argparse.Namespace, compiled: bool) -> tuple[str, float]:
    """Measures one pair: gives its row of the table but for the utilisation, and its work per second."""
    run = Run(name, arguments, compiled)
    run.take_step()
    # A compiled step runs no Python that could note what is kept.
    memory = "" if compiled and arguments.device == "cpu" else f"{run.memory():.0f}"
    run.take_step()
    for _ in range(arguments.rounds):
        run.time_step()
    rate = run.steps_per_second()
    run.model = run.pair
    work = run.products()
    millions = sum(value.numel() for value in run.pair.parameters() if value.requires_grad) / 1e6
    cells = [name, run.size, f"{millions:.1f}", "compiled" if compiled else "eager"]
    cells += [f"{arguments.batch * rate:.1f}", f"{1e3 / rate:.0f}"]
    cells += [f"{statistics.median(times):.1f}" for times in run.times.values()]
    cells += [memory, f"{work / arguments.batch / 1e9:.1f}"]
    return " | ".join(cells), work * rate


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS), metavar="PAIR")
    parser.add_argument(
        "--size", default="paper-a", help="of the backbone; its config's default where it has none such"
    )
    parser.add_argument("--batch", type=int, default=4, help="crops")
    parser.add_argument("--samples", type=int, default=600, help="of a crop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="bf16 is autocast; by default on cuda alone")
    parser.add_argument("--compile", action="store_true", help="measure compiled steps too, once they are compiled")
    arguments = parser.parse_args()
    arguments.precision = arguments.precision or ("bf16" if arguments.device == "cuda" else "fp32")
    return arguments


def main() -> None:
    arguments = parse()
    device, rows, peak = arguments.device, [], 0.0
    for name in arguments.pairs:
        for compiled in (False, True) if arguments.compile else (False,):
            peak = max(peak, peak_product(device, arguments.precision))
            rows.append(measure(name, arguments, compiled))
            torch.compiler.reset()
            print(rows[-1][0], file=sys.stderr, flush=True)
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} thread(s)"
    print(
        f"torch {torch.__version__}, {machine}, {arguments.precision}, {arguments.batch} crops of {arguments.samples} "
        f"samples, {arguments.rounds} rounds; fastest product {peak / 1e12:.3f} TFLOP/s\n"
    )
    memory = "MB allocated" if device == "cuda" else "MB kept"
    parts = "forward | backward | clip, AdamW | after step"
    print(f"| pair | size | M weights | | crops/s | step ms | {parts} | {memory} | GFLOP/crop | utilisation |")
    print("|" + "---|" * 13)
    for row, speed in rows:
        shares = " / ".join(f"{speed / limit:.0%}" for limit in (H200 if device == "cuda" else (peak,)))
        print(f"| {row} | {shares} |")


if __name__ == "__main__":
    main()
