"""The report of a scaling study: laws, comparisons of cells, tables, figures and files.

This is the last step from ECGs to a statement about models. A sweep has trained models of several sizes on several
amounts of records, and the run table holds the losses of all of them. Here every cell (a family of backbones trained
with one paradigm and objective) gets a law on every evaluation, with the checks that show how far to trust it. Then
cells are compared: how many more parameters, or records, does one need for the same loss? `scripts/fit_scaling.py`
does all of this from the command line, and `docs/scaling.md` explains every quantity.

Modules, in the order in which to read them:

- `study`: `analyse`, which fits all cells of a run table, and `Study`, which holds their laws.
- `contrasts`: `contrast`, which compares pairs of cells, and losses in and out of distribution.
- `report`: `write_report`, which writes report.md, report.json, card_section.md and the figures.
- `tables`: the Markdown tables of the report.
- `comparison_numbers`: the comparisons as values for report.json.
- `figures`: the files of the figures, drawn by `plots` (laws) and `comparison_plots` (comparisons).

Example:
    A transformer whose loss falls with N as that of a ResNet, but which needs 1.5^(1/0.3) = 3.9 times its parameters.

    >>> from ecg_hf.scaling.report.contrasts import contrast
    >>> from ecg_hf.scaling.report.study import analyse
    >>> from ecg_hf.scaling.table.run_table import RunTable
    >>> run = {"paradigm": "ssl", "objective": "masked", "eval_id": "test", "eval_group": "id", "metric": "loss"}
    >>> table = RunTable.from_rows(
    ...     run | {"run_id": f"{family}-{n}-{d}", "family": family, "n_params": n, "n_unique": d}
    ...     | {"value": 0.3 + factor * n**-0.3 + 3 * d**-0.3}
    ...     for family, factor in (("resnet", 2), ("transformer", 3))
    ...     for n in (20_000, 60_000, 200_000, 600_000, 2_000_000)
    ...     for d in (500, 4000, 30_000)
    ... )
    >>> study = analyse(table, num_replicates=3)
    >>> [f"{law.name}: alpha {law.fit.params['alpha']:.2f}" for law in study.each()]
    ['resnet ssl masked: alpha 0.30', 'transformer ssl masked: alpha 0.30']
    >>> (pair,) = contrast(study).pairs
    >>> print(f"{pair.b.name} needs {pair.headline.value:.1f} times the parameters of {pair.a.name}")
    transformer ssl masked needs 3.9 times the parameters of resnet ssl masked
"""
