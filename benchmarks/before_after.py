"""Whether a change made training steps faster: this tree's package and an earlier commit's in one process, in turns.

OMP_NUM_THREADS=1 python benchmarks/before_after.py --before COMMIT --pairs s4-cpc s4-jepa

Both start from the same weights and see the same numbers. Ratios are the earlier time over this one's, of the same
round: medians and quartiles; with one thread of CPU time. The earlier package is read from git under another name.
"""

import argparse
import importlib
import io
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from measuring import clock

import ecg_hf

EARLIER = "ecg_hf_earlier"
ROOT = Path(__file__).parents[1]


def load_earlier(commit: str, folder: Path) -> ModuleType:
    """Writes a commit's package to a folder as `ecg_hf_earlier`, with model types of its own, and imports it."""
    packed = subprocess.run(["git", "archive", commit, "src/ecg_hf"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    package = (folder / "src" / "ecg_hf").rename(folder / EARLIER)
    for path in package.rglob("*.py"):
        text = re.sub(r"\becg_hf\b", EARLIER, path.read_text(encoding="utf-8"))
        text = text.replace(f'version("{EARLIER}")', 'version("ecg_hf")')  # only this tree's is installed
        path.write_text(re.sub(r'"ecg-', '"earlier-ecg-', text), encoding="utf-8")
    sys.path.insert(0, str(folder))
    return importlib.import_module(EARLIER)


class Side:
    """One package's pair, with what it took."""

    def __init__(self, package: ModuleType, name: str, size: str):
        torch.manual_seed(0)
        kind = package.PAIRS[name]
        self.pair = kind(kind.config_class(**kind.backbone_class.sizes.get(size, {}), num_labels=71)).train()
        self.optimizer = torch.optim.AdamW([value for value in self.pair.parameters() if value.requires_grad])
        self.times: dict[str, list[float]] = {}

    def take_step(self, batch: dict[str, torch.Tensor], seed: int) -> float:
        torch.manual_seed(seed)
        moments = [clock("cpu")]
        loss = self.pair(**batch).loss
        moments.append(clock("cpu"))
        loss.backward()
        moments.append(clock("cpu"))
        torch.nn.utils.clip_grad_norm_(self.pair.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.pair.after_step()
        moments.append(clock("cpu"))
        for part, start, end in zip(("forward", "backward", "rest"), moments, moments[1:], strict=False):
            self.times.setdefault(part, []).append(1e3 * (end - start))
        self.times.setdefault("step", []).append(1e3 * (moments[-1] - moments[0]))
        return loss.item()


def compare(earlier: ModuleType, name: str, arguments: argparse.Namespace) -> None:
    sides = [Side(package, name, arguments.size) for package in (earlier, ecg_hf)]
    sides[1].pair.load_state_dict(sides[0].pair.state_dict())
    torch.manual_seed(0)
    batch = {"signal": torch.randn(arguments.batch, 12, arguments.samples), "labels": torch.ones(arguments.batch, 71)}
    losses = [[side.take_step(batch, seed) for side in sides] for seed in range(arguments.rounds + 1)]
    for part in sides[0].times:
        # The first round makes what is made once.
        before, after = (side.times[part][1:] for side in sides)
        low, middle, high = statistics.quantiles([one / two for one, two in zip(before, after, strict=True)], n=4)
        medians = f"{statistics.median(before):.0f} | {statistics.median(after):.0f}"
        error = f"{abs(losses[0][1] / losses[0][0] - 1):.0e}" if part == "step" else ""
        print(f"| {name} | {part} | {medians} | {middle:.2f} | {low:.2f} - {high:.2f} | {error} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="HEAD", help="a commit")
    parser.add_argument("--pairs", nargs="+", default=["s4-cpc"], choices=list(ecg_hf.PAIRS), metavar="PAIR")
    parser.add_argument("--size", default="paper-a")
    parser.add_argument("--batch", type=int, default=16, help="crops")
    parser.add_argument("--samples", type=int, default=600, help="of a crop")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {arguments.size}, {arguments.batch} crops of "
        f"{arguments.samples} samples, {arguments.rounds} rounds\n\n"
        "| pair | part | before ms | after ms | ratio | quartiles | loss differs by |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        earlier = load_earlier(arguments.before, Path(folder))
        for name in arguments.pairs:
            compare(earlier, name, arguments)


if __name__ == "__main__":
    main()
