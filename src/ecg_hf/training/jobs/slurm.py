"""The submitit engine, which runs jobs under the Slurm scheduler, each as a task of its own."""

import logging
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_hf.errors import EcgProcessError
from ecg_hf.output.files import read_json, write_json
from ecg_hf.training.jobs.job import Job, RunningElsewhereError
from ecg_hf.training.jobs.local import Watch

POLL_S = 5.0  # seconds between two looks at the tasks
TIMEOUT_MIN = 1440  # default time limit of a task, in minutes
SUBMITTED = "submitted.json"  # exists while jobs run; if a sweep is killed, it lists the jobs to cancel
logger = logging.getLogger(__name__)


def submit(
    jobs: Sequence[Job],
    workers: int,
    watch: Watch,
    folder: Path,
    cluster: str,
    settings: Mapping[str, Any],
    name: str = "sweep",
) -> dict[str, str]:
    """Submits jobs and waits for them; the jobs are cancelled if this process has to stop.

    Args:
        jobs: Jobs in the order in which they are submitted.
        workers: Number of jobs that may run at a time, if the scheduler can limit it.
        watch: Function that is called regularly with the names of the running jobs.
        folder: Folder of submitit's files.
        cluster: "slurm", or "local" to try submitit without a scheduler.
        settings: Settings of submitit, such as `slurm_partition` and `timeout_min`.
        name: Name of the tasks in the scheduler's queue.

    Returns:
        The reason of each failure by name of the job.
    """
    import submitit

    executor = submitit.AutoExecutor(folder, cluster=cluster)
    known = {"timeout_min": TIMEOUT_MIN, **complete_settings(settings, workers)}
    executor.update_parameters(name=name, **known)
    with executor.batch():
        submitted = [executor.submit(_run, job) for job in jobs]
    ids = {job.name: task.job_id for job, task in zip(jobs, submitted, strict=True)}
    write_json(folder / SUBMITTED, {"cluster": cluster, "ids": ids})
    try:
        while not all(task.done() for task in submitted):
            watch([job.name for job, task in zip(jobs, submitted, strict=True) if task.state == "RUNNING"])
            time.sleep(POLL_S if cluster == "slurm" else 0.5)
    except BaseException:
        for task in submitted:
            task.cancel()
        raise
    finally:
        (folder / SUBMITTED).unlink()
    return {job.name: why for job, task in zip(jobs, submitted, strict=True) if (why := _why_failed(job, task))}


def _why_failed(job: Job, submitted: Any) -> str | None:
    try:
        reason: str | None = submitted.result()
    except Exception as error:
        known = job.error.exists() and not job.done()
        return job.error.read_text(encoding="utf-8").strip() if known else str(error)
    return reason


def cancel_left(folder: Path) -> None:
    """Cancels the Slurm jobs that a killed sweep had submitted and could not cancel itself.

    Args:
        folder: Folder of submitit's files of that sweep, in which no other process may work.

    Raises:
        EcgProcessError: If there is no `scancel` on this machine.
    """
    path = folder / SUBMITTED
    left: dict[str, Any] = read_json(path) if path.exists() else {}
    if left.get("cluster") == "slurm":  # other jobs were processes, and their ids may belong to other programs by now
        arrays = sorted({job_id.partition("_")[0] for job_id in left["ids"].values()})
        logger.warning("cancelling the Slurm jobs %s of a sweep that was killed", ", ".join(arrays))
        try:
            ended = subprocess.run(["scancel", *arrays], capture_output=True, text=True)
        except OSError as error:
            raise EcgProcessError(
                f"the Slurm jobs {', '.join(arrays)} of a sweep that was killed may still run, and scancel cannot be "
                f"used here ({error}); cancel them where it can, and remove {path}"
            ) from error
        if ended.returncode:  # it also fails for jobs that ended long ago; a job that still runs holds its lock
            logger.warning("scancel said: %s", ended.stderr.strip())
    path.unlink(missing_ok=True)


def complete_settings(settings: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """Returns submitit's settings with a limit on jobs at a time, if they have none, and the time limit in minutes.

    Args:
        settings: Settings of submitit.
        workers: Number of jobs that may run at a time.

    Raises:
        ValueError: If the time limit is not one that Slurm understands.
    """
    time_limit = settings.get("slurm_time")
    known = {"slurm_time": to_minutes(time_limit)} if isinstance(time_limit, str) else {}
    return {"slurm_array_parallelism": workers, **settings, **known}


def to_minutes(text: str) -> int:
    """Converts a time limit in Slurm's notation to minutes, rounded up; submitit computes with minutes in a job.

    Args:
        text: Time limit, such as "1-12:00:00".

    Source:
        sbatch(1), option --time: M, M:S, H:M:S, D-H, D-H:M and D-H:M:S.

    Raises:
        ValueError: If the text has none of these forms.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", text, re.ASCII)
    if found is None:
        raise ValueError(f"a time limit must be minutes, hours:minutes:seconds or days-hours, got {text!r}")
    days, numbers = found[1], [int(number) for number in found[2].split(":")]
    if days is None and len(numbers) < 3:
        numbers = [0, *numbers]
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return (int(days or 0) * 24 + hours) * 60 + minutes + (seconds > 0)


def _run(job: Job) -> str | None:
    """Runs a job; returns a reason only if another process works on it."""
    try:
        job.run()
    except RunningElsewhereError as error:
        return str(error)
    return None
