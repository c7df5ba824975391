import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ecg_hf.errors import EcgCheckpointError, EcgCollapseError
from ecg_hf.scaling.sweep import training_job
from ecg_hf.scaling.sweep.grid import read_grid
from ecg_hf.scaling.sweep.model_size import measure
from ecg_hf.scaling.sweep.rates import all_trials, find_rule, make_trials
from ecg_hf.scaling.sweep.sweep import Sweep

RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
GRID = {
    "arguments": {
        "corpus_fields": ["num_records=60", "sampling_rate=100", "seed=1"],
        "sampling_rate": 100,
        "max_steps": 3,
        "batch_size": 4,
        "warmup_steps": 1,
    },
    "families": {"transformer": {"model_fields": ["patch_size=8"]}},
    "objectives": ["masked"],
    "sizes": ["20k", "63k", "200k", "632k"],
    "learning_rates": {"rates": RATES, "sizes": ["20k", "632k"], "seeds": [0, 1], "arguments": {"max_steps": 2}},
}
CELL = ("transformer", "masked")


def sweep_of(folder, grid=GRID):
    path = Path(folder).with_suffix(".yaml")
    path.write_text(yaml.safe_dump(grid))
    return Sweep(read_grid(path), Path(folder), stream=io.StringIO())


def pretend(trials, best):
    """Writes the results of trials whose losses are lowest at a rate of each size."""
    for size, by_rate in trials.items():
        for rate, tried in by_rate.items():
            for trial in tried:
                distance = abs(np.log(rate / best[size]))
                noise = 1e-3 * (trial.arguments.seed - 0.5)
                trial.folder.mkdir(parents=True)
                run = {"validation_loss": 1 + distance + noise, "arguments": vars(trial.arguments)}
                (trial.folder / "run.json").write_text(json.dumps(run))


def test_trials_are_every_rate_at_the_sizes_that_are_asked_on_all_data(tmp_path):
    trials = make_trials(sweep_of(tmp_path / "out").grid, tmp_path / "out")
    listed = all_trials(trials)
    assert len(listed) == len({trial.name for trial in listed}) == 2 * 5 * 2
    assert list(trials) == [CELL] and list(trials[CELL]) == ["20k", "632k"]
    one = trials[CELL]["632k"][3e-3][1].arguments
    assert (one.size, one.learning_rate, one.seed, one.fraction, one.max_steps) == ("632k", 3e-3, 1, 1.0, 2)


def test_the_rule_is_a_power_of_the_parameters_between_sizes_that_keep_their_own_best(tmp_path):
    sweep = sweep_of(tmp_path / "out")
    trials = make_trials(sweep.grid, sweep.folder)[CELL]
    pretend(trials, {"20k": 3e-3, "632k": 3e-4})
    rule = find_rule(trials)
    jobs = {point.size: job for point, job in sweep.jobs({CELL: rule}).items()}
    sizes = {size: measure(job.arguments).n_params for size, job in jobs.items()}
    assert jobs["20k"].arguments.learning_rate == 3e-3 and jobs["632k"].arguments.learning_rate == 3e-4
    slope = np.log(3e-4 / 3e-3) / np.log(sizes["632k"] / sizes["20k"])
    assert rule.slope == pytest.approx(slope) and rule.edges == ()
    for size in ("63k", "200k"):
        expected = 3e-3 * (sizes[size] / sizes["20k"]) ** slope
        assert jobs[size].arguments.learning_rate == pytest.approx(expected, rel=0.005)
        assert rule.rate(size, sizes[size])[1] is False


def test_a_best_rate_at_the_edge_is_said_of_every_size_that_rests_on_it(tmp_path):
    sweep = sweep_of(tmp_path / "out")
    trials = make_trials(sweep.grid, sweep.folder)[CELL]
    pretend(trials, {"20k": 1e-2, "632k": 1e-3})
    rule = find_rule(trials)
    assert rule.edges == ("20k",)
    assert rule.rate("20k", 15_000) == (1e-2, True) and rule.rate("632k", 600_000) == (1e-3, False)
    assert rule.rate("63k", 63_000)[1] is True


def test_the_rule_does_not_leave_the_rates_that_were_tried(tmp_path):
    sweep = sweep_of(tmp_path / "out")
    trials = make_trials(sweep.grid, sweep.folder)[CELL]
    pretend(trials, {"20k": 3e-3, "632k": 3e-4})
    assert find_rule(trials).rate("2m", 10**9) == (1e-4, True)


def test_a_run_of_another_number_of_crops_per_step_is_not_taken_for_this_one(tmp_path):
    sweep = sweep_of(tmp_path / "out")
    trials = make_trials(sweep.grid, sweep.folder)[CELL]
    pretend(trials, {"20k": 3e-3, "632k": 3e-4})
    trial = trials["20k"][3e-3][0]
    assert trial.done()
    shared = replace(trial.arguments, batch_size=2, gradient_accumulation_steps=2)
    assert replace(trial, arguments=shared).done()
    message = "was made with crops_per_step=4, the grid now says 6"
    with pytest.raises(ValueError, match=message):
        replace(trial, arguments=replace(shared, batch_size=3)).done()
    run = json.loads((trial.folder / "run.json").read_text())
    (trial.folder / "run.json").write_text(json.dumps(run | {"steps": 2, "examples_seen": 16}))
    with pytest.raises(ValueError, match="was made with crops_per_step=8, the grid now says 4"):
        trial.done()  # two processes shared it


def diverge(trial, monkeypatch, error):
    """Lets the training of a trial end with an error."""

    def pretrain(arguments):
        raise error

    monkeypatch.setattr(training_job, "pretrain", pretrain)
    with pytest.raises(type(error)):
        trial.do()


def test_a_rate_that_diverged_is_the_worst_and_not_tried_again(tmp_path, monkeypatch):
    sweep = sweep_of(tmp_path / "out")
    trials = make_trials(sweep.grid, sweep.folder)[CELL]
    pretend(trials, {"20k": 1e-2, "632k": 3e-4})
    diverged = trials["20k"][1e-2][0]
    (diverged.folder / "run.json").unlink()
    diverge(diverged, monkeypatch, EcgCheckpointError("the disk is full"))
    assert not diverged.done()
    diverge(diverged, monkeypatch, FloatingPointError("the gradient was not finite"))
    assert diverged.done()
    rule = find_rule(trials)
    assert rule.best["20k"] == 3e-3 and rule.losses["20k"][-1] == (1e-2, None)
    for tried in trials["20k"].values():
        for trial in tried:
            (trial.folder / "run.json").unlink(missing_ok=True)
            diverge(trial, monkeypatch, EcgCollapseError("representations have collapsed"))
    with pytest.raises(FloatingPointError, match="diverged at every rate that was tried for 20k"):
        find_rule(trials)


def test_that_a_rate_diverged_is_known_of_its_arguments_only_and_forgotten_with_its_folder(tmp_path, monkeypatch):
    sweep = sweep_of(tmp_path / "out")
    (trial, *_) = all_trials(make_trials(sweep.grid, sweep.folder))
    diverge(trial, monkeypatch, FloatingPointError("the gradient was not finite"))
    for name, value in (("weight_decay", 0.5), ("batch_size", 9), ("max_nonfinite_steps", 3)):
        with pytest.raises(ValueError, match=rf"was made with (crops_per_step=4|{name}=.*), the grid now says {value}"):
            replace(trial, arguments=replace(trial.arguments, **{name: value})).done()
    shutil.rmtree(trial.folder)
    assert not trial.done()


def test_a_sweep_tries_rates_first_and_says_in_its_table_what_it_used(tmp_path):
    rates = {"rates": [1e-3, 3e-3], "sizes": ["20k"]}
    grid = GRID | {"learning_rates": rates, "sizes": ["20k", "63k"], "evaluations": [{"name": "id", "group": "id"}]}
    sweep = sweep_of(tmp_path / "out", grid)
    assert sweep.run() == {}
    found = json.loads((sweep.folder / "learning_rates.json").read_text())["transformer masked"]
    rows = [json.loads(line) for line in (sweep.folder / "runs.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in rows] == [found["best"]["20k"]] * 2 and found["slope"] == 0
    assert all(row["lr_on_boundary"] for row in rows)
    (first, second) = found["losses"]["20k"]
    assert found["best"]["20k"] == min(first, second, key=lambda pair: pair[1])[0]
