"""The terminal: quiet libraries, named stages, and one progress bar at a time."""

import logging
import os
import sys
import time
import warnings
from types import TracebackType
from typing import Any

LINE_S = 30.0  # seconds between the lines that stand for a bar where there is no terminal
BAR = "{desc}: {percentage:3.0f}% |{bar:16}| {n_fmt}/{total_fmt} {elapsed}<{remaining}{postfix}"  # fits 80 columns
FORMAT = "%(levelname)s %(name)s: %(message)s"
# What the libraries below would print beside our own stages.
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def prepare_console(*, verbose: bool = False) -> None:
    """Prepares the terminal of a command; call it before torch, transformers and datasets are imported.

    On a terminal the bars of other libraries vanish when they are full. In a log file there is no bar at all, only
    lines. Warnings of other libraries are silent; our own appear.

    Args:
        verbose: Whether to show everything that the library and the libraries below it log.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format=FORMAT)
    # Threads that wait by spinning slow each other down ten- to thirtyfold where anything else wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.stderr.isatty():
        os.environ.setdefault("TQDM_LEAVE", "")  # tqdm reads it as False
    else:
        os.environ.setdefault("TQDM_DISABLE", "1")
    if verbose:
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"ecg_hf(\.|$)")


class Stages:
    """The named stages of a command, one line each: `[2/4] probing the model`.

    Args:
        number: Number of stages.
        shown: Whether to print them; only one process of a run does.
    """

    def __init__(self, number: int, *, shown: bool = True):
        self.number, self.shown, self.current = number, shown, 0

    def begin(self, title: str) -> None:
        """Prints the line of the next stage."""
        self.current += 1
        if self.shown:
            sys.stdout.write(f"[{self.current}/{self.number}] {title}\n")
            sys.stdout.flush()


class Progress:
    """The progress of one long piece of work: a bar on a terminal, a line now and then in a log file.

    Args:
        title: What is being done, such as "training".
        total: Number of units of work.
        unit: Name of one unit.
        initial: Units that were done before.
        shown: Whether to show anything.
        keep: Whether a full bar stays on the screen.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "step",
        *,
        initial: int = 0,
        shown: bool = True,
        keep: bool = True,
    ):
        self.title, self.total, self.unit, self.done, self.keep = title, total, unit, initial, keep
        self.live = shown and sys.stderr.isatty()
        self.lines = shown and not self.live
        self._figures: dict[str, Any] = {}
        self._started = self._printed = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if self.live:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total, initial=self.done, desc=self.title, unit=self.unit, leave=self.keep, bar_format=BAR
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.lines and time.monotonic() - self._started > LINE_S:
            self._print()

    def update(self, number: int = 1, **figures: Any) -> None:
        """Counts units that were done, and shows figures such as a loss beside them."""
        self.done += number
        self._figures.update(figures)
        if self._bar is not None:
            self._bar.set_postfix(self._figures, refresh=False)
            self._bar.update(number)
        elif self.lines and time.monotonic() - self._printed > LINE_S:
            self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        figures = "".join(f", {name.replace('_', ' ')} {value}" for name, value in self._figures.items())
        passed = round(self._printed - self._started)
        sys.stderr.write(f"{self.title}: {self.done} of {self.total} {self.unit}s{figures}, {passed} s\n")
        sys.stderr.flush()
