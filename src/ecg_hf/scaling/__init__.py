"""Scaling laws of ECG models: from a table of training runs to laws with intervals, and comparisons between them.

A scaling law states how the loss of a model falls with its number of parameters N and its number of training records
D. This package fits such laws to the runs of a study, measures how certain they are, and compares cells, which are
pairs of a backbone family and a training paradigm. A sweep trains the runs and writes them into a run table; the laws
of the table become a report with figures. Fits and comparisons use NumPy and SciPy only, and take any table of N, D
and losses, whichever software trained the models.

Folders, in the order in which to read them:

- `table`: the run table, one row per run and evaluation.
- `laws`: the forms of scaling law, `LAWS`.
- `fitting`: fits, bootstrap, profiles, and the choice between forms.
- `comparison`: factors between cells, crossovers, loss-to-loss laws, compute frontier, and the design of a study.
- `report`: the report of a study, with tables and figures.
- `sweep`: the training runs of a study, on this machine or on a cluster.

Example:
    >>> import numpy as np
    >>> from ecg_hf.scaling import bootstrap, fit
    >>> n = np.repeat([2e4, 2e5, 2e6, 2e7], 4)
    >>> d = np.tile([5e3, 2e4, 8e4, 3.2e5], 4)
    >>> noise = 1 + 0.01 * np.random.default_rng(0).normal(size=16)
    >>> law = fit({"N": n, "D": d, "loss": (0.05 + 3 * n**-0.25 + 4 * d**-0.30) * noise}, form="chinchilla")
    >>> print(bootstrap(law, num_replicates=50).estimate("alpha"))  # the true value is 0.25
    alpha: 0.236 (95 % 0.221 to 0.254)
    >>> law.predict({"N": [2e7, 2e8], "D": 1e6}).round(2)
    array([0.16, 0.13])
"""

from ecg_hf.scaling.comparison.crossing import crossover
from ecg_hf.scaling.comparison.design import plan
from ecg_hf.scaling.comparison.joint import joint_multiplier
from ecg_hf.scaling.comparison.multipliers import iso_loss
from ecg_hf.scaling.fitting.choice import compare
from ecg_hf.scaling.fitting.fit import fit
from ecg_hf.scaling.fitting.intervals import bootstrap
from ecg_hf.scaling.fitting.profiles import profile
from ecg_hf.scaling.fitting.result import Fit
from ecg_hf.scaling.laws.names import LAWS
from ecg_hf.scaling.table.run_table import RunTable

__all__ = [
    "LAWS",
    "Fit",
    "RunTable",
    "bootstrap",
    "compare",
    "crossover",
    "fit",
    "iso_loss",
    "joint_multiplier",
    "plan",
    "profile",
]
