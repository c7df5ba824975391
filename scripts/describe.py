"""Writes the architecture pages in docs/ from the classes of the models: `python scripts/describe.py`."""

from pathlib import Path

from ecg_hf.hub.architecture_pages import architecture_pages

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Writes all pages, and removes those of backbones and objectives that no longer exist."""
    docs, pages = ROOT / "docs", architecture_pages(ROOT)
    for path in [*docs.glob("backbones/*.md"), *docs.glob("objectives/*.md")]:
        path.unlink()
    for name, text in pages.items():
        (docs / name).parent.mkdir(exist_ok=True)
        (docs / name).write_text(text, encoding="utf-8")
    print(f"{len(pages)} pages in {docs.name}")


if __name__ == "__main__":
    main()
