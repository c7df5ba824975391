import io
import json
import re
import signal

import pytest
import yaml

from ecg_hf.commands import sweep as sweep_command
from ecg_hf.scaling.sweep.grid import read_grid
from ecg_hf.scaling.sweep.sweep import Sweep
from ecg_hf.training.jobs.slurm import complete_settings, to_minutes
from places import ROOT

SCRIPT = ROOT / "scripts" / "sweep.py"
GRID = {
    "arguments": {"corpus_fields": ["num_records=60"], "max_steps": 30, "batch_size": 4, "learning_rate": 0.5},
    "families": ["transformer"],
    "objectives": ["masked"],
    "sizes": ["20k", "63k"],
    "learning_rates": {"rates": [1e-4, 1e-3, 1e-2], "sizes": ["20k"], "arguments": {"max_steps": 10}},
}


@pytest.fixture
def script():
    return sweep_command


def sweep_of(folder, **changes):
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID | changes))
    return Sweep(read_grid(path), folder / "out", stream=io.StringIO())


def finish(job, loss=1.0):
    job.folder.mkdir(parents=True)
    run = {"validation_loss": loss, "arguments": vars(job.arguments)}
    (job.folder / "run.json").write_text(json.dumps(run))


def test_runs_are_listed_before_their_learning_rates_are_known_and_after(tmp_path, script):
    sweep = sweep_of(tmp_path)
    assert script.list_runs(sweep).count("rate not known") == 2
    for trial in sweep.trials():
        finish(trial, abs(trial.arguments.learning_rate - 1e-3) + 1)
    job, _ = sweep.jobs(sweep.rules()).values()
    assert job.arguments.learning_rate == 1e-3
    finish(job)
    listed = script.list_runs(sweep)
    assert "rate not known" not in listed
    assert [line.split()[-1] == "done" for line in listed.splitlines() if "share1" in line] == [True, False]


def test_a_run_of_a_sweep_that_lost_a_trial_is_listed_without_asking_which_rate_it_had(tmp_path, script):
    sweep = sweep_of(tmp_path)
    for trial in sweep.trials():
        finish(trial)
    for job in sweep.jobs(sweep.rules()).values():
        finish(job)
    (sweep.trials()[0].folder / "run.json").unlink()
    assert script.list_runs(sweep).count("rate not known") == 2


def test_the_listed_compute_is_that_of_runs_and_trials(tmp_path, script):
    listed = script.list_runs(sweep_of(tmp_path))
    runs, trials, together = (float(number) for number in re.findall(r"([\d.e+]+) FLOP", listed))
    single = [float(line.split()[3]) for line in listed.splitlines() if "share1" in line]
    assert runs == pytest.approx(sum(single), rel=0.01) and together == pytest.approx(runs + trials, rel=0.01)
    assert trials == pytest.approx(3 * single[0] / 3, rel=0.01)  # three rates of a third of the steps
    assert "2 runs, at most" in listed and "3 trials of learning rates (0 done)" in listed
    assert listed.splitlines()[-1].count("FLOP") == 3
    assert script.list_runs(sweep_of(tmp_path, learning_rates=None)).endswith(f"2 runs, at most {runs:.2e} FLOP")


def test_slurm_settings_stay_what_was_written(script):
    words = [
        "time=24:00:00",
        "account=0123",
        "gpus_per_node=1",
        "exclusive=true",
        "nice=-5",
        "constraint=a=b",
        "qos=no",
    ]
    assert script.parse_settings(words) == {
        "slurm_time": "24:00:00",
        "slurm_account": "0123",
        "slurm_gpus_per_node": 1,
        "slurm_exclusive": True,
        "slurm_nice": "-5",
        "slurm_constraint": "a=b",
        "slurm_qos": "no",
    }
    with pytest.raises(ValueError, match="must be name=value, got 'gpu'"):
        script.parse_settings(["gpu"])


def test_settings_go_before_what_the_sweep_would_say():
    assert complete_settings({}, 3) == {"slurm_array_parallelism": 3}
    given = {"slurm_array_parallelism": 9, "slurm_time": "1-2"}
    assert complete_settings(given, 3) == {"slurm_array_parallelism": 9, "slurm_time": 26 * 60}


@pytest.mark.parametrize(
    "text, minutes",
    [("90", 90), ("90:00", 90), ("0:30", 1), ("24:00:00", 1440), ("2-0", 2880), ("1-1:30", 1530), ("1-0:0:1", 1441)],
)
def test_a_time_limit_is_read_as_slurm_reads_it(text, minutes):
    assert to_minutes(text) == minutes


def test_a_time_limit_that_slurm_would_not_read_is_refused():
    with pytest.raises(ValueError, match=r"a time limit must be minutes, .*, got 'a day'"):
        to_minutes("a day")


def test_a_terminal_that_closes_stops_a_sweep_unless_nohup_said_not_to(script):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        script.heed_signals()
        for number in before:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        script.heed_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
