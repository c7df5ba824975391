import re
from collections import Counter
from pathlib import Path

import pytest

from ecg_hf.registry import CORPORA, TASKS, load
from ecg_hf.scaling.sweep.grid import read_grid
from ecg_hf.scaling.sweep.model_size import measure
from ecg_hf.scaling.sweep.rates import all_trials, make_trials
from ecg_hf.scaling.sweep.sweep import Sweep
from ecg_hf.scaling.table.row import EVAL_GROUPS
from places import ROOT

FOLDER = ROOT / "scripts" / "grids"
GRIDS = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]


@pytest.fixture(scope="module", params=GRIDS)
def sweep(request, tmp_path_factory):
    return Sweep(read_grid(FOLDER / f"{request.param}.yaml"), tmp_path_factory.mktemp(request.param))


def test_every_run_of_a_shipped_grid_can_be_built(sweep):
    jobs = sweep.jobs()
    assert len(jobs) == len({point.run_id for point in jobs})
    for job in [*jobs.values(), *all_trials(make_trials(sweep.grid, sweep.folder))]:
        assert measure(job.arguments).n_params > 1e4


def test_every_evaluation_asks_for_labels_that_its_corpus_has(sweep):
    assert sweep.grid.evaluations[0].group == EVAL_GROUPS[0]
    for evaluation in sweep.grid.evaluations[1:]:
        task = load(TASKS, evaluation.task)
        assert set(evaluation.labels) <= set(load(CORPORA, task.corpus).label_sets[task.label_set])
        assert task.corpus == "synthetic" or evaluation.data_dir


def test_what_a_grid_says_of_its_number_of_runs_and_trials_is_so(sweep):
    (header, *_) = (FOLDER / f"{sweep.folder.name[:-1]}.yaml").read_text().partition("arguments:")
    said = {kind: int(number) for number, kind in re.findall(r"(\d+)\s(?:#\s)?(runs|trials)\b", header)}
    counted = {"runs": len(sweep.grid.points()), "trials": len(sweep.trials())}
    assert said == {kind: counted[kind] for kind in said} and ("trials" in said) == (counted["trials"] > 0)


def cells_of(name):
    grid = read_grid(FOLDER / f"{name}.yaml")
    points = grid.points()
    return grid, Counter((point.family, grid.paradigm(point.objective)) for point in points if point.seed == 0)


def test_study_b_has_thirty_runs_in_each_of_four_cells_from_20_thousand_to_200_million():
    grid, cells = cells_of("study-b")
    assert cells == {(family, paradigm): 30 for family in ("resnet", "transformer") for paradigm in ("sl", "ssl")}
    jobs = Sweep(grid, Path("out")).jobs()
    sizes = {point.size: measure(job.arguments).n_params for point, job in jobs.items() if point.family == "resnet"}
    assert 2e4 < sizes["20k"] < 2.2e4 and 1.9e8 < sizes["200m"] < 2.1e8
    assert sum(job.arguments.early_stopping_patience * 1000 >= 4000 for job in jobs.values()) == len(jobs)


def test_study_a_has_five_amounts_of_five_objectives_on_three_backbones_twice():
    grid, _ = cells_of("study-a-data")
    points = grid.points()
    assert len(points) == 5 * 5 * 3 * 2
    assert {point.objective.removesuffix("-published") for point in points} == {
        "cpc", "jepa", "data2vec", "dinosr", "hubertpp"
    }  # fmt: skip
    jobs = Sweep(grid, Path("out")).jobs()
    for point, job in jobs.items():
        epochs = job.arguments.max_steps * job.arguments.batch_size / (0.955 * 11.44e6 * point.fraction)
        assert 9 < epochs < 11
        assert ("published" in point.objective) == (job.arguments.schedule == "constant")


def test_the_laptop_grid_has_cells_to_compare_and_sizes_and_shares_for_a_law():
    grid, cells = cells_of("laptop")
    assert len(cells) == 3
    for family, paradigm in cells:
        own = [p for p in grid.points() if p.family == family and grid.paradigm(p.objective) == paradigm]
        by_size = {point.size: {other.fraction for other in own if other.size == point.size} for point in own}
        shares = sorted(set().union(*by_size.values()))
        # A law needs four sizes and three amounts, and so does one without the largest size, or the largest amount.
        assert len(by_size) == 5 and len(shares) == 4
        assert sum(bool(found - {shares[-1]}) for found in by_size.values()) == 4
