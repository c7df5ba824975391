"""Scaling laws: from a table of runs to laws with intervals."""

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
