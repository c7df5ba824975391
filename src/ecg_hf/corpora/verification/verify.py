"""The steps that verify a corpus on disk: its files, counts, records, units, patients and duplicates."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np

from ecg_hf.corpora.base import EcgCorpus
from ecg_hf.corpora.index import SPLITS, Entry
from ecg_hf.corpora.loading import open_corpus
from ecg_hf.corpora.verification.checksums import Checksums, check_files
from ecg_hf.corpora.verification.ledger import Duplicate, LedgerEntry
from ecg_hf.errors import EcgError, EcgFormatError, EcgUnitsError
from ecg_hf.signals.fingerprint import fingerprint
from ecg_hf.signals.inputs import check_amplitude
from ecg_hf.signals.quality import quality_flags

CHUNK = 50  # records that a worker reads before it reports
LEFT_OUT = 0.01  # fraction of the published records that may be absent, because they are broken or have no patient
EXAMPLES = 10  # examples of each finding in a report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """The arguments with which any process opens the same corpus.

    Args:
        name: Name of the corpus in the registry.
        place: Folder, zip archive or http(s) address of the files; None for a computed corpus.
        config: Name of the config; the corpus' default if None.
        options: Names and values of further fields of the config.
    """

    name: str
    place: str | None = None
    config: str | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def open(self) -> EcgCorpus:
        """Opens the corpus with `allow_missing=True`, unless the options state otherwise."""
        return open_corpus(self.name, self.config, self.place, **{"allow_missing": True, **dict(self.options)})


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of reading one record.

    Args:
        entry: Entry of the record in the ledger.
        error: Reason why the record cannot be read; empty if it can.
        flags: Kinds of quality flags, see `quality_flags`; "units" if the amplitude is not that of an ECG in mV.
        shape: Number of leads, sampling rate (Hz) and duration (s).
        amplitude: Median over leads of the standard deviation, in the corpus' unit.
    """

    entry: LedgerEntry
    error: str = ""
    flags: frozenset[str] = frozenset()
    shape: tuple[int, float, float] = (0, 0.0, 0.0)
    amplitude: float = 0.0


@dataclass
class Report:
    """The results of a verification: `failures` must be repaired or left out, everything else is informational.

    Args:
        facts: Facts of the corpus, see `EcgCorpus.facts`.
        published: Published numbers of records and patients; None if unknown.
        splits: Numbers of records and patients in each split.
        failures: Reasons why the verification failed; empty if it passed.
        missing: Path of one missing file for each record that lacks files.
        checksums: Comparison of the files with their published SHA-256.
        unreadable: Reason for each record that cannot be read, by record id.
        suspect: Examples of record ids for each kind of quality flag.
        num_suspect: Number of records with each kind of quality flag.
        shapes: Number of records with each number of leads, sampling rate and duration.
        amplitude: Quantiles of the records' amplitudes, in the corpus' unit.
        num_without_fingerprint: Number of readable records without a fingerprint.
        duplicates: Pairs of records with the same recording, in this corpus or in another.
    """

    facts: dict[str, Any]
    published: dict[str, int | None]
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    checksums: Checksums = field(default_factory=Checksums)
    unreadable: dict[str, str] = field(default_factory=dict)
    suspect: dict[str, list[str]] = field(default_factory=dict)
    num_suspect: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    amplitude: dict[str, float] = field(default_factory=dict)
    num_without_fingerprint: int = 0
    duplicates: list[Duplicate] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Adds the finding of one record."""
        name = finding.entry.record_id
        if finding.error:
            self.unreadable[name] = finding.error
            return
        num_leads, rate, duration = finding.shape
        self.shapes[f"{num_leads} leads, {rate:g} Hz, {duration:.0f} s"] += 1
        self.num_without_fingerprint += finding.entry.fingerprint is None
        for kind in finding.flags:
            self.num_suspect[kind] += 1
            named = self.suspect.setdefault(kind, [])
            named.append(name)
            # the first ones by name, so that the order of the workers does not matter
            named[:] = sorted(named)[:EXAMPLES]

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as a dict for JSON."""
        return {
            "corpus": self.facts,
            "passed": not self.failures,
            "failures": self.failures,
            "published": self.published,
            "splits": self.splits,
            "missing": self.missing,
            "checksums": vars(self.checksums),
            "unreadable": dict(sorted(self.unreadable.items())),
            "suspect": {
                kind: {"num_records": self.num_suspect[kind], "examples": names}
                for kind, names in sorted(self.suspect.items())
            },
            "shapes": dict(sorted(self.shapes.items())),
            "amplitude": self.amplitude,
            "num_without_fingerprint": self.num_without_fingerprint,
            "duplicates": [pair.as_dict() for pair in self.duplicates],
        }


def start_report(corpus: EcgCorpus) -> tuple[Report, list[Entry]]:
    """Reads and checks the index, and starts a report with the numbers of records and patients.

    Returns:
        The report, and the entries of all splits.

    Raises:
        EcgError: If the index cannot be read, or has an unknown label or a patient in two splits.
    """
    num_records, num_patients = corpus.published
    report = Report(corpus.facts, {"num_records": num_records, "num_patients": num_patients})
    splits = corpus.entries()
    for name in SPLITS:
        patients = {entry.patient_id for entry in splits.get(name, []) if entry.patient_id is not None}
        report.splits[name] = {"num_records": len(splits.get(name, [])), "num_patients": len(patients)}
    report.missing = sorted(corpus.missing.values())
    return report, [entry for entries in splits.values() for entry in entries]


def check_published_files(corpus: EcgCorpus) -> Iterator[tuple[str, Checksums]]:
    """Compares files with their published SHA-256; yields each path with the result so far, nothing without a list."""
    return check_files(corpus.root)


def read_records(source: Source, entries: Sequence[Entry], num_workers: int) -> Iterator[Finding]:
    """Reads records in several processes and yields their findings in no particular order, holding few in memory."""
    chunks = iter([entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)])
    # a forked process could inherit locks held by threads of torch or arrow
    with ProcessPoolExecutor(num_workers, get_context("spawn"), _open_in_worker, (source,)) as pool:
        running: set[Future[list[Finding]]] = set()
        for chunk in chunks:
            running.add(pool.submit(_read_chunk, chunk))
            if len(running) >= 3 * num_workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        for future in running:
            yield from future.result()


_CORPUS: list[EcgCorpus] = []


def _open_in_worker(source: Source) -> None:
    logging.disable(logging.WARNING)  # the parent process has logged all warnings about the index
    corpus = source.open()
    corpus.entries()
    _CORPUS.append(corpus)


def _read_chunk(entries: Sequence[Entry]) -> list[Finding]:
    return [read_record(_CORPUS[0], entry) for entry in entries]


def read_record(corpus: EcgCorpus, entry: Entry) -> Finding:
    """Reads one record and checks its signal."""
    names = (corpus.dataset_name, entry.record_id, corpus.canonical_id(entry), entry.split, entry.patient_id)
    try:
        record = corpus.read(entry)
        signal = record.signal
        flags = {flag.kind for flag in quality_flags(signal, record.leads, record.sampling_rate)}
        mark = fingerprint(signal, record.leads, record.sampling_rate) if record.sampling_rate >= 40 else None
        if signal.shape[1] < 2:
            raise EcgFormatError(f"expected at least 2 samples, got {signal.shape[1]}; leave it out")
    except (EcgError, ValueError, OSError) as error:
        return Finding(LedgerEntry(*names, None), f"{type(error).__name__}: {error}")
    try:
        check_amplitude(signal, "mV")
    except EcgUnitsError:
        flags.add("units")
    present = signal[~np.isnan(signal).all(axis=1)]
    amplitude = float(np.median(np.nanstd(present, axis=1))) if len(present) else 0.0
    shape = (len(record.leads), record.sampling_rate, signal.shape[1] / record.sampling_rate)
    return Finding(LedgerEntry(*names, mark), "", frozenset(flags), shape, amplitude)


def summarise_amplitudes(report: Report, amplitudes: Sequence[float]) -> None:
    """Adds quantiles of the records' amplitudes, in which a wrong unit shows as a factor of a thousand."""
    if amplitudes:
        low, median, high = np.quantile(amplitudes, (0.05, 0.5, 0.95)).tolist()
        report.amplitude = {"5 %": low, "50 %": median, "95 %": high}


def judge(report: Report, duplicates: Iterable[Duplicate], *, allow_missing: bool) -> None:
    """Adds the duplicates to a report and decides which of its results are failures."""
    report.duplicates = list(duplicates)
    counts = {name: sum(split[name] for split in report.splits.values()) for name in ("num_records", "num_patients")}
    num_records = counts["num_records"]
    leaks = [pair for pair in report.duplicates if pair.leaks]
    unlike = report.num_suspect["units"] if report.facts["unit"] == "mV" else 0
    failures = {
        f"{len(report.missing)} files of records are missing": report.missing and not allow_missing,
        **{
            f"{counts[name]} {name.removeprefix('num_')}, {published} were published": _is_odd(
                counts[name], published, allow_missing=allow_missing
            )
            for name, published in report.published.items()
            if published is not None and counts[name]
        },
        f"{len(report.checksums.changed)} files differ from their published SHA-256": report.checksums.changed,
        f"{len(report.checksums.missing)} files with a published SHA-256 are missing": report.checksums.missing
        and not allow_missing,
        f"{len(report.unreadable)} records cannot be read": report.unreadable,
        f"the amplitude of {unlike} of {num_records} records is not that of an ECG in mV": 2 * unlike > num_records,
        f"{len(leaks)} pairs of records hold one recording on both sides of a split": leaks,
    }
    if report.checksums.name and not report.checksums.num_files:
        report.failures.append(f"{report.checksums.name} lists no file")
    report.failures += [text for text, failed in failures.items() if failed]


def _is_odd(count: int, published: int, *, allow_missing: bool) -> bool:
    return count > published or (count < (1 - LEFT_OUT) * published and not allow_missing)
