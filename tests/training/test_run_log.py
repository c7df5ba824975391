import itertools
import json

import pytest

from ecg_hf.errors import EcgCheckpointError
from ecg_hf.training.run_log import MAX_POINTS, RunLog


def write(log, steps):
    for step in steps:
        log.append({"step": step, "loss": 1 / step} | ({"validation_loss": 0.5} if step % 1000 == 0 else {}))


def test_a_curve_stays_small_and_keeps_every_validation(tmp_path):
    log = RunLog(tmp_path)
    write(log, range(1, 9001))
    assert MAX_POINTS / 3 < len(log.curve) <= MAX_POINTS
    steps = [row["step"] for row in log.curve]
    assert steps == sorted(steps) and {1000 * number for number in range(1, 10)} <= set(steps)
    plain = [step for step in steps if step % 1000]
    assert len({after - before for before, after in itertools.pairwise(plain)}) <= 2


def test_a_resumed_run_has_the_curve_that_it_would_have_had(tmp_path):
    log = RunLog(tmp_path)
    write(log, range(1, 5001))
    resumed = RunLog(tmp_path)
    resumed.truncate(4000)
    write(resumed, range(4001, 5001))
    assert resumed.curve == log.curve


def test_half_a_row_is_left_out_and_numbers_that_are_none_become_null(tmp_path):
    log = RunLog(tmp_path)
    log.append({"step": 1, "loss": float("nan")})
    with log.path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert log.rows() == [{"step": 1, "loss": None}]
    log.truncate(1)
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == [{"step": 1, "loss": None}]


def test_a_log_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    log = RunLog(tmp_path / "nowhere")
    with pytest.raises(EcgCheckpointError, match=r"metrics.jsonl cannot be written"):
        log.append({"step": 1, "loss": 1.0})
