"""Jobs under a scheduler, each a task of its own, through submitit."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_hf.sweeps.job import Job
from ecg_hf.sweeps.processes import Watch

POLL_S = 5.0
TIMEOUT_MIN = 1440


def submit(
    jobs: Sequence[Job], workers: int, watch: Watch, folder: Path, cluster: str, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Submits jobs and waits for them; they are cancelled when this process has to stop.

    Args:
        jobs: In the order in which they are submitted.
        workers: How many may run at a time, where the scheduler can be told.
        watch: Called every now and then with the names of those that run.
        folder: For submitit's files.
        cluster: "slurm", or "local" to try it without a scheduler.
        settings: Of submitit, such as `slurm_partition`.

    Returns:
        Why jobs failed, by their names.
    """
    import submitit

    executor = submitit.AutoExecutor(folder, cluster=cluster)
    executor.update_parameters(name="sweep", timeout_min=TIMEOUT_MIN, **complete_settings(settings, workers))
    with executor.batch():
        submitted = [executor.submit(_run, job) for job in jobs]
    try:
        while not all(one.done() for one in submitted):
            watch([job.name for job, one in zip(jobs, submitted, strict=True) if one.state == "RUNNING"])
            time.sleep(POLL_S if cluster == "slurm" else 0.5)
    except BaseException:
        for one in submitted:
            one.cancel()
        raise
    failed = {}
    for job, one in zip(jobs, submitted, strict=True):
        try:
            one.result()
        except Exception as error:
            known = job.error.exists() and not job.done()
            failed[job.name] = job.error.read_text(encoding="utf-8").strip() if known else str(error)
    return failed


def complete_settings(settings: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """Adds to settings of submitit, where they do not say it, how many jobs may run at a time."""
    time_limit = settings.get("slurm_time")
    known = {"slurm_time": to_minutes(time_limit)} if isinstance(time_limit, str) else {}
    return {"slurm_array_parallelism": workers, **settings, **known}


def to_minutes(text: str) -> int:
    """Gives the minutes, rounded up, of a time as Slurm writes it; in a job submitit computes with minutes.

    Source:
        sbatch(1), option --time: M, M:S, H:M:S, D-H, D-H:M and D-H:M:S.

    Raises:
        ValueError: If it is none of these.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", text, re.ASCII)
    if found is None:
        raise ValueError(f"a time limit must be minutes, hours:minutes:seconds or days-hours, got {text!r}")
    days, numbers = found[1], [int(number) for number in found[2].split(":")]
    if days is None and len(numbers) < 3:
        numbers = [0, *numbers]
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return (int(days or 0) * 24 + hours) * 60 + minutes + (seconds > 0)


def _run(job: Job) -> None:
    job.run()
