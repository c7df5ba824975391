"""Verifies a corpus on disk: files, counts, every record, units, patients and duplicates.

  ecg-hf verify ptbxl ROOT --config 500hz --workers 2 --report REPORT --ledger ptbxl.parquet
  ecg-hf verify challenge2021 ROOT2 --workers 2 --report REPORT2 --against ptbxl.parquet

Exit status: 0 if nothing must be mended, 1 if something must, 2 if the corpus cannot be read at all. A corpus of which
only a part was downloaded passes with --allow_missing. `ecg-hf build --exclude` takes REPORT/report.json.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_hf.commands.reporting import run_reporting, split_verbose
from ecg_hf.errors import EcgError
from ecg_hf.output.console import Progress, prepare_console
from ecg_hf.output.files import write_json
from ecg_hf.training.flags import FlagParser
from ecg_hf.training.recipes import parse_fields

if TYPE_CHECKING:
    from ecg_hf.corpora.verification.verify import Report


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Verifies and prints the report."""
    words, verbose = split_verbose(sys.argv[1:] if argv is None else argv)
    parser = FlagParser(__doc__, prog)
    parser.add_argument("name", help="name of the corpus; `ecg-hf corpora` lists them")
    parser.add_argument("root", help="folder, zip archive or address of its files; - for a computed corpus")
    parser.add_argument("--config", help="config of the corpus; its default if not given")
    parser.add_argument("--fields", nargs="*", default=[], help="fields of the corpus, each name=value")
    parser.add_argument("--allow_missing", action="store_true", help="whether a part of the corpus passes")
    parser.add_argument("--workers", type=int, default=1, help="processes that read records")
    files = parser.add_argument_group("Files")
    files.add_argument("--report", type=Path, help="folder for report.json and report.md")
    files.add_argument("--ledger", type=Path, help="file for the fingerprints of the recordings")
    files.add_argument("--against", type=Path, nargs="*", default=[], help="ledgers of other corpora")
    prepare_console(verbose=verbose)
    return run_reporting(parser.prog, lambda: _run(parser.parse_args(words)), verbose=verbose)


def _run(arguments: Namespace) -> int:
    from ecg_hf.corpora.verification.report import render_report

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


def verify(arguments: Namespace) -> "Report":
    """Verifies a corpus, and writes the ledger if the arguments name a file for it."""
    from ecg_hf.corpora.verification import verify as steps
    from ecg_hf.corpora.verification.ledger import LedgerEntry, find_pairs, read_ledger, write_ledger

    place = None if arguments.root == "-" else arguments.root
    source = steps.Source(arguments.name, place, arguments.config, tuple(parse_fields(arguments.fields).items()))
    others = [entry for path in arguments.against for entry in read_ledger(path)]
    corpus = source.open()
    report, entries = steps.start_report(corpus)
    for _, report.checksums in steps.check_published_files(corpus):
        pass
    ledger: list[LedgerEntry] = []
    amplitudes: list[float] = []
    with Progress("verifying", len(entries), "record") as bar:
        for finding in steps.read_records(source, entries, arguments.workers):
            bar.update()
            report.add(finding)
            if not finding.error:
                ledger.append(finding.entry)
                amplitudes.append(finding.amplitude)
    ledger.sort(key=lambda entry: entry.record_id)
    steps.summarise_amplitudes(report, amplitudes)
    if arguments.ledger:
        write_ledger(arguments.ledger, ledger)
    pairs = find_pairs([*ledger, *others])
    own = [pair for pair in pairs if arguments.name in (pair.first.corpus, pair.second.corpus)]
    steps.judge(report, own, allow_missing=arguments.allow_missing)
    return report
