"""Counts the faults that were injected and what became of them; `make faults` writes the counts to a report."""

import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest

# for the processes that the tests start
HELPERS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
sys.path[:0] = HELPERS
os.environ["PYTHONPATH"] = os.pathsep.join([*HELPERS, os.environ.get("PYTHONPATH", "")])

HEAD = """# Faults injected into training, and what became of them

`make faults` kills, fills, hangs and poisons runs of a small s4-jepa (EMA teacher, batch norms, dropout, masks) on one
machine and writes this table. "As promised" is what the row says; anything else fails the command.

| fault | injected | as promised |
|---|---|---|
"""


@pytest.fixture
def tally(record_property):
    """Notes what was injected: `tally("F30: killed in a step, resumed bit for bit", injected, as_promised)`."""

    def note(what, injected, kept):
        record_property("fault", [what, injected, kept])
        assert kept == injected, f"{what}: {kept} of {injected}"

    return note


class Report:
    """Adds up what the tests have noted."""

    def __init__(self, path):
        self.path, self.counts = Path(path), defaultdict(lambda: [0, 0])

    def pytest_runtest_logreport(self, report):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "fault":
                what, injected, kept = value
                self.counts[what][0] += injected
                self.counts[what][1] += kept

    def pytest_sessionfinish(self):
        rows = [f"| {what} | {injected} | {kept} |\n" for what, (injected, kept) in sorted(self.counts.items())]
        total = [sum(counts[index] for counts in self.counts.values()) for index in (0, 1)]
        self.path.write_text(HEAD + "".join(rows) + f"| all | {total[0]} | {total[1]} |\n")


def pytest_configure(config):
    """Reports where the environment says so, and not from each of xdist's workers."""
    path = os.environ.get("FAULT_REPORT")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Report(path))
