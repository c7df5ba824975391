"""Macro averages: the mean of a metric over the tasks of a group, for each probing protocol that the tasks share."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecg_hf.scaling.table.row import RunRow
from ecg_hf.scaling.table.run_table import RunTable

# A probe, its number of features, and the number of records it was fitted on. The last one is _LARGEST where the
# largest number of records differs from task to task.
Protocol = tuple[str, float | None, float | str | None]
_LARGEST = "largest"
_FEWEST = 2


@dataclass(frozen=True, eq=False)
class Macro:
    """The means over the tasks of a group, and the reasons for those that are missing.

    Args:
        table: One row per run and protocol; empty if there is no mean at all.
        missing: One sentence on each task, run or protocol that was left out, with the reason.
    """

    table: RunTable
    missing: tuple[str, ...]


def macro(table: RunTable, group: str, metric: str = "ne") -> Macro:
    """Averages a metric over the tasks of a group, once per run and probing protocol.

    A protocol drops each task that fewer than half of its runs were evaluated on, and then each run that lacks one of
    the remaining tasks. Probe subsamples are averaged first, with a geometric mean. Labels of a task, "x/y" beside
    "x", do not count as tasks. "All records" is a different number for every corpus: where only one task was probed
    on a number of records, and that number is the largest of the task, the tasks share the protocol "largest".

    Args:
        table: Run table of one or several cells.
        group: Group of evaluations: "id", "ood_seen" or "ood_unseen".
        metric: Metric to average. It must be comparable between tasks, as normalised entropy is; a raw NLL is not,
            because it depends on the prevalence.

    Returns:
        The means, as rows whose `eval_id` begins with "macro", and what was left out.
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
        f"leaves out {task}, which {num} of {len(logs)} runs have; evaluate the other runs on it"
        for task, num in sorted(tasks.items())
        if task not in kept
    ]
    if len(kept) < _FEWEST:
        there = ", ".join(kept) or "no task"
        return [], [*missing, f"none, because a mean needs at least {_FEWEST} tasks and only {there} is there"]
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
