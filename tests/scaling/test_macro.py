import numpy as np
import pytest

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.scaling.report import study as study_module
from ecg_hf.scaling.report.study import analyse
from ecg_hf.scaling.table.macro import macro
from ecg_hf.scaling.table.run_table import RunTable
from scaling_runs import row


def probed(run, task, value, size=500, seed=0, group="ood_unseen", **changes):
    about = {"eval_id": task, "eval_group": group, "metric": "ne", "value": value}
    return row(run, **about, probe="linear", probe_n=size, probe_seed=seed, **changes)


def averaged(made, group="ood_unseen"):
    found = macro(RunTable.from_rows(made), group)
    return {(each.run_id, each.eval_id, each.probe_n): each.value for each in found.table.rows}, found.missing


def test_probe_seeds_are_averaged_before_tasks():
    made = [probed("a", "mi", value, seed=seed) for seed, value in enumerate((0.4, 0.9))] + [probed("a", "age", 0.8)]
    assert averaged(made)[0] == {("a", "macro ood_unseen (2 tasks)", 500.0): pytest.approx((0.6 + 0.8) / 2)}


def test_each_protocol_averages_the_tasks_that_have_it_and_the_others_are_named():
    """As study-b.yaml asks: 500, 5000 and all records, or two of these, where all records differ from task to task."""
    sizes = {"ptbxl": (500, 5000, 17418), "cpsc2018": (500, 5400), "chapman": (500, 5000)}
    made = [probed("a", task, size / 1e5, size) for task, mine in sizes.items() for size in mine]
    made += [probed("a", "ptbxl", 0.5, 500, probe_dim=128)]
    found, missing = averaged(made)
    assert found == {
        ("a", "macro ood_unseen (3 tasks)", 500.0): pytest.approx(0.005),
        ("a", "macro ood_unseen (2 tasks)", 5000.0): pytest.approx(0.05),
        ("a", "macro ood_unseen (2 tasks, each on its largest number of records)", None): pytest.approx(
            (0.17418 + 0.054) / 2
        ),
    }
    (text,) = missing
    assert text.startswith("macro ood_unseen with a linear probe on 500 records, 128 features: none")
    assert "only ptbxl is there" in text


def test_labels_of_a_task_that_is_there_are_no_tasks_of_their_own():
    made = [probed("a", task, 0.4) for task in ("mi", "age")] + [probed("a", f"mi/{label}", 0.9) for label in "xyz"]
    assert averaged(made)[0] == {("a", "macro ood_unseen (2 tasks)", 500.0): pytest.approx(0.4)}
    alone = [each for each in made if each["eval_id"].startswith("mi/")]
    assert [name for _, name, _ in averaged(alone)[0]] == ["macro ood_unseen (3 tasks)"]


def test_a_number_that_one_task_alone_was_probed_on_is_named():
    made = [probed("a", task, 0.5) for task in ("mi", "age")] + [probed("a", "mi", 0.4, 17418)]
    (text,) = averaged(made)[1]
    assert "linear probe on 17418 records" in text and "only mi is there" in text


def test_a_run_that_lacks_a_task_and_a_task_that_most_runs_lack_are_left_out_and_named():
    made = [probed(run, task, 0.5) for run in "abc" for task in ("mi", "age") if (run, task) != ("b", "age")]
    made += [probed("a", "new", 0.9)]
    found, missing = averaged(made)
    assert {run for run, _, _ in found} == {"a", "c"} and set(found.values()) == {0.5}
    assert any("leaves out run b, which lacks age" in text for text in missing)
    assert any("leaves out new, which 1 of 3 runs have" in text for text in missing)


def sizes_of_one_cell(tasks):
    """Nine sizes, each probed on some tasks at some numbers of records."""
    made = []
    for number, size in enumerate(np.geomspace(2e4, 2e8, 9)):
        base = (0.3 + 3 * size**-0.25) * float(np.exp(0.003 * np.cos(7 * number)))
        for task, amounts in tasks.items():
            made += [probed(f"r{number}", task, base, amount, n_params=float(size)) for amount in amounts]
    return made


def test_a_study_whose_tasks_are_probed_unlike_is_fitted_to_its_end():
    """As study-a-data.yaml asks."""
    made = sizes_of_one_cell({"ptbxl-all": (500, 17418), "cpsc2018": (5400,)})
    study = analyse(RunTable.from_rows(made), num_replicates=10)
    assert {(str(key[0]), key[4]) for key in study.laws} == {
        ("ptbxl-all", 500.0),
        ("ptbxl-all", 17418.0),
        ("cpsc2018", 5400.0),
        ("macro ood_unseen (2 tasks, each on its largest number of records)", None),
    }
    assert any("500 records: none" in text for text in study.missing)


def test_runs_that_no_seed_tells_apart_cost_their_cell_its_law_and_not_the_study():
    made = sizes_of_one_cell({"mi": (500,)})
    made += [probed("again", "mi", 0.5, n_params=made[0]["n_params"])]
    made += [each | {"family": "cnn", "run_id": "c" + each["run_id"]} for each in sizes_of_one_cell({"mi": (500,)})]
    study = analyse(RunTable.from_rows(made), num_replicates=10)
    assert [law.cell[0] for law in study.each()] == ["cnn"]
    assert "not each a seed of its own" in study.missing[0]


def test_a_macro_that_cannot_be_made_costs_the_study_nothing_else(monkeypatch):
    def refuse(table, group):
        raise EcgIntegrityError("no such mean")

    monkeypatch.setattr(study_module, "macro", refuse)
    study = analyse(RunTable.from_rows(sizes_of_one_cell({"mi": (500,)})), num_replicates=10)
    assert len(study.laws) == 1 and study.missing[0] == "macro ood_seen: no such mean"


def test_single_labels_are_no_tasks_of_their_own():
    table = RunTable.from_rows(
        {"run_id": "a", "family": "f", "paradigm": "p", "n_params": 1, "n_unique": 1, "eval_id": name,
         "eval_group": "id", "metric": "nll", "value": 0.5}
        for name in ("x", "x/y", "x/z", "other/y", "xy")
    )  # fmt: skip
    assert [row.eval_id for row in table.of_tasks().rows] == ["x", "other/y", "xy"]
