"""Holds every skip of a whole run against the list of skips.py."""

from pathlib import Path

import pytest


class _Audit:
    """Runs where the reports come together: in the one process, or in that which hands out the work."""

    def __init__(self, config):
        options = config.option
        chosen = options.keyword or options.markexpr or options.maxfail or options.lf
        self.whole = not chosen and all(Path(path).is_dir() for path in options.file_or_dir)
        self.messages = []
        self.faults = []

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self.messages.append(report.longrepr[2].removeprefix("Skipped: "))

    def pytest_sessionfinish(self, session):
        if self.whole and not session.shouldstop:
            from skips import ABSTENTIONS, audit

            self.faults = audit(self.messages, ABSTENTIONS)
        if self.faults:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for fault in self.faults:
            terminalreporter.write_line(f"FAILED skips.py: {fault}", red=True)


def pytest_configure(config):
    # The default suite, whose root is the repository, passes by this folder too.
    if config.rootpath == Path(__file__).parent and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Audit(config))
