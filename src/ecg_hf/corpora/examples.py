"""Signals and writers of files for the tiny synthetic corpora of `EcgCorpus.write_example`."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_hf.signals.record import LEADS
from ecg_hf.signals.simulated_heart import draw_heart
from ecg_hf.signals.simulation import Episode, simulate


def example_samples(number: int) -> NDArray[np.int16]:
    """Simulates 10 s of a 12-lead ECG with a little noise.

    Args:
        number: Seed of the simulated heart.

    Returns:
        Samples in uV at 500 Hz, shape (12, 5000), leads in standard order.
    """
    rng = np.random.default_rng(number)
    return np.rint(1000 * simulate(draw_heart(rng), Episode(muscle=0.01), rng)).astype(np.int16)


def write_wfdb(path: Path, samples: NDArray[np.int16], sampling_rate: int, leads: Sequence[str] = LEADS) -> None:
    """Writes a WFDB record of format 16: a header and a signal file.

    Args:
        path: Folder and name of the record, without a suffix.
        samples: Samples in uV, shape (L, T).
        sampling_rate: Sampling rate in Hz.
        leads: Names of the leads as the header will spell them.

    Source:
        WFDB header(5) and signal(5), "Format 16".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{path.name} {len(leads)} {sampling_rate} {samples.shape[1]}"]
    for lead, row in zip(leads, samples, strict=True):
        checksum = int(row.sum(dtype=np.int64)) % 65536
        lines.append(f"{path.name}.dat 16 1000.0(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n", encoding="ascii")
    path.with_suffix(".dat").write_bytes(samples.T.astype("<i2").tobytes())


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a comma-separated table with a header; a field that a row lacks is left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
