"""Jobs: pieces of work that are shared over processes of this machine or tasks of a Slurm cluster.

Sweeps and builds of corpora both run jobs. A job can be interrupted anywhere and continued later; it reports its state
in files, so that whoever looks, on whichever machine, sees the same.

Modules, in the order in which to read them:

    job      `Job`, with its log, its error and its lock
    local    jobs as processes of this machine
    slurm    jobs as tasks of a scheduler, through submitit

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from ecg_hf.training.jobs.job import Job
    >>> class Note(Job):
    ...     def do(self):
    ...         (self.root / self.name).write_text("done")
    ...     def done(self):
    ...         return (self.root / self.name).exists()
    >>> note = Note("a", Path(tempfile.mkdtemp()))
    >>> note.do()
    >>> note.done(), note.log.name
    (True, 'a.log')
"""
