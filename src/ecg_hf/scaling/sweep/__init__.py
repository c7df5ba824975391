"""The sweep, which trains and evaluates the many models of a scaling study and writes its run table.

A scaling law needs runs that differ in the size of the model and in the number of patients. A grid lists them: families
of backbones, objectives, sizes, fractions of the training patients and seeds, with the evaluations that each trained
model gets. The sweep prepares the corpora once, tries learning rates if the grid asks for it, and pretrains each model
in a folder of its own. It then measures the loss on unseen patients and probes the frozen backbone on other tasks. Runs
are processes of this machine or tasks of a Slurm cluster. A sweep that was stopped does only the unfinished work when
it is started again. `ecg-hf sweep` runs it from the command line; `scripts/grids/` contains grids.

Modules, in the order in which to read them:

- `grid` and `points`: `Grid`, its YAML reader `read_grid`, and the blocks and points that define the runs.
- `sweep`: `Sweep`, which does all steps from the data to the run table.
- `data_job` and `training_job`: the jobs that prepare the data, and that train and evaluate one model.
- `rates`: trials of learning rates, and the rule that extends the best rates to all sizes.
- `display`: the progress of the jobs; the engines that run them are in `ecg_hf.training.jobs`.
- `table`: the run table, with N and compute from `model_size` and D from `amounts`.
- `evaluations/`: the evaluations of a trained model.

Example:
    >>> from pathlib import Path
    >>> from ecg_hf.scaling.sweep.grid import Grid
    >>> from ecg_hf.scaling.sweep.model_size import measure
    >>> from ecg_hf.scaling.sweep.points import Block
    >>> from ecg_hf.scaling.sweep.sweep import Sweep
    >>> sizes = {"20k": {"learning_rate": 0.008}, "63k": {"learning_rate": 0.006}}
    >>> grid = Grid({"resnet": {}}, {"masked": {}}, sizes, runs=(Block(),), evaluations=())
    >>> sweep = Sweep(grid, Path("my-sweep"))  # sweep.run() would train the runs and write my-sweep/runs.jsonl
    >>> for job in sweep.jobs().values():
    ...     print(job.name, job.arguments.learning_rate, measure(job.arguments).n_params)
    resnet-masked-20k-share1-seed0 0.008 21724
    resnet-masked-63k-share1-seed0 0.006 60540
"""
