import csv
import json
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecg_hf.errors import EcgFormatError, EcgIntegrityError
from ecg_hf.scaling.fitting import fit as fitting
from ecg_hf.scaling.fitting.points import gather
from ecg_hf.scaling.laws.names import get
from ecg_hf.scaling.table.row import COLUMNS
from ecg_hf.scaling.table.run_table import RunTable
from scaling_runs import row, rows

SPECIFIED = (
    "run_id family paradigm objective n_params n_params_nonembed n_params_total flops_fwd n_unique n_patients "
    "examples_seen epochs n_labels seed lr lr_on_boundary es_interior status eval_id eval_group dataset task metric "
    "value value_se n_eval n_pos probe probe_n probe_dim probe_seed"
).split()


def test_the_columns_are_those_of_the_specification():
    assert list(COLUMNS) == SPECIFIED


def write_csv(path, made):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)


def write_json_lines(path, made):
    path.write_text("".join(json.dumps(each) + "\n" for each in made))


WRITERS = {
    "csv": write_csv,
    "jsonl": write_json_lines,
    "json": lambda path, made: path.write_text(json.dumps(made)),
    "parquet": lambda path, made: pq.write_table(pa.Table.from_pylist(made), path),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_of_file_gives_the_same_table(suffix, tmp_path):
    made = rows(lr=1e-3, lr_on_boundary=False, es_interior=True, probe_seed=None)
    path = tmp_path / f"runs.{suffix}"
    WRITERS[suffix](path, made)
    table = RunTable.read(path)
    assert table.rows == RunTable.from_rows(made).rows
    assert table.rows[0].es_interior is True and table.rows[0].probe_seed is None


def test_a_dataset_gives_the_same_table_as_its_rows():
    made = rows()
    assert RunTable.from_rows(datasets.Dataset.from_list(made)).rows == RunTable.from_rows(made).rows


def test_a_table_survives_writing_and_reading(tmp_path):
    table = RunTable.from_rows([*rows(), row("broken", status="failed", value=None)]).aggregate_seeds()
    table.write(tmp_path / "t.jsonl")
    assert RunTable.read(tmp_path / "t.jsonl").rows == table.rows


def test_a_trackio_export_gives_the_rows_that_runs_logged(tmp_path):
    made = [row("a", n_params=1e5), row("b", n_params=2e5)]
    logged = []
    for number, each in enumerate(made):
        own = {
            "id": number,
            "timestamp": "2026-01-01",
            "run_id": f"uuid{number}",
            "run_name": each["run_id"],
            "step": 1,
        }
        logged.append(dict.fromkeys(each) | own | {"loss": 0.5})
        logged.append({k: v for k, v in each.items() if k != "run_id"} | own | {"loss": None})
    pq.write_table(pa.Table.from_pylist(logged), tmp_path / "project.parquet")
    assert RunTable.from_trackio(tmp_path / "project.parquet", ignore=["loss"]).rows == RunTable.from_rows(made).rows


def test_lines_of_training_steps_and_a_torn_last_line_are_left_out_and_said(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n" + json.dumps(row()) + "\n" + '{"run_id": "half", "fam')
    assert len(RunTable.read(path)) == 1
    assert "left out 1 of 2 lines" in caplog.text and "left out line 3" in caplog.text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"n_param": 5}, "unknown column 'n_param'; did you mean 'n_params'"),
        ({"value": float("nan")}, "value of run 'r0' must be a positive finite number, got nan"),
        ({"value": -0.1}, "must be a positive finite number, got -0.1"),
        ({"n_params": 0}, "n_params of run 'r0' must be a positive finite number"),
        ({"value_se": "nan"}, "value_se of run 'r0' must be a finite number of at least 0, got nan"),
        ({"value_se": -0.01}, "value_se of run 'r0' must be a finite number of at least 0, got -0.01"),
        ({"probe_n": "nan"}, "probe_n of run 'r0' must be a finite number of at least 0, got nan"),
        ({"n_unique": None}, "row 1 lacks n_unique"),
        ({"value": None}, "is done but has no value"),
        ({"metric": "f1"}, "metric of run 'r0' must be one of nll"),
        ({"eval_group": "ood"}, "eval_group of run 'r0' must be one of id"),
        ({"seed": "x"}, "seed of row 1 must be a whole number, got 'x'"),
        ({"lr_on_boundary": "perhaps"}, "must be true or false"),
        ({"status": "ok"}, "status of run 'r0' must be one of done"),
    ],
)
def test_a_row_that_is_not_one_is_refused(changes, text):
    with pytest.raises(EcgFormatError, match=text):
        RunTable.from_rows([row(**changes)])


def test_the_same_evaluation_twice_is_refused():
    with pytest.raises(EcgIntegrityError, match="evaluation 'id-test' twice"):
        RunTable.from_rows([row(), row(value=0.31)])


def test_rows_of_one_run_that_disagree_about_it_are_refused():
    with pytest.raises(EcgIntegrityError, match=r"disagree about n_params: 20000.0 and 30000.0"):
        RunTable.from_rows([row(), row(eval_id="ptbxl", n_params=3e4)])


def test_a_table_that_lacks_the_chosen_definition_of_size_is_refused():
    with pytest.raises(EcgFormatError, match="has no n_params_nonembed"):
        RunTable.from_rows([row()], size="n_params_nonembed")
    with pytest.raises(ValueError, match="size must be one of n_params"):
        RunTable.from_rows([row()], size="params")


def test_the_definition_of_size_and_data_reaches_the_fit():
    made = [r | {"n_params_nonembed": 0.7 * r["n_params"], "n_patients": 0.8 * r["n_unique"]} for r in rows()]
    table = RunTable.from_rows(made, size="n_params_nonembed", data="n_patients")
    found = fitting.fit(table)
    assert found.points.columns == ("n_params_nonembed", "n_patients")
    assert "N = n_params_nonembed" in str(found)
    assert found.params["A"] == pytest.approx(
        fitting.fit(RunTable.from_rows(made)).params["A"] * 0.7 ** found.params["alpha"]
    )


def test_seeds_become_their_geometric_mean_with_the_pooled_noise():
    made = []
    for number, values in enumerate([(0.30, 0.33), (0.20, 0.25), (0.1,)]):
        made += [row(f"{number}-{s}", n_params=1e5 * (number + 1), seed=s, value=v) for s, v in enumerate(values)]
    table = RunTable.from_rows(made).aggregate_seeds()
    squares = [np.var(np.log(v), ddof=1) for v in ((0.30, 0.33), (0.20, 0.25))]
    noise = np.sqrt(np.mean(squares))
    assert [r.value for r in table.rows] == pytest.approx([np.sqrt(0.3 * 0.33), np.sqrt(0.2 * 0.25), 0.1])
    assert [r.value_se / r.value for r in table.rows] == pytest.approx([noise / np.sqrt(2), noise / np.sqrt(2), noise])
    assert [r.n_seeds for r in table.rows] == [2, 2, 1]
    assert table.rows[0].seed_sd == pytest.approx(np.sqrt(squares[0]))


def test_runs_that_differ_in_nothing_said_are_not_taken_for_seeds():
    with pytest.raises(EcgIntegrityError, match="not each a seed of its own"):
        RunTable.from_rows([row("a"), row("b")]).aggregate_seeds()


def as_columns(made):
    return {name: [each.get(name) for each in made] for name in made[0]}


@pytest.mark.parametrize("kind", [as_columns, datasets.Dataset.from_list, pd.DataFrame])
def test_columns_that_make_a_run_table_are_read_as_one(kind):
    """Three seeds of 30 configurations are 30 clusters, and two evaluations are no law."""
    made = [each | {"run_id": f"{each['run_id']}-{s}", "seed": s} for s in range(3) for each in rows(seed=s)]
    found = fitting.fit(kind([each | {"my_note": 1} for each in made]))
    assert sorted(np.bincount(found.points.clusters)) == [3] * 30
    assert found.params == fitting.fit(RunTable.from_rows(made)).params
    outside = [each | {"eval_id": "mi", "eval_group": "ood_unseen"} for each in made]
    with pytest.raises(ValueError, match=r"one evaluation, got 2 .*or keep only the rows of one evaluation"):
        fitting.fit(kind(made + outside))


def test_columns_of_fewer_names_still_keep_seeds_together_and_refuse_two_evaluations():
    made = [each for s in range(3) for each in rows(seed=s)]
    few = {name: [each[name] for each in made] for name in ("run_id", "n_params", "n_unique", "value", "eval_id")}
    assert sorted(np.bincount(fitting.fit(few).points.clusters)) == [3] * 30
    with pytest.raises(ValueError, match="losses of one evaluation, got id-test, mi; keep the rows of one eval_id"):
        fitting.fit(few | {"eval_id": ["mi", *few["eval_id"][1:]]})
    with pytest.raises(ValueError, match="every value_se must be a positive finite number, got nan"):
        fitting.fit(few | {"value_se": [float("nan"), *[0.01] * 89]})


def test_runs_of_unlike_numbers_of_labels_have_no_law_of_size_and_data():
    made = [each | {"n_labels": 1 + 5 * (number % 2)} for number, each in enumerate(rows())]
    table = RunTable.from_rows(made)
    with pytest.raises(ValueError, match=r"one number of labels, got 2 \(1 label; 6 labels\)"):
        fitting.fit(table)
    assert len(gather(table, get("labels"), None, None)) == 30


def test_test_noise_alone_weighs_no_point_and_with_seeds_it_does():
    made = [each | {"value_se": 0.001 * (1 + i)} for i, each in enumerate(rows(seed=0))]
    for table in (RunTable.from_rows(made), RunTable.from_rows(made).aggregate_seeds()):
        found = fitting.fit(table)
        assert found.points.relative_se is None and np.ptp(found.weights) == 0
    again = made[0] | {"run_id": "again", "seed": 1, "value": made[0]["value"] * 1.02}
    for table in (RunTable.from_rows([*made, again]), RunTable.from_rows([*made, again]).aggregate_seeds()):
        assert np.ptp(fitting.fit(table).weights) > 0


def test_seeds_of_one_configuration_are_one_cluster():
    table = RunTable.from_rows([*rows(), *(r | {"run_id": r["run_id"] + "s", "seed": 1} for r in rows(seed=1))])
    clusters = fitting.fit(table).points.clusters
    assert len(clusters) == 60 and sorted(np.bincount(clusters)) == [2] * 30


def test_a_law_of_several_cells_or_evaluations_is_refused():
    both = [*rows(), *rows(family="transformer")]
    with pytest.raises(ValueError, match=r"one family, paradigm and objective, got 2 .*resnet sl supervised"):
        fitting.fit(RunTable.from_rows(both))
    two = [*rows(), *(r | {"eval_id": "other"} for r in rows())]
    with pytest.raises(ValueError, match="one evaluation, got 2"):
        fitting.fit(RunTable.from_rows(two))
    assert fitting.fit(RunTable.from_rows(two).where("eval_id", "other")).num_points == 30


def test_a_score_that_is_better_when_higher_has_no_law():
    with pytest.raises(ValueError, match="auroc is better when higher; fit nll or ne instead"):
        fitting.fit(RunTable.from_rows([r | {"metric": "auroc"} for r in rows()]))


def test_runs_that_failed_or_did_not_converge_are_said_in_the_fit():
    made = rows()
    made[0] |= {"status": "failed", "value": None}
    made[1] |= {"es_interior": False}
    made[2] |= {"lr_on_boundary": True}
    text = str(fitting.fit(RunTable.from_rows(made)))
    assert "not done and left out: 0 (failed)" in text
    assert "perhaps not converged: 1 of 29 points" in text and "edge of its sweep: 1 of 29 points" in text


def test_where_names_what_there_is():
    with pytest.raises(ValueError, match=r"no row has family in .*; there are resnet"):
        RunTable.from_rows([row()]).where("family", "mamba")


def test_scaling_imports_no_torch():
    code = (
        "import sys, types, pathlib, importlib.util as u;"
        "spec = u.find_spec('ecg_hf');"
        "package = types.ModuleType('ecg_hf'); package.__path__ = list(spec.submodule_search_locations);"
        "sys.modules['ecg_hf'] = package; import ecg_hf.scaling;"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
