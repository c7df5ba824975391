"""Verifies a corpus on disk: files, counts, every record, units, patients and duplicates.

python dataset_scripts/verify.py ptbxl ROOT --config 500hz --workers 2 --report OUT --ledger ptbxl.parquet
python dataset_scripts/verify.py challenge2021 ROOT --report OUT --against ptbxl.parquet chapman.parquet

Exit code: 0 if nothing must be mended, 1 if something must, 2 if the corpus cannot be read at all. A corpus of which
only a part was downloaded passes with --allow_missing. build.py --exclude takes OUT/report.json.
"""

import argparse
import logging
import sys
from argparse import Namespace
from pathlib import Path

from tqdm import tqdm

from ecg_hf.corpora.verification.ledger import LedgerEntry, find_pairs, read_ledger, write_ledger
from ecg_hf.corpora.verification.report import render_report
from ecg_hf.corpora.verification.verify import (
    Report,
    Source,
    check_published_files,
    judge,
    read_records,
    start_report,
    summarise_amplitudes,
)
from ecg_hf.errors import EcgError
from ecg_hf.output.files import write_json
from ecg_hf.training.recipes import parse_fields


def verify(arguments: Namespace) -> Report:
    """Verifies, and writes the ledger if one is asked for."""
    source = Source(
        arguments.name,
        None if arguments.root == "-" else arguments.root,
        arguments.config,
        tuple(parse_fields(arguments.fields).items()),
    )
    others = [entry for path in arguments.against for entry in read_ledger(path)]
    corpus = source.open()
    report, entries = start_report(corpus)
    for _, report.checksums in tqdm(check_published_files(corpus), desc="files", unit="file", disable=None):
        pass
    ledger: list[LedgerEntry] = []
    amplitudes: list[float] = []
    findings = read_records(source, entries, arguments.workers)
    for finding in tqdm(findings, desc="records", total=len(entries), unit="record", disable=None):
        report.add(finding)
        if not finding.error:
            ledger.append(finding.entry)
            amplitudes.append(finding.amplitude)
    ledger.sort(key=lambda entry: entry.record_id)
    summarise_amplitudes(report, amplitudes)
    if arguments.ledger:
        write_ledger(arguments.ledger, ledger)
    pairs = find_pairs([*ledger, *others])
    judge(
        report,
        [pair for pair in pairs if arguments.name in (pair.first.corpus, pair.second.corpus)],
        allow_missing=arguments.allow_missing,
    )
    return report


def parse() -> Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the corpus, a key of ecg_hf.registry.CORPORA")
    parser.add_argument("root", help="folder, zip archive or address of its files; - for a computed corpus")
    parser.add_argument("--config", help="of the corpus; its default if not given")
    parser.add_argument("--fields", nargs="*", default=[], help="fields of the corpus, each name=value")
    parser.add_argument("--allow_missing", action="store_true", help="a part of the corpus will do")
    parser.add_argument("--workers", type=int, default=1, help="processes that read records")
    parser.add_argument("--report", type=Path, help="folder for report.json and report.md")
    parser.add_argument("--ledger", type=Path, help="file to write the recordings' fingerprints to")
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="ledgers of other corpora")
    return parser.parse_args()


def main() -> int:
    """Verifies, and says what was found."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    arguments = parse()
    try:
        report = verify(arguments)
    except EcgError as error:
        print(f"{arguments.name} cannot be read: {error}", file=sys.stderr)
        return 2
    text = render_report(report)
    if arguments.report:
        arguments.report.mkdir(parents=True, exist_ok=True)
        write_json(arguments.report / "report.json", report.as_dict())
        (arguments.report / "report.md").write_text(text, encoding="utf-8")
    print(text)
    return int(bool(report.failures))


if __name__ == "__main__":
    sys.exit(main())
