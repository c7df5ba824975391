"""Jobs under a scheduler, each a task of its own, through submitit."""

import logging
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_hf.errors import EcgProcessError
from ecg_hf.output.files import read_json, write_json
from ecg_hf.scaling.sweep.job import Job, RunningElsewhereError
from ecg_hf.scaling.sweep.local_jobs import Watch

POLL_S = 5.0
TIMEOUT_MIN = 1440
SUBMITTED = "submitted.json"  # there while jobs are: what a killed sweep leaves to cancel
logger = logging.getLogger(__name__)


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
    ids = {job.name: one.job_id for job, one in zip(jobs, submitted, strict=True)}
    write_json(folder / SUBMITTED, {"cluster": cluster, "ids": ids})
    try:
        while not all(one.done() for one in submitted):
            watch([job.name for job, one in zip(jobs, submitted, strict=True) if one.state == "RUNNING"])
            time.sleep(POLL_S if cluster == "slurm" else 0.5)
    except BaseException:
        for one in submitted:
            one.cancel()
        raise
    finally:
        (folder / SUBMITTED).unlink()
    return {job.name: why for job, one in zip(jobs, submitted, strict=True) if (why := _why_failed(job, one))}


def _why_failed(job: Job, submitted: Any) -> str | None:
    try:
        said: str | None = submitted.result()
    except Exception as error:
        known = job.error.exists() and not job.done()
        return job.error.read_text(encoding="utf-8").strip() if known else str(error)
    return said


def cancel_left(folder: Path) -> None:
    """Cancels what a sweep that was killed had submitted to Slurm and could not cancel itself.

    Args:
        folder: For submitit's files, of the sweep, which nothing else may work in.

    Raises:
        EcgProcessError: If this machine cannot do so.
    """
    path = folder / SUBMITTED
    left: dict[str, Any] = read_json(path) if path.exists() else {}
    if left.get("cluster") == "slurm":  # the others are processes, whose numbers may be those of strangers by now
        arrays = sorted({job_id.partition("_")[0] for job_id in left["ids"].values()})
        logger.warning("cancelling the Slurm jobs %s of a sweep that was killed", ", ".join(arrays))
        try:
            ended = subprocess.run(["scancel", *arrays], capture_output=True, text=True)
        except OSError as error:
            raise EcgProcessError(
                f"the Slurm jobs {', '.join(arrays)} of a sweep that was killed may still run, and scancel cannot be "
                f"used here ({error}); cancel them where it can, and remove {path}"
            ) from error
        if ended.returncode:  # of jobs that are long gone, too; what still runs holds its lock
            logger.warning("scancel said: %s", ended.stderr.strip())
    path.unlink(missing_ok=True)


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


def _run(job: Job) -> str | None:
    """Does a job, or says that another process does."""
    try:
        job.run()
    except RunningElsewhereError as error:
        return str(error)
    return None
