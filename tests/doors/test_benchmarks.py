"""That every benchmark runs to its end, at its smallest size."""

import sys

import pytest

from places import ROOT
from shown_texts import find_files
from small_runs import make_checkout, run_words

SCRIPTS = [path for path in find_files(("benchmarks/*.py",)) if "__main__" in path.read_text(encoding="utf-8")]
STEPS = "--size 20k --batch 2 --samples 200"
SMALLEST = {
    "before_after": f"--before HEAD {STEPS} --rounds 2",
    "bootstrap": "--num-resamples 10 --num-loop-resamples 1 --num-rounds 1",
    "checkpoint": "--sizes 20k --batch_size 2",
    "demo_settings": "--steps 3 --seeds 0",
    "compare_s4": "--width 16 --state 4 --rounds 1",
    "loader": "--rounds 1 --records 200 --many 1000000",
    "objectives": "--pairs s4-cpc --share 0.01 --num_records 100 --seeds 1 --processes 1 --output build/objectives",
    "probe": "--records 60 --epochs 1 --rounds 1",
    "read": "--rounds 1",
    "s4": "--smallest",
    "scaling_efficiency": f"{STEPS} --steps 1 --rounds 1",
    "scaling_fit": "--num-grid-starts 2 --num-replicates 10 --num-rounds 1",
    "train_step": f"--pairs s4-cpc {STEPS} --rounds 1",
}


def test_every_benchmark_has_a_smallest_size():
    assert {path.stem for path in SCRIPTS} == set(SMALLEST)


@pytest.mark.door
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_runs_to_its_end(path, tmp_path):
    desk = make_checkout(tmp_path / "checkout", tmp_path)
    script = str(path.relative_to(ROOT))
    printed = run_words([sys.executable, script, *SMALLEST[path.stem].split()], desk.folder)
    assert "nan" not in printed.lower().split()
