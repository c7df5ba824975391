import io
import json

import pytest
import yaml

from ecg_hf.scaling.sweep import amounts
from ecg_hf.scaling.sweep.grid import read_grid
from ecg_hf.scaling.sweep.sweep import Sweep
from ecg_hf.scaling.sweep.table import write_table
from ecg_hf.scaling.sweep.training_job import _asked
from ecg_hf.scaling.table.run_table import RunTable

GRID = {
    "arguments": {
        "corpus_fields": ["num_records=60", "sampling_rate=100", "seed=1"],
        "sampling_rate": 100,
        "max_steps": 6,
        "batch_size": 4,
        "warmup_steps": 1,
    },
    "families": {"transformer": {"model_fields": ["patch_size=8"]}},
    "objectives": ["masked"],
    "sizes": ["20k", "63k"],
    "runs": [{"fractions": [1, 0.5]}],
    "evaluations": [{"name": "id", "group": "id"}, {"name": "other", "group": "id", "split": "validation"}],
}


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID))
    return Sweep(read_grid(path), tmp_path / "out", stream=io.StringIO())


def train(job, names):
    """Writes what a trained run leaves, with the evaluations of some names."""
    (job.folder / "evaluations").mkdir(parents=True)
    splits = {"train": {"num_records": 40, "num_patients": 30}}
    run = {"arguments": vars(job.arguments), "steps": 6, "examples_seen": 24, "validation_step": 6}
    run |= {"corpora": [{"name": "synthetic", "splits": splits}]}
    (job.folder / "run.json").write_text(json.dumps(run))
    for evaluation in job.evaluations:
        if evaluation.name in names:
            rows = [{"eval_id": evaluation.name, "metric": "mse", "value": 0.5, "n_eval": 9}]
            made = {"asked": _asked(evaluation), "rows": rows}
            (job.folder / "evaluations" / f"{evaluation.name}.json").write_text(json.dumps(made))


def fail(job):
    job.error.parent.mkdir(parents=True, exist_ok=True)
    job.error.write_text("OSError: the disk is full\n")


def table_of(sweep):
    jobs = sweep.jobs()
    write_table(sweep.folder / "runs.jsonl", sweep.grid, jobs, {})
    return {job.name: job for job in jobs.values()}, RunTable.read(sweep.folder / "runs.jsonl", data="examples_seen")


def test_runs_that_failed_or_are_running_are_in_the_table_with_the_amount_they_train_on(sweep):
    done, failed, running, unbegun = sweep.jobs().values()
    train(done, ["id", "other"])
    fail(failed)
    running.folder.mkdir()
    jobs, table = table_of(sweep)
    assert set(table.unfinished()) == {f"{failed.name} (failed)", f"{running.name} (running)"}
    assert unbegun.name in jobs and unbegun.name not in {row.run_id for row in table.rows}
    rows = {row.run_id: row for row in table.rows}
    assert len(table) == 4 and rows[failed.name].eval_id is None
    patients = amounts._count(done.arguments).num_patients
    assert rows[failed.name].n_patients == round(patients / 2)  # a half of the data, which no trained run knows
    assert (rows[running.name].n_unique, rows[running.name].n_patients) == (40, 30)  # as the trained run says
    assert {row.examples_seen for row in table.rows} == {24}


def test_the_size_of_a_trained_run_counts_the_head_of_the_labels_that_a_rule_found(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID | {"objectives": {"supervised": {"task": "sph"}}}))
    sweep = Sweep(read_grid(path), tmp_path / "out")
    first, second, *_ = sweep.jobs().values()
    for job, labels in ((first, ["a", "b"]), (second, ["a", "b", "c"])):
        train(job, ["id"])
        (job.folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(labels))}))
    _, table = table_of(sweep)
    rows = {row.run_id: row for row in table.rows}
    assert rows[first.name].n_labels == 2 and rows[first.name].n_params == rows[second.name].n_params
    assert rows[second.name].n_params_total > rows[first.name].n_params_total > rows[first.name].n_params


def test_the_data_are_opened_once_for_each_share(sweep, monkeypatch):
    opened = []
    count = amounts._count
    monkeypatch.setattr(amounts, "_count", lambda arguments: opened.append(arguments.fraction) or count(arguments))
    for job in sweep.jobs().values():
        fail(job)
    _, table = table_of(sweep)
    assert sorted(opened) == [0.5, 1.0] and len(table) == 4


def test_the_evaluations_that_a_trained_run_has_are_in_the_table_though_it_lacks_one(sweep):
    first, second, *_ = sweep.jobs().values()
    train(first, ["id"])
    train(second, [])
    fail(first)
    fail(second)
    _, table = table_of(sweep)
    assert [(row.run_id, row.eval_id, row.status) for row in table.rows] == [
        (first.name, "id", "done"),
        (second.name, None, "failed"),
    ]
    assert not first.done() and not second.done()


def test_data_that_are_gone_leave_the_other_rows_and_are_said(sweep, monkeypatch, caplog):
    first, second, *_ = sweep.jobs().values()
    train(first, ["id", "other"])
    fail(second)

    def gone(_):
        raise FileNotFoundError("the disk is not there")

    monkeypatch.setattr(amounts, "open_corpora", gone)
    _, table = table_of(sweep)
    assert {row.run_id for row in table.rows} == {first.name}
    assert f"{second.name} is not done and not in the table" in caplog.text
