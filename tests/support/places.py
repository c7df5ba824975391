"""Where a checkout and the shared samples are; tests of the samples skip where these are absent."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
