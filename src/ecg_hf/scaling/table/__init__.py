"""The run table, which records every training run of a scaling study and every evaluation of it.

A sweep trains many models of different sizes on different amounts of ECG records, and evaluates each of them on its
own test set and on tasks of other corpora. Each pair of run and evaluation becomes one row of the run table. The table
fixes which column is N, the model size, and which is D, the amount of data, so that no two laws fitted to it mix
definitions. Two of its columns, family and paradigm, divide it into cells; a scaling law belongs to one cell and one
evaluation.

Modules, in the order in which to read them:

- `row`: `RunRow`, the columns of the table with their meaning, and the checks of one row.
- `run_table`: `RunTable`, which reads, writes, filters, splits and averages rows.
- `macro`: means of a metric over the tasks of a group.
- `reading`: readers and the writer of the files of a run table.

Example:
    >>> from ecg_hf.scaling.table.run_table import RunTable
    >>> run = {"family": "resnet", "paradigm": "sl", "n_params": 2e4, "n_unique": 5000}
    >>> evaluation = {"eval_id": "ptbxl", "eval_group": "id", "metric": "nll"}
    >>> table = RunTable.from_rows(
    ...     {"run_id": f"resnet-{seed}", "seed": seed, "value": value} | run | evaluation
    ...     for seed, value in enumerate([0.30, 0.31, 0.32])
    ... )
    >>> (mean,) = table.aggregate_seeds().rows
    >>> print(f"{mean.n_seeds} seeds, nll {mean.value:.3f}, standard error {mean.value_se:.3f}")
    3 seeds, nll 0.310, standard error 0.006
"""
