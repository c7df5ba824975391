"""Writes model_cards/: one card per pair, derived from its classes.

python scripts/describe.py
"""

from pathlib import Path

from ecg_hf import PAIRS
from ecg_hf.hub.architecture_pages import describe_pair

FOLDER = Path(__file__).parents[1] / "model_cards"


def main() -> None:
    """Writes every card and removes those of pairs that are no more."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.md"):
        path.unlink()
    for name in PAIRS:
        (FOLDER / f"{name}.md").write_text(describe_pair(name), encoding="utf-8")
    print(f"{len(PAIRS)} cards in {FOLDER.name}")


if __name__ == "__main__":
    main()
