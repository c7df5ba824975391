"""How a command ends: errors as one line, and exit statuses."""

import sys
from collections.abc import Callable, Sequence

from ecg_hf.errors import EcgError

# Errors whose message tells the user what to do; others are our bugs and keep their traceback.
EXPECTED = (EcgError, ValueError, KeyError, FloatingPointError, FileNotFoundError, PermissionError, ImportError)


def split_verbose(words: Sequence[str]) -> tuple[list[str], bool]:
    """Takes the flag --verbose out of a command's words."""
    return [word for word in words if word != "--verbose"], "--verbose" in words


def run_reporting(prog: str, work: Callable[[], int], *, verbose: bool = False) -> int:
    """Runs the work of a command and prints an expected error as one line.

    Args:
        prog: Name of the command.
        work: Work of the command; returns the exit status.
        verbose: Whether to let errors through, with their traceback.

    Returns:
        The exit status of the work; 1 after an expected error, 130 after Ctrl-C.
    """
    try:
        return work()
    except KeyboardInterrupt:
        sys.stderr.write(f"{prog}: stopped\n")
        return 130
    except EXPECTED as error:
        if verbose:
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        hint = "" if isinstance(error, EcgError) else " (--verbose shows where)"
        sys.stderr.write(f"{prog}: {type(error).__name__}: {message}{hint}\n")
        return 1
