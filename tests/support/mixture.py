"""Four small built corpora, two of them from files in official layouts."""

from pathlib import Path

from ecg_hf.corpora.loading import open_corpus
from ecg_hf.corpora.verification.verify import read_record
from ecg_hf.data.shards import Recipe, build_shards, write_manifest
from ecg_hf.registry import CORPORA, load


def build_mixture(folder: Path) -> list[Path]:
    """Builds them at 100 Hz and gives their folders."""
    made = {"num_records": 60, "sampling_rate": 100}
    return [
        build(folder / "a", "synthetic", **made, seed=1),
        build(folder / "b", "synthetic", **made, seed=2),
        *(build(folder / name, name, folder / f"{name}-raw") for name in ("ptbxl", "code15")),
    ]


def build(folder: Path, name: str, place: Path | None = None, *, rate: float = 100, **fields: object) -> Path:
    """Builds one at `rate` Hz, of an example of its official layout in `place` if it needs data."""
    if place is not None:
        load(CORPORA, name).write_example(place, num_records=40)
    corpus = open_corpus(name, data_dir=place, **fields)
    findings = [read_record(corpus, entry) for entries in corpus.entries().values() for entry in entries]
    recipe = Recipe(rate, excluded=tuple(finding.entry.record_id for finding in findings if finding.error))
    build_shards(corpus, recipe, folder, [0])
    write_manifest(corpus, recipe, folder)
    return folder
