"""How fast a WFDB record becomes millivolts.

OMP_NUM_THREADS=1 python benchmarks/read.py

Readers take turns in one process; a ratio is the median over rounds of wfdb's time by the reader's in the same round.
With --cpu the time is the process' own, for a machine that others use too.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ecg_hf.signals.formats.wfdb import decode, parse_header
from ecg_hf.signals.record import LEADS

with warnings.catch_warnings():  # wfdb 4.3.1 asks pandas 3.1 for what pandas 4 will not have
    warnings.simplefilter("ignore")
    import wfdb


def write_record(folder: Path, num_samples: int = 5000) -> Path:
    """Writes twelve leads of rounded noise and drift as one format 16 record of 500 Hz."""
    rng = np.random.default_rng(0)
    samples = np.rint(rng.normal(0, 30, (num_samples, 12)).cumsum(axis=0) * 0.2).clip(-3000, 3000).astype(np.int64)
    wfdb.wrsamp(
        "record",
        500,
        ["mV"] * 12,
        list(LEADS),
        d_signal=samples,
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        comments=["Age: 63", "Sex: Female"],
        write_dir=str(folder),
    )
    return folder / "record"


def make_readers(path: Path) -> dict[str, Callable[[], Any]]:
    """Lists the ways to read the record at `path`, every file opened anew at each call; wfdb is the first."""
    header_file = path.with_suffix(".hea")
    kept = parse_header(header_file.read_bytes(), path.name)
    paths = {name: path.parent / name for name in kept.file_names}

    def read(header: Any, verify: bool = True) -> Any:
        return decode(header, {name: paths[name].read_bytes() for name in header.file_names}, verify_checksums=verify)

    return {
        "wfdb.rdrecord": lambda: wfdb.rdrecord(str(path)).p_signal,
        "header and samples, to mV": lambda: read(parse_header(header_file.read_bytes(), path.name)).signal,
        "header kept, to mV": lambda: read(kept).signal,
        "header kept, to int16": lambda: read(kept).samples,
        "kept, unverified, to mV": lambda: read(kept, verify=False).signal,
    }


def seconds(reader: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """Times one call, averaged over `repeats`."""
    start = clock()
    for _ in range(repeats):
        reader()
    return (clock() - start) / repeats


def measure(
    readers: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, np.ndarray[Any, Any]]:
    """Measures the seconds of every reader in every round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds + 1):
        for name, reader in readers.items():
            times[name].append(seconds(reader, 3 if name.startswith("wfdb") else 30, clock))
    return {name: np.array(values[1:]) for name, values in times.items()}


def report(times: dict[str, np.ndarray[Any, Any]]) -> None:
    """Prints one row per reader."""
    first = next(iter(times.values()))
    print(f"{'reader':28}{'median us':>12}{'best us':>10}{'ratio':>9}{'quartiles':>18}")
    for name, values in times.items():
        low, middle, high = np.percentile(first / values, [25, 50, 75])
        spread = f"{low:.1f} - {high:.1f}"
        print(f"{name:28}{np.median(values) * 1e6:12.1f}{values.min() * 1e6:10.1f}{middle:9.1f}{spread:>18}")


def main() -> None:
    """Reads the arguments, checks that all readers agree, and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, help="a record without its suffix; default: a made-up one")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cpu", action="store_true", help="time of this process alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb's, as above
        readers = make_readers(arguments.record or write_record(Path(folder)))
        expected, got = readers["wfdb.rdrecord"](), readers["header and samples, to mV"]()
        if not np.array_equal(expected.T.astype(np.float32), got, equal_nan=True):
            raise SystemExit("the readers disagree; nothing was measured")
        report(measure(readers, arguments.rounds, time.process_time if arguments.cpu else time.perf_counter))


if __name__ == "__main__":
    main()
