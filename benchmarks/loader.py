"""How fast random crops come from a built corpus.

OMP_NUM_THREADS=1 python benchmarks/loader.py

Loaders take turns in one process, each giving batches of 64 random crops of 2.5 s at 240 Hz as float32 tensors; a ratio
is the median over rounds of the first loader's CPU time by the loader's in the same round. Then: memory that stays
with a corpus ten times as large, and the time until a corpus of ten million records (without signals) is open.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from ecg_hf.corpora.loading import open_corpus
from ecg_hf.data.batches import EcgLoader, MixedCrops, StepBatches
from ecg_hf.data.built import BuiltCorpus, BuiltSplit
from ecg_hf.data.record_order import RecordOrder
from ecg_hf.data.shards import Recipe, build_shards, write_manifest
from ecg_hf.data.split import Split
from ecg_hf.signals.feature_extraction import PTBXL_MEAN, PTBXL_STD, EcgFeatureExtractor

RATE, CROP, BATCH = 240, 600, 64
BATCHES = 40  # of one loader in one round


def build(folder: Path, num_records: int) -> BuiltCorpus:
    """Builds the embedded corpus of 250 Hz at 240 Hz."""
    corpus, recipe = open_corpus("synthetic", num_records=num_records, sampling_rate=250), Recipe(RATE)
    build_shards(corpus, recipe, folder, [0])
    write_manifest(corpus, recipe, folder)
    return BuiltCorpus(folder)


class Memmap(Dataset):
    """What many ECG repositories do: float32 on disk, a memory map opened for each item, the crop copied."""

    def __init__(self, path: Path, shape: tuple[int, ...]):
        self.path, self.shape, self.rng = path, shape, np.random.default_rng(0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> torch.Tensor:
        records = np.memmap(self.path, np.float32, "r", shape=self.shape)
        start = self.rng.integers(self.shape[2] - CROP + 1)
        return torch.tensor(records[index, :, start : start + CROP])


class Rows(Dataset):
    """The rows of `datasets`, each decoded whole and cropped."""

    def __init__(self, rows: Any, decode: Callable[[dict], np.ndarray]):
        self.rows, self.decode, self.rng = rows, decode, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        signal = self.decode(self.rows[index])
        start = self.rng.integers(signal.shape[1] - CROP + 1)
        return torch.from_numpy(np.ascontiguousarray(signal[:, start : start + CROP], dtype=np.float32))


def forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def make_loaders(built: BuiltCorpus, folder: Path) -> dict[str, Iterator[Any]]:
    """Lists the loaders; the first is what the others are compared with."""
    rows = built.as_dataset("train")
    plain = EcgFeatureExtractor(sampling_rate=RATE)
    corpus = EcgFeatureExtractor(sampling_rate=RATE, normalization="corpus", mean=PTBXL_MEAN, std=PTBXL_STD)
    split = BuiltSplit(built, "train", plain)
    signals = np.stack([split.signal(index) for index in range(len(split))])
    (folder / "signals.bin").write_bytes(signals.tobytes())
    shape = {"signal": datasets.Array2D(signals.shape[1:], "int16")}
    nested = datasets.Dataset.from_dict({"signal": (1000 * signals).astype(np.int16)}, datasets.Features(shape))
    batches = StepBatches(range(10**6), BATCH, 0, 1, 1)

    def usual(data: Dataset) -> Iterator[Any]:
        return forever(DataLoader(data, BATCH, shuffle=True, drop_last=True))

    def ours(extractor: EcgFeatureExtractor) -> Iterator[Any]:
        return iter(EcgLoader(MixedCrops([BuiltSplit(built, "train", extractor)], CROP, 0), batches))

    return {
        "memory map reopened for each item": usual(Memmap(folder / "signals.bin", signals.shape)),
        "datasets, Array2D int16, numpy": usual(
            Rows(nested.with_format("numpy"), lambda row: row["signal"] / np.float32(1000))
        ),
        "datasets, our rows, decoded whole": usual(Rows(rows, plain.process_row)),
        "EcgLoader, mV": ours(plain),
        "EcgLoader, normalised by corpus": ours(corpus),
    }


def compare(loaders: dict[str, Iterator[Any]], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for loader in loaders.values():
        next(loader)
    for _ in range(rounds):
        for name, loader in loaders.items():
            started = time.process_time()
            for _ in range(BATCHES):
                next(loader)
            times[name].append(time.process_time() - started)
    first = np.array(next(iter(times.values())))
    print("| loader | crops per CPU second | ratio |\n|---|---|---|")
    for name, seconds in times.items():
        speed = BATCH * BATCHES / np.median(seconds)
        print(f"| {name} | {speed:,.0f} | {np.median(first / np.array(seconds)):.1f} |")


def own_memory() -> float:
    """MB that this process alone holds; pages of files that the system may drop do not count."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def grow(small: BuiltCorpus, large: BuiltCorpus) -> None:
    """Prints what two corpora add to the memory of a process that reads an epoch of each."""
    extractor = EcgFeatureExtractor(sampling_rate=RATE)
    for corpus in (small, large):
        before = own_memory()
        split = BuiltSplit(corpus, "train", extractor)
        steps = range(len(split) // BATCH + 1)
        for _ in EcgLoader(MixedCrops([split], CROP, 0), StepBatches(steps, BATCH, 0, 1, 1)):
            pass
        size = sum(file["num_bytes"] for file in corpus.files("train")) / 1e6
        print(f"- {len(split):,} records, {size:,.0f} MB of shards: {own_memory() - before:+.0f} MB")


class Bare(Split):
    """A split of nothing but lengths."""

    def signal(self, index: int) -> Any:
        raise NotImplementedError

    def crops(self, indices: Any, starts: Any, num_samples: int) -> Any:
        raise NotImplementedError


def open_many(folder: Path, num_records: int) -> None:
    """Prints how long it takes to open a corpus of many records and to draw its first batch of positions."""
    path = folder / "many.arrow"
    with datasets.arrow_writer.ArrowWriter(path=str(path)) as writer:
        for start in range(0, num_records, 1_000_000):
            names = pa.array([str(start + index) for index in range(1_000_000)])
            writer.write_table(pa.table({"record_id": names, "num_samples": np.full(1_000_000, 2400, np.int32)}))
        writer.finalize()
    started = time.perf_counter()
    split = Bare("many", "train", "", datasets.Dataset.from_file(str(path)), CROP)
    opened = time.perf_counter()
    RecordOrder([len(split)], None, 0).take(0, BATCH)
    drawn = time.perf_counter()
    print(f"- {len(split):,} records: open after {opened - started:.2f} s, in order after {drawn - opened:.2f} s more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--records", type=int, default=2000, help="at least 200")
    parser.add_argument("--many", type=int, default=10_000_000)
    arguments = parser.parse_args()
    if arguments.records < 200:
        parser.error(f"--records must be at least 200, or an epoch has no whole batch, got {arguments.records}")
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HF_DATASETS_CACHE"] = temporary
        small = build(folder / "small", arguments.records // 10)
        large = build(folder / "large", arguments.records)
        grow(small, large)
        compare(make_loaders(large, folder), arguments.rounds)
        open_many(folder, arguments.many)


if __name__ == "__main__":
    main()
