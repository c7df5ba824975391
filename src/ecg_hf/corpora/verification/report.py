"""The report of a verification in Markdown."""

from ecg_hf.corpora.verification.verify import EXAMPLES, Report


def render_report(report: Report) -> str:
    """Returns a report in Markdown: first the failures, then the counts, then lists of records and files."""
    facts = report.facts
    verdict = "**passed**" if not report.failures else "**failed**"
    parts = [
        f"# {facts['name']} ({facts['config']}) {facts['data_version']}: {verdict}",
        _bullets("What must be repaired or left out", report.failures),
        _counts(report),
        _bullets("Records that cannot be read", [f"{name}: {why}" for name, why in report.unreadable.items()]),
        _bullets("Files that are not as published", [f"{a}: {b}" for a, b in report.checksums.changed.items()]),
        _bullets("Files that are missing", [*report.missing, *report.checksums.missing]),
        _bullets(
            "Signals to look at",
            [
                f"{kind}: {report.num_suspect[kind]} records, such as {', '.join(names)}"
                for kind, names in sorted(report.suspect.items())
            ],
        ),
        _duplicates(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _counts(report: Report) -> str:
    rows = [f"| {name} | {split['num_records']} | {split['num_patients']} |" for name, split in report.splits.items()]
    published = report.published
    rows.append(f"| published | {published['num_records'] or 'unknown'} | {published['num_patients'] or 'unknown'} |")
    shapes = [f"- {shape}: {count} records" for shape, count in report.shapes.most_common(EXAMPLES)]
    amplitudes = ", ".join(f"{quantile} {value:.3f}" for quantile, value in report.amplitude.items())
    sums = report.checksums
    lines = [
        "| split | records | patients |\n|---|---|---|",
        *rows,
        "",
        *shapes,
        f"- standard deviation of a lead, {report.facts['unit']}, quantiles of records: {amplitudes or 'none'}",
        f"- {sums.num_files} files compared with {sums.name}" if sums.name else "- no checksums are published",
        f"- {report.num_without_fingerprint} records without a fingerprint cannot be compared with others",
    ]
    return "\n".join(lines)


def _duplicates(report: Report) -> str:
    lines = []
    for pair in sorted(report.duplicates, key=lambda pair: not pair.leaks):
        names = " = ".join(f"{entry.corpus} {entry.record_id} ({entry.split})" for entry in (pair.first, pair.second))
        alike = "by name" if pair.similarity is None else f"{pair.similarity:.4f}"
        lines.append(f"{names}, {alike}{', LEAKS' if pair.leaks else ''}")
    return _bullets("Recordings that occur twice", lines)


def _bullets(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    shown = [f"- {' '.join(line.split())}" for line in lines[:EXAMPLES]]
    if len(lines) > EXAMPLES:
        shown.append(f"- and {len(lines) - EXAMPLES} more, see report.json")
    return f"## {title} ({len(lines)})\n\n" + "\n".join(shown)
