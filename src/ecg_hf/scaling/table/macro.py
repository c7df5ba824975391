"""The mean of a metric over the tasks of a group, at each way of probing that several of them share."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecg_hf.scaling.table.row import RunRow
from ecg_hf.scaling.table.run_table import RunTable

# Probe, features it saw, records it was fitted on; the last is _LARGEST where every task has a number of its own.
Protocol = tuple[str, float | None, float | str | None]
_LARGEST = "largest"
_FEWEST = 2


@dataclass(frozen=True, eq=False)
class Macro:
    """Means over tasks, and what has none.

    Args:
        table: One row per run and protocol; without rows where no mean exists.
        missing: What was left out and why, one sentence each.
    """

    table: RunTable
    missing: tuple[str, ...]


def macro(table: RunTable, group: str, metric: str = "ne") -> Macro:
    """Averages a metric over the tasks of a group, at each protocol of probing, for every run that has all of them.

    A task is left out of a protocol that less than half of its runs have it at; a run that lacks one of the others is
    left out. Probe subsamples are averaged first, their geometric mean. Labels of a task that is itself there, "x/y"
    beside "x", are no tasks. A number of records that only one task has is a protocol with other tasks if it is the
    largest of each: "all records" differ from corpus to corpus.

    Args:
        table: Of any cells.
        group: One of "id", "ood_seen", "ood_unseen".
        metric: Which may be averaged: a normalised entropy, not a raw NLL of tasks with unlike prevalence.
    """
    chosen = table.done().filter(lambda row: row.eval_group == group and row.metric == metric)
    rows = chosen.of_tasks().rows
    made: list[RunRow] = []
    missing: list[str] = []
    if len({row.eval_id for row in rows}) >= _FEWEST:
        for protocol, mine in _by_protocol(rows).items():
            found, refused = _average(mine, protocol, group)
            made += found
            missing += [f"macro {group} with {_describe(protocol, mine)}: {text}" for text in refused]
    return Macro(replace(table, rows=tuple(made)), tuple(missing))


def _by_protocol(rows: Sequence[RunRow]) -> dict[Protocol, list[RunRow]]:
    tasks: dict[Protocol, set[str | None]] = defaultdict(set)
    largest: dict[tuple[str, float | None, str | None], float] = defaultdict(float)
    for row in rows:
        tasks[row.probe, row.probe_dim, row.probe_n].add(row.eval_id)
        own = (row.probe, row.probe_dim, row.eval_id)
        largest[own] = max(largest[own], row.probe_n or 0.0)
    found: dict[Protocol, list[RunRow]] = defaultdict(list)
    for row in rows:
        alone = len(tasks[row.probe, row.probe_dim, row.probe_n]) == 1
        top = row.probe_n is not None and row.probe_n == largest[row.probe, row.probe_dim, row.eval_id]
        found[row.probe, row.probe_dim, _LARGEST if alone and top else row.probe_n].append(row)
    return found


def _average(rows: Sequence[RunRow], protocol: Protocol, group: str) -> tuple[list[RunRow], list[str]]:
    logs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        logs[row.run_id][str(row.eval_id)].append(float(np.log(row.value or np.nan)))
    tasks = {task: sum(task in own for own in logs.values()) for own in logs.values() for task in own}
    kept = sorted(task for task, num in tasks.items() if 2 * num >= len(logs))
    missing = [
        f"leaves out {task}, which {num} of {len(logs)} runs have; evaluate the others"
        for task, num in sorted(tasks.items())
        if task not in kept
    ]
    if len(kept) < _FEWEST:
        there = ", ".join(kept) or "no task"
        return [], [*missing, f"none, because a mean needs {_FEWEST} tasks and only {there} is there"]
    lacking = {run: [task for task in kept if task not in own] for run, own in logs.items()}
    missing += [f"leaves out run {run}, which lacks {', '.join(each)}" for run, each in sorted(lacking.items()) if each]
    first = {row.run_id: row for row in reversed(rows) if not lacking[row.run_id]}
    means = {run: float(np.mean([np.exp(np.mean(logs[run][task])) for task in kept])) for run in first}
    own = ", each on its largest number of records" if protocol[2] == _LARGEST else ""
    about = {"eval_id": f"macro {group} ({len(kept)} tasks{own})", "task": " + ".join(kept), "probe_seed": None}
    about |= {name: None for name in ("dataset", "value_se", "n_eval", "n_pos")}
    about |= {"probe_n": None} if protocol[2] == _LARGEST else {}
    return [first[run].changed(about | {"value": means[run]}) for run in sorted(first)], missing


def _describe(protocol: Protocol, rows: Sequence[RunRow]) -> str:
    probe, dim, number = protocol
    if probe == "none":
        return "no probe"
    numbers = {row.probe_n for row in rows}
    if number == _LARGEST:
        number = numbers.pop() if len(numbers) == 1 else "the largest number of"
    amount = f"{number:g}" if isinstance(number, float | int) else number
    return f"a {probe} probe" + (f" on {amount} records" if amount else "") + (f", {dim:g} features" if dim else "")
