"""Runs the Python example of the README, as a reader who copies it would."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def example() -> str:
    """The code block; there is one."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return code


if __name__ == "__main__":
    sys.exit(subprocess.run([sys.executable, "-W", "error::DeprecationWarning:ecg_hf", "-c", example()]).returncode)
