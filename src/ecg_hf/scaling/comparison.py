"""Everything that compares cells, evaluations or forms, under one roof; each number has a name of its own."""

from ecg_hf.scaling.bottleneck import Bottleneck, bottleneck
from ecg_hf.scaling.choice import Choice, Holdout, compare, holdout
from ecg_hf.scaling.crossing import Crossover, crossover
from ecg_hf.scaling.design import Plan, PlannedRun, plan
from ecg_hf.scaling.flops import FlopsModel
from ecg_hf.scaling.frontier import Frontier, frontier
from ecg_hf.scaling.intervals import Boot, Estimate, bootstrap
from ecg_hf.scaling.joint import JointMultiplier, joint_multiplier
from ecg_hf.scaling.ladder import GridMultiplier, grid_multiplier
from ecg_hf.scaling.loss_to_loss import Collapse, LossToLoss, collapse_test, fit_losses, relate
from ecg_hf.scaling.multipliers import (
    IsoLoss,
    compute_multiplier,
    exponent_ratio,
    iso_loss,
)
from ecg_hf.scaling.profiles import Profile, profile
from ecg_hf.scaling.transfer import (
    DEFINITIONS,
    effective_data_transferred,
    elasticity,
    iso_ood_data_multiplier,
    kappa,
    kappa_ratio,
)

__all__ = [
    "DEFINITIONS",
    "Boot",
    "Bottleneck",
    "Choice",
    "Collapse",
    "Crossover",
    "Estimate",
    "FlopsModel",
    "Frontier",
    "GridMultiplier",
    "Holdout",
    "IsoLoss",
    "JointMultiplier",
    "LossToLoss",
    "Plan",
    "PlannedRun",
    "Profile",
    "bootstrap",
    "bottleneck",
    "collapse_test",
    "compare",
    "compute_multiplier",
    "crossover",
    "effective_data_transferred",
    "elasticity",
    "exponent_ratio",
    "fit_losses",
    "frontier",
    "grid_multiplier",
    "holdout",
    "iso_loss",
    "iso_ood_data_multiplier",
    "joint_multiplier",
    "kappa",
    "kappa_ratio",
    "plan",
    "profile",
    "relate",
]
