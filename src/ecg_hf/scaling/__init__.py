"""Scaling laws: from a table of runs to laws with intervals."""

from ecg_hf.scaling.comparison import bootstrap, compare, crossover, iso_loss, joint_multiplier, plan, profile
from ecg_hf.scaling.fitting import fit
from ecg_hf.scaling.laws import LAWS
from ecg_hf.scaling.result import Fit
from ecg_hf.scaling.runs import RunTable

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
