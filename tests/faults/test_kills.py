"""F30, F31, F32: a run that is killed, how often and wherever, ends with the bits of one that was not."""

import json
import random
import signal
from pathlib import Path

import pytest
from children import STEPS, Fault, arguments_for, messages, rows, run, same_run

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(arguments_for(folder)) == [0], messages(folder)
    return folder


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    assert run(arguments_for(folder, batch_size=2), [Fault()] * 2) == [0, 0], messages(folder)
    return folder


def random_kill(random_numbers, whole):
    """A moment within a step, drawn uniformly from all of a run."""
    seconds = json.loads((Path(whole) / "run.json").read_text())["seconds"] / STEPS
    return Fault("kill", random_numbers.randrange(STEPS), random_numbers.random() * seconds)


def counts(default, full):
    """The number of faults of each run of tests: a few on every one, all by `make test-all`."""
    return [default, pytest.param(full, marks=pytest.mark.slow)]


@pytest.mark.parametrize("number", counts(2, 100))
def test_a_run_killed_at_a_random_moment_resumes_bit_for_bit(whole, tmp_path, tally, number):
    random_numbers, exact = random.Random(number), 0
    for trial in range(number):
        folder = tmp_path / str(trial)
        codes = run(arguments_for(folder), [random_kill(random_numbers, whole)])
        assert codes in ([KILLED], [0]), messages(folder)  # a kill that comes after the end misses
        exact += run(arguments_for(folder)) == [0] and same_run(folder, whole)
    tally("F30 SIGKILL at a random moment of a random step; resumed, bit for bit the unbroken run", number, exact)


@pytest.mark.parametrize("number", counts(2, 100))
def test_a_run_killed_while_it_writes_a_checkpoint_resumes_bit_for_bit(whole, tmp_path, tally, number):
    random_numbers, exact = random.Random(number + 1), 0
    for trial in range(number):
        folder = tmp_path / str(trial)
        # A run of 24 steps writes 8 checkpoints by about 15 file operations each.
        fault = Fault(file_operation=random_numbers.randrange(100))
        assert run(arguments_for(folder), [fault]) == [KILLED], messages(folder)
        exact += run(arguments_for(folder)) == [0] and same_run(folder, whole)
    tally(
        "F30 SIGKILL at a random file operation of a checkpoint; resumed, bit for bit the unbroken run", number, exact
    )


@pytest.mark.parametrize("number", counts(1, 50))
def test_two_processes_of_which_one_is_killed_resume_bit_for_bit(whole_of_two, tmp_path, tally, number):
    random_numbers, exact = random.Random(number + 2), 0
    for trial in range(number):
        folder = tmp_path / str(trial)
        faults = [Fault(), Fault()]
        faults[random_numbers.randrange(2)] = random_kill(random_numbers, whole_of_two)
        codes = run(arguments_for(folder, batch_size=2), faults)
        assert None not in codes, messages(folder)
        exact += run(arguments_for(folder, batch_size=2), [Fault()] * 2) == [0, 0] and same_run(folder, whole_of_two)
    tally("F30 SIGKILL of one of two processes; resumed, bit for bit the unbroken run", number, exact)


@pytest.mark.parametrize("number", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 5, 10))])
def test_several_resumes_are_as_good_as_none(whole, tmp_path, tally, number):
    # An epoch has 5 steps here, so 5 and 10 kills hit one epoch several times.
    for kill in range(number):
        fault = Fault("kill", step=(kill + 1) * STEPS // (number + 1), delay_s=0.0)
        assert run(arguments_for(tmp_path / "run", checkpoint_steps=1), [fault]) == [KILLED], messages(tmp_path / "run")
    assert run(arguments_for(tmp_path / "run", checkpoint_steps=1)) == [0], messages(tmp_path / "run")
    tally(
        "F31 2, 5, 10 kills in a row, several in an epoch; bit for bit the unbroken run",
        number,
        number * same_run(tmp_path / "run", whole),
    )


def crops_of(path, world):
    """The sums of the crops of each step over all processes, as the last attempt at it has seen them."""
    seen = [dict(json.loads(line) for line in Path(f"{path}.{rank}").read_text().splitlines()) for rank in range(world)]
    return {step: sorted(crop for part in seen for crop in part[step]) for step in seen[0]}


def test_another_number_of_processes_sees_the_same_crops_or_is_refused(tmp_path, tally):
    folder, crops = tmp_path / "run", tmp_path / "crops"
    assert run(arguments_for(tmp_path / "whole"), crops=crops) == [0]
    expected, seen = crops_of(crops, 1), {}
    # One process, then two with half the batch, then one with two micro-batches, stopped in between.
    layouts = [
        ({"batch_size": 4}, 1, 8),
        ({"batch_size": 2}, 2, 16),
        ({"batch_size": 2, "gradient_accumulation_steps": 2}, 1, -1),
    ]
    for number, (changes, world, stop) in enumerate(layouts):
        path = tmp_path / f"crops{number}"
        codes = run(arguments_for(folder, **changes), [Fault("term", step=stop)] * world, crops=path)
        assert codes == [143 if stop > 0 else 0] * world, messages(folder)
        seen |= crops_of(path, world)
    assert "the crops and their order stay the same" in messages(folder)
    assert run(arguments_for(folder, batch_size=4), [Fault()] * 2) == [1, 1]
    assert "belongs to a run with crops_per_step=4, got 8" in messages(folder)
    tally(
        "F32 steps after going from one process to two and back, with the crops of the unbroken run",
        STEPS,
        sum(seen[step] == expected[step] for step in expected),
    )


def test_the_number_of_loading_processes_may_change(whole, tmp_path, tally):
    folder = tmp_path / "run"
    for workers, stop in ((2, 7), (0, 15), (1, -1)):
        codes = run(arguments_for(folder, num_workers=workers), [Fault("term", step=stop)])
        assert codes == [143 if stop > 0 else 0], messages(folder)
    tally(
        "F32 another number of loading processes on resuming; bit for bit the unbroken run",
        2,
        2 * same_run(folder, whole),
    )


def test_the_same_seed_gives_the_same_hundred_losses(tmp_path, tally):
    for name in "ab":
        assert run(arguments_for(tmp_path / name, max_steps=100)) == [0], messages(tmp_path / name)
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in "ab"]
    tally("F39 losses of two runs with one seed, equal", 100, sum(a == b for a, b in zip(*losses, strict=True)))
